"""What tests of the checker share."""

import pytest
from checked import Data


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)
