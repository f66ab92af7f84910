"""What a process sets up before it computes, seen from outside."""

import subprocess
import sys

STARTS = """
import sys
from oscar_paddle.config import machine
print(machine.prepare(2))
import paddle
print("a line of our own", file=sys.stderr)
"""


def test_paddle_loads_without_its_standing_remarks():
    """On several threads it says four lines that nobody can act on; nothing else is kept back."""
    done = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True, check=True)
    assert done.stderr == "a line of our own\n"
    assert done.stdout.startswith("2 CPU threads, ")
