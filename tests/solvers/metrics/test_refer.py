"""Accuracy on referring expressions, by hand and by brute force."""

import math

import numpy as np
import pytest

from oscar_paddle.solvers.metrics.refer import expression_losses, refer_metrics

NONE = -np.inf


def test_by_hand():
    scores = np.array([[0, 2, 1], [3, 1, NONE], [0, 1, 1], [1, 0, NONE]], np.float32)
    overlaps = np.array([[0, 0.6, 0.9], [0.5, 0.8, 0], [0, 0.7, 0.2], [0, 0.4, 0]], np.float32)
    found = refer_metrics(scores, overlaps, np.array([1, 2, 9, 4]), np.array([1, 2, 2, 7]), np.array([2, 1, 2, 1]))
    assert found["accuracy"] == 0.5  # one half exactly is no hit; of equal scores the first row counts
    assert found["oracle_accuracy"] == 0.75 and found["largest_box"] == 0.5 and found["num_expressions"] == 4
    assert found["mean_iou"] == pytest.approx((0.6 + 0.5 + 0.7 + 0) / 4)
    lengths = {name: (each["accuracy"], each["expressions"]) for name, each in found["by_length"].items()}
    assert lengths == {"1 word": (1, 1), "2 words": (0, 1), "4-5 words": (0, 1), "9 or more words": (1, 1)}
    alike = {name: (each["accuracy"], each["oracle_accuracy"]) for name, each in found["by_alike"].items()}
    assert alike == {"1 object": (1, 1), "2 objects": (0.5, 1), "4 or more objects": (0, 0)}


def test_losses_are_sums_over_the_regions_that_there_are():
    rng = np.random.RandomState(0)
    scores, targets = rng.randn(5, 7).astype(np.float32) * 8, rng.rand(5, 7).astype(np.float32)
    scores[2, 4:], targets[2, 4:] = NONE, 0
    for row, found in enumerate(expression_losses(scores, targets)):
        wanted = 0.0
        for logit, target in zip(scores[row].tolist(), targets[row].tolist(), strict=True):
            if logit != NONE:
                p = 1 / (1 + math.exp(-logit))
                wanted -= target * math.log(p) + (1 - target) * math.log(1 - p)
        assert found == pytest.approx(wanted, rel=1e-9)
