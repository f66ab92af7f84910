"""What a process sets up before it computes, seen from outside."""

import os
import subprocess
import sys

import pytest

from oscar_paddle.solvers import machine

STARTS = """
import sys
from oscar_paddle.solvers import machine
print(machine.prepare(2))
import paddle
print("a line of our own", file=sys.stderr)
"""


def test_paddle_loads_without_its_standing_remarks():
    """On several threads it says four lines that nobody can act on; nothing else is kept back."""
    done = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True, check=True)
    assert done.stderr == "a line of our own\n"
    assert done.stdout.startswith("2 CPU threads, ")


@pytest.mark.parametrize(
    ("variables", "num_threads", "expected"),
    [
        ({}, 0, 6),
        ({"OMP_NUM_THREADS": "1"}, 0, 1),
        ({"PADDLE_TRAINERS_NUM": "1", "OMP_NUM_THREADS": "1"}, 0, 6),  # what a worker finds
        ({"PADDLE_TRAINERS_NUM": "6", "PADDLE_LOCAL_SIZE": "2", "OMP_NUM_THREADS": "1"}, 0, 3),
        ({"PADDLE_TRAINERS_NUM": "2", "OMP_NUM_THREADS": "4"}, 0, 4),
        ({"PADDLE_TRAINERS_NUM": "2", "OMP_NUM_THREADS": "1"}, 1, 1),
    ],
)
def test_threads(monkeypatch, variables, num_threads, expected):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PADDLE_TRAINERS_NUM", "PADDLE_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "available_cores", lambda: 6)
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert machine.prepare(num_threads).startswith(f"{expected} CPU threads")
    found = os.environ.pop("OMP_NUM_THREADS"), os.environ.pop("MKL_NUM_THREADS")
    assert found == (str(expected), str(expected))
