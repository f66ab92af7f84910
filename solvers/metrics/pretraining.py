"""Figures of pre-training on a corpus that is held out."""

import numpy as np

from oscar_paddle.solvers.scoring.triples import COLUMNS


def pretraining_metrics(results):
    """Losses and accuracies over all examples, and how often the own caption is found.

    Args:
        results: [E, 5 + K] float32: of each example the sums `COLUMNS`, and K scores of how well captions fit its
            image, its own one first. Equal scores count against it. K = 0: no such figure.
    Returns:
        dict: num_examples, num_masked_words; loss, the sum of both losses; {"losses": {name: mean}}; masked_accuracy,
        contrast_accuracy and matching_R@1, fractions; "curves": the same for curves.png. Without a masked word the
        loss and accuracy of masked words are 0.
    """
    results = np.asarray(results)
    sums = results[:, : len(COLUMNS)].sum(axis=0, dtype=np.float64)
    of = dict(zip(COLUMNS, sums.tolist(), strict=True))
    examples, words = len(results), max(1.0, of["masked_words"])
    losses = {"masked words": of["masked_loss"] / words, "contrast": of["contrast_loss"] / examples}
    found = {
        "masked_accuracy": of["masked_right"] / words,
        "contrast_accuracy": of["contrast_right"] / examples,
        **_matching(results[:, len(COLUMNS) :]),
    }
    return {
        "num_examples": examples,
        "num_masked_words": int(of["masked_words"]),
        "loss": sum(losses.values()),
        "losses": losses,
        **found,
        "curves": {name.replace("_", " "): value for name, value in found.items()},
    }


def _matching(scores):
    if not scores.shape[1]:
        return {}
    return {"matching_R@1": float(np.mean((scores[:, 1:] < scores[:, :1]).all(axis=1)))}
