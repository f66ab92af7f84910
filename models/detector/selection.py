"""Which proposals become detections, of which class: the three rules of the reference, in NumPy.

Shape letters: n proposals, C classes, class 0 the background.
"""

from typing import NamedTuple

import numpy as np

from oscar_paddle.models.detector.boxes import overlaps


class SelectionRules(NamedTuple):
    """How many detections are left, and of what.

    Attributes:
        filter: 0 (per class, threshold first), 1 (each proposal's best class among those where it survives) or 2 (each
            proposal's best class, one suppression for all); see docs/reference.md, selecting detections.
        threshold: lowest score of a detection, where there are enough of them.
        fewest, most: bounds of their number.
        overlap: of filters 0 and 2; filter 1's is `FILTER_1_OVERLAP`.
    """

    filter: int = 1
    threshold: float = 0.2
    fewest: int = 10
    most: int = 100
    overlap: float = 0.5


FILTER_1_OVERLAP = 0.3  # Upstream: hard-coded, whatever the settings say


class Detections(NamedTuple):
    """boxes [k, 4] float32, scores [k] float32, labels [k] int64 (class), proposals [k] int64 (which one each is)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    proposals: np.ndarray


def select(boxes, probabilities, rules):
    """Detections of one picture.

    Args:
        boxes: [n, 4] float32, the same for all classes, or [n, C, 4] with box regression.
        probabilities: [n, C] float32.
        rules: SelectionRules.
    """
    per_class = boxes if boxes.ndim == 3 else np.broadcast_to(boxes[:, None], (*probabilities.shape, 4))
    return (_per_class, _best_surviving, _class_blind)[rules.filter](per_class, probabilities, rules)


def _best_surviving(boxes, probabilities, rules):
    """Filter 1: suppression within every class, without a threshold; a proposal's class is the best it survives in."""
    survives = np.zeros(probabilities.shape, bool)
    survives[:, 1:] = survivors(boxes[:, 1:], probabilities[:, 1:], FILTER_1_OVERLAP)
    won = np.where(survives, probabilities, 0)
    labels, scores = won.argmax(axis=1), won.max(axis=1)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    order = order[: _how_many(scores, rules)]
    return Detections(boxes[order, labels[order]], scores[order], labels[order], order)


def _class_blind(boxes, probabilities, rules):
    """Filter 2: a proposal's best class, then one suppression over all."""
    labels = probabilities[:, 1:].argmax(axis=1) + 1
    scores = probabilities[np.arange(len(labels)), labels]
    mean = boxes.mean(axis=1, dtype=np.float32) if boxes.strides[1] else boxes[:, 0]
    candidates = np.flatnonzero(scores > np.float32(0.01 * rules.threshold))
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept = survivors(mean[order][:, None], scores[order][:, None], rules.overlap)[:, 0]
    order = order[kept]
    order = order[: _how_many(scores[order], rules)]
    # Upstream: with regression the list of proposals x classes is asked for the number of a proposal.
    chosen = boxes.reshape(-1, 4)[order] if boxes.strides[1] else boxes[order, 0]
    return Detections(chosen, scores[order], labels[order], order)


def _per_class(boxes, probabilities, rules):
    """Filter 0: threshold and suppression within every class; the threshold is halved until there are enough."""
    threshold = rules.threshold
    for _ in range(11):
        found = _above(boxes, probabilities, threshold, rules)
        if len(found.scores) >= rules.fewest:
            break
        threshold /= 2
    return found


def _above(boxes, probabilities, threshold, rules):
    parts = []
    for label in range(1, probabilities.shape[1]):
        candidates = np.flatnonzero(probabilities[:, label] > np.float32(threshold))
        if not len(candidates):
            continue
        scores = probabilities[candidates, label]
        candidates = candidates[np.argsort(-scores, kind="stable")]
        scores = probabilities[candidates, label]
        kept = survivors(boxes[candidates, label][:, None], scores[:, None], rules.overlap)[:, 0]
        parts.append((candidates[kept], label))
    proposals = np.concatenate([part for part, _ in parts]) if parts else np.zeros(0, np.int64)
    labels = np.concatenate([np.full(len(part), label) for part, label in parts]) if parts else np.zeros(0, np.int64)
    scores = probabilities[proposals, labels]
    if len(scores) > rules.most:  # Upstream: all that are as good as the last one that has room
        kept = scores >= np.sort(scores)[-rules.most]
        proposals, labels, scores = proposals[kept], labels[kept], scores[kept]
    return Detections(boxes[proposals, labels], scores, labels, proposals)


def _how_many(scores, rules):
    return min(max(int((scores >= np.float32(rules.threshold)).sum()), rules.fewest), rules.most)


def survivors(boxes, scores, overlap):
    """Greedy suppression within every class at once.

    Args:
        boxes: [n, C, 4] float32; where all classes share them (a broadcast array), overlaps are computed once.
        scores: [n, C] float32.
        overlap: a box goes whose intersection over union with a better one that stays is larger.
    Returns:
        bool [n, C].
    """
    n, classes = scores.shape
    order = np.argsort(-scores, axis=0, kind="stable")  # [n, C]: the box of each rank
    shared = boxes.strides[1] == 0 or classes == 1
    hit = overlaps(boxes[:, 0], boxes[:, 0]) > np.float32(overlap) if shared else None
    alive, kept, column = np.ones((classes, n), bool), np.zeros((classes, n), bool), np.arange(classes)
    for rank in range(n):
        best = order[rank]
        stays = alive[column, best]
        kept[column, best] = stays
        if shared:
            alive &= ~(hit[best] & stays[:, None])
        else:
            for c in np.flatnonzero(stays):
                alive[c] &= ~(overlaps(boxes[best[c], c][None], boxes[:, c])[0] > np.float32(overlap))
    return kept.T
