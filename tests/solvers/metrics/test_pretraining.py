"""Figures on a held-out corpus, worked by hand."""

import numpy as np
import pytest

from oscar_paddle.solvers.metrics.pretraining import pretraining_metrics


def test_means_are_over_words_and_rows_and_ties_do_not_count_as_found():
    results = np.array(
        [  # masked loss, words, right, contrast loss, right; scores of the own caption and of two others
            [6.0, 3, 2, 0.2, 1, -0.1, -2.0, -3.0],
            [0.0, 0, 0, 0.4, 1, -0.1, -0.1, -3.0],
            [2.0, 1, 0, 0.6, 0, -0.5, -0.1, -0.7],
            [4.0, 2, 2, 0.8, 1, -0.2, -0.3, -0.4],
        ],
        np.float32,
    )
    found = pretraining_metrics(results)
    assert found["num_examples"] == 4 and found["num_masked_words"] == 6
    assert found["losses"] == pytest.approx({"masked words": 2.0, "contrast": 0.5})
    assert found["loss"] == pytest.approx(2.5)
    assert found["masked_accuracy"] == pytest.approx(4 / 6) and found["contrast_accuracy"] == 0.75
    assert found["matching_R@1"] == 0.5
    assert set(found["curves"]) == {"masked accuracy", "contrast accuracy", "matching R@1"}


def test_nothing_masked_and_no_captions_to_match():
    found = pretraining_metrics(np.array([[0, 0, 0, 0.25, 1]], np.float32))
    assert found["loss"] == 0.25 and found["masked_accuracy"] == 0 and "matching_R@1" not in found["curves"]
