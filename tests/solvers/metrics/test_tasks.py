"""Metrics and result files of VQA, GQA and NLVR2, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.accuracy import accuracy
from oscar_paddle.solvers.metrics.nlvr2 import nlvr2_metrics
from oscar_paddle.solvers.metrics.vqa import vqa_metrics
from oscar_paddle.solvers.tasks.gqa import gqa_results
from oscar_paddle.solvers.tasks.vqa import vqa_results


def test_soft_score_by_hand():
    answers = [{3: 0.3, 5: 1.0}, {2: 0.9}, {1: 0.6}, {0: 1.0}]
    metrics = vqa_metrics([3, 2, 7, 0], answers)  # 0.3, 0.9, none of the answers, 1.0
    assert metrics["score"] == pytest.approx(0.55) and metrics["num_examples"] == 4
    # Deviations -0.25, 0.35, -0.55, 0.45; their squares have the mean 0.1725.
    assert metrics["score_standard_error"] == pytest.approx((0.1725 / 4) ** 0.5)


def test_accuracy_by_hand():
    metrics = accuracy([1, 0, 2, 2], np.array([1, 1, 2, 0]))
    assert metrics == {"accuracy": 0.5, "accuracy_standard_error": 0.25, "num_examples": 4}


def test_consistency_by_hand():
    """Sentence a: both pairs right; b: one of two; c: its only one right."""
    metrics = nlvr2_metrics([1, 0, 1, 1, 0], [1, 0, 1, 0, 0], ["a", "a", "b", "b", "c"])
    assert metrics["accuracy"] == 0.8 and metrics["consistency"] == pytest.approx(2 / 3)
    assert metrics["num_sentences"] == 3


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_consistency_is_brute_force(rows):
    predicted, labels, sentences = (list(column) for column in zip(*rows, strict=True))
    right = {s: all(p == y for p, y, t in rows if t == s) for s in set(sentences)}
    metrics = nlvr2_metrics(predicted, labels, sentences)
    assert metrics["consistency"] == pytest.approx(sum(right.values()) / len(right))
    assert metrics["accuracy"] == pytest.approx(sum(p == y for p, y, _ in rows) / len(rows))


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy([], []),
        lambda: accuracy([1], [1, 2]),
        lambda: vqa_metrics([1], []),
        lambda: vqa_metrics([], []),
        lambda: nlvr2_metrics([1], [1, 0], ["a"]),
    ],
)
def test_numbers_that_do_not_fit_are_refused(call):
    with pytest.raises(DataError, match="expected one"):
        call()


def test_vqa_results():
    assert vqa_results(["262144000", "007"], ["yes", "2"]) == [
        {"question_id": 262144000, "answer": "yes"},
        {"question_id": 7, "answer": "2"},
    ]
    with pytest.raises(DataError, match="question 007 is there twice"):
        vqa_results(["7", "007"], ["yes", "no"])
    with pytest.raises(DataError, match="question '7': the answer is None; expected an id and a text"):
        vqa_results(["7"], [None])


def test_gqa_results():
    assert gqa_results(["07"], ["yes"]) == [{"questionId": "07", "prediction": "yes"}]
    with pytest.raises(DataError, match="question 07 is there twice"):
        gqa_results(["07", "07"], ["yes", "no"])
    with pytest.raises(DataError, match="question '': the answer is 'yes'; expected an id and a text"):
        gqa_results([""], ["yes"])
