"""What tests of the tools share."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run(repository):
    """Function: words of a command behind `python` (and a launcher's before them) -> the finished process."""

    def run(words, launcher=()):
        return subprocess.run(
            [sys.executable, *launcher, *words],
            cwd=repository,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
