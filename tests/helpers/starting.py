"""Tools as a person starts them: in this process, which is quick, or as processes of their own."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).resolve().parents[2]


def environment(**variables):
    """What processes start with: one thread each, and the maths path of this process, see tests/conftest.py."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **variables}


def words_of(settings):
    """{key: value} -> the words behind --opts."""
    return [str(word) for item in settings.items() for word in item]


def launcher(processes, log_dir):
    """The words before a tool's that make several ranks of it."""
    return "-m", "paddle.distributed.launch", "--nproc_per_node", processes, "--log_dir", log_dir


def start(words, before=(), cwd=REPOSITORY, **how):
    """Begin `python <before> <words>`; a Popen. `how` goes to it."""
    command = [sys.executable, *map(str, [*before, *words])]
    return subprocess.Popen(command, cwd=cwd, env=how.pop("env", environment()), text=True, **how)


def run(words, before=(), cwd=REPOSITORY, seconds=300, env=None):
    """The same to its end: a finished process with `returncode`, `stdout` and `stderr`."""
    command = [sys.executable, *map(str, [*before, *words])]
    return subprocess.run(command, cwd=cwd, env=env or environment(), text=True, capture_output=True, timeout=seconds)


def in_process(tool, *words):
    """Run tools/<tool>.py in this process; its exit code. It writes to the stdout and stderr of this process."""
    with mock.patch.object(sys, "argv", [f"tools/{tool}.py", *map(str, words)]):
        try:
            runpy.run_path(str(REPOSITORY / "tools" / f"{tool}.py"), run_name="__main__")
        except SystemExit as stop:
            return stop.code or 0
    return 0


def said_in_process(capfd, tool, *words):
    """The same with what it says: (exit code, stdout, stderr); `capfd` is pytest's."""
    capfd.readouterr()
    return in_process(tool, *words), *capfd.readouterr()
