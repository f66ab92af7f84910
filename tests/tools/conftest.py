"""What tests of the tools share."""

import pytest
import starting


@pytest.fixture
def run():
    """Function: words of a command behind `python` (and a launcher's before them) -> the finished process."""
    return starting.run
