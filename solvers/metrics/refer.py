"""Accuracy on referring expressions: NumPy in, dict out.

Shape letters: N expressions, R columns.
"""

import numpy as np

LENGTHS = ((1, "1 word"), (2, "2 words"), (3, "3 words"), (5, "4-5 words"), (8, "6-8 words"), (None, "9 or more words"))
OBJECTS = ((1, "1 object"), (2, "2 objects"), (3, "3 objects"), (None, "4 or more objects"))
HIT = 0.5  # an answer counts if its box overlaps more than so, as IoU


def refer_metrics(scores, overlaps, words, alike, largest):
    """What a split's scores are worth.

    Args:
        scores: [N, R] float32, logits; -inf where there is no region.
        overlaps: [N, R] float32, IoU of each region with the expression's object, 0 where there is none.
        words: [N] int, words of each expression. alike: [N] int, objects of the same class in its image.
        largest: [N] int, the column of the largest proposal.
    Returns:
        dict: accuracy; oracle_accuracy, what the best region would reach; largest_box, what always the largest one
        reaches; mean_iou of the answers; loss, mean over expressions of the sum over regions, with the overlaps as soft
        targets; by_length and by_alike: {group: {"accuracy", "oracle_accuracy", "expressions"}}; num_expressions.
    Source: docs/reference.md, referring expressions: strictly more than one half.
    """
    rows = np.arange(len(scores))
    found = overlaps[rows, np.argmax(scores, axis=1)]
    right, reachable = found > HIT, overlaps.max(axis=1) > HIT
    return {
        "accuracy": float(right.mean()),
        "oracle_accuracy": float(reachable.mean()),
        "largest_box": float((overlaps[rows, largest] > HIT).mean()),
        "mean_iou": float(found.mean(dtype=np.float64)),
        "loss": float(expression_losses(scores, overlaps).mean()),
        "by_length": _by(words, LENGTHS, right, reachable),
        "by_alike": _by(alike, OBJECTS, right, reachable),
        "num_expressions": len(scores),
    }


def expression_losses(scores, targets):
    """[N] float64: binary cross entropy of logits [N, R] with targets [N, R], summed over the regions that there are
    (logits of the others are -inf, their targets 0)."""
    there = np.isfinite(scores)
    logits = np.where(there, scores, 0).astype(np.float64)
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return np.where(there, losses, 0).sum(axis=1)


def _by(values, groups, right, reachable):
    """Accuracy by a number: groups are (largest number, name), None for no bound."""
    found, low = {}, 0
    for high, name in groups:
        inside = (values > low) & (values <= high) if high else values > low
        if inside.any():
            shares = {"accuracy": float(right[inside].mean()), "oracle_accuracy": float(reachable[inside].mean())}
            found[name] = {**shares, "expressions": int(inside.sum())}
        low = high
    return found
