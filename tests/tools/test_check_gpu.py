"""The check of a card, with a CPU in its place: the tool finds nothing there, and what is told to be wrong it finds."""

import json
import math

import numpy as np
import pytest
from starting import run

from oscar_paddle.config.errors import UserError
from oscar_paddle.tools import check_gpu
from oscar_paddle.tools.check_gpu import Check, report, tried

SMALL = ["--device", "cpu", "--layers", "1", "--width", "64", "--pairs", "2", "--batches", "1,2", "--ranks", "2"]
# What the issue on GPUs asks for, and its bounds.
BOUNDS = {
    "margins, float32": 1e-4,
    "margins, bfloat16": 0.02,
    "margins, float16": 0.02,
    "fused against plain, float32": 0.02,
    "loss": 1e-3,
    "every gradient": 1e-3,
    "gradients with recompute": 1e-3,
    "weights after three updates": 1e-6,
    "beta powers": 0,
    "20 steps in bf16": 0,
    "20 steps in fp16": 0,
    "overflow halves the scale": 0,
    "overflow leaves the weights": 0,
    "saved on the card, read on the CPU": 1e-4,
    "resumed against unbroken": None,
    "gathering unequal objects": 0,
    "gradients of two halves": 1e-3,
    "a failing rank ends the job": 30,
}


def test_a_cpu_against_itself(tmp_path):
    page = tmp_path / "page.html"
    done = run(["tools/check_gpu.py", *SMALL, "--output", page])
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == [] and all(check["passed"] for check in found["checks"])
    bounds = {check["name"]: check["bound"] for check in found["checks"]}
    assert BOUNDS.items() <= bounds.items() and {"ties, bfloat16", "mask, float32"} <= bounds.keys()
    assert [(row["batch"], row["precision"]) for row in found["speeds"]][:3] == [
        (1, "float32"),
        (1, "bfloat16"),
        (1, "float16"),
    ]
    assert "switched off" in found["facts"]["TF32"] and found["facts"]["device"].startswith("cpu")
    text = page.read_text()
    assert "All checks passed." in text and "every gradient" in text and "trained pairs/s" in text


class Answers:
    """A side that answers from a table: {question: answer}."""

    def __init__(self, **answers):
        self.answers = {"has": True, **answers}

    def ask(self, what, *arguments):
        answer = self.answers[what]
        return answer(*arguments) if callable(answer) else answer


def failures(compare, *sides):
    return [check.name for check in tried(compare, *sides) if not check.passed]


MARGINS = np.linspace(-1, 1, 1000, dtype=np.float32)


@pytest.mark.parametrize(
    ("wrong", "failed"),
    [
        (lambda precision="float32": MARGINS + 2e-4 * (precision == "float32"), ["margins, float32"]),
        (lambda precision="float32": MARGINS * (1 + 0.03 * (precision == "float16")), ["margins, float16"]),
        (lambda precision="float32": MARGINS if precision != "bfloat16" else MARGINS.round(2), ["ties, bfloat16"]),
        (lambda precision="float32": MARGINS * np.nan, ["margins, float32"]),
    ],
)
def test_wrong_margins(wrong, failed):
    found = failures(check_gpu.margins, Answers(margins=wrong), Answers(margins=MARGINS))
    assert found[: len(failed)] == failed


@pytest.mark.parametrize(
    ("fused", "unmasked", "failed"),
    [
        (MARGINS, MARGINS + 0.1, []),
        (MARGINS + 0.1, MARGINS + 0.1, ["fused against plain, float32", "mask, float32"]),
        (MARGINS + 0.01, MARGINS + 0.01, ["mask, float32"]),
    ],
)
def test_wrong_fused_attention(fused, unmasked, failed):
    def margins(precision, use=False, masked=True):
        return (fused if masked else unmasked) if use else MARGINS

    card = Answers(facts={"device": "cpu"}, attention=(True, {93: "math"}), margins=margins)
    assert failures(check_gpu.fused_attention, card, None) == failed


def test_an_overflow_that_moves_the_weights():
    card = Answers(steps=lambda amp: ([1.0, math.nan if amp == "bf16" else 0.5], (8.0, 8.0, True)))
    assert set(failures(check_gpu.mixed_precision, card, None)) == {
        "20 steps in bf16",
        "overflow halves the scale",
        "overflow leaves the weights",
    }


def test_what_cannot_be_computed_is_a_failed_check():
    assert failures(check_gpu.margins, None, Answers(margins=lambda: 1 / 0)) == ["margins"]


def test_a_passed_bound_ends_with_1(tmp_path, capsys):
    checks = [Check("a", 0.1, 0.2), Check("b", math.inf, 0.2), Check("c", 3.0, None)]
    with pytest.raises(UserError, match="1 of 3 checks failed: b; see .*page.html") as error:
        report({"device": "cpu"}, checks, [{"batch": 1}], tmp_path / "page.html")
    assert error.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["failed"] == ["b"]
    assert "1 of 3 checks failed: b" in (tmp_path / "page.html").read_text()
