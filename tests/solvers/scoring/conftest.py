"""A tiny model and made-up pairs, for tests that have none of their own."""

import pytest
from tiny import LENGTHS, SCORED, tiny_model

from oscar_paddle.tools.bench.made_up import made_up_data


@pytest.fixture(scope="module")
def model():
    return tiny_model(**SCORED)


@pytest.fixture
def data(tmp_path):
    return made_up_data(tmp_path, 6, 18, LENGTHS)
