"""Tools as a person starts them: in this process, which is quick, or as processes of their own."""

import runpy
import sys
from pathlib import Path
from unittest import mock

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def words_of(settings):
    """{key: value} -> the words behind --opts."""
    return [str(word) for item in settings.items() for word in item]


def in_process(tool, *words):
    """Run tools/<tool>.py in this process; its exit code. Messages go to the stderr of this process."""
    with mock.patch.object(sys, "argv", [f"tools/{tool}.py", *map(str, words)]):
        try:
            runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
        except SystemExit as stop:
            return stop.code or 0
    return 0
