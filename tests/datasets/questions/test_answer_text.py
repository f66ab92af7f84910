"""Answers as the evaluation of VQA compares them, and what each is worth."""

from itertools import combinations

import pytest

from oscar_paddle.datasets.questions.answer_text import normalised, soft_scores


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("The two Dogs.", "2 dogs"),
        ("none", "0"),
        ("a", ""),
        ("yes, it is", "yes it is"),
        ("1,000", "1000"),
        ("black/white", "black white"),
        ("3.5 m.", "3.5 m"),
        ("U.S.", "us"),
        ("dont", "don't"),
        ("whats", "what's"),
        ("well", "well"),  # a word of its own stays
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        (" hot\ndog ", "hot dog"),
    ],
)
def test_normalised(answer, text):
    assert normalised(answer) == text
    assert normalised(text) == text


def test_scores_are_the_mean_over_nine_of_ten():
    """visualqa.org/evaluation.html: min(1, annotators who agree / 3), averaged over all sets of nine."""
    for count in range(1, 11):
        answers = ["yes"] * count + [f"other {n}" for n in range(10 - count)]
        sets = list(combinations(answers, 9))
        expected = sum(min(1, chosen.count("yes") / 3) for chosen in sets) / len(sets)
        assert soft_scores(answers)["yes"] == pytest.approx(expected, abs=1e-12)
    assert soft_scores(["Yes.", "yes", *"abcdefgh"]) == {"yes": 0.6, "": 0.3, **{c: 0.3 for c in "bcdefgh"}}
    assert soft_scores(["red"]) == {"red": 1.0} and soft_scores([]) == {}
