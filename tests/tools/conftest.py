"""What tests of the tools share."""

import shutil

import pytest
import starting


@pytest.fixture
def run():
    """Function: words of a command behind `python` (and a launcher's before them) -> the finished process."""
    return starting.run


@pytest.fixture
def folder(golden, tmp_path):
    """A copy of the golden set that a test may change or damage."""
    for part in ("checkpoint", "coco_ir", "model_0060000"):
        shutil.copytree(golden / part, tmp_path / part)
    return tmp_path
