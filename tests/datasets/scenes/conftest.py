"""What tests of scenes share: the perfect reader."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def oracle():
    """oracle.py beside this file, as a module."""
    spec = importlib.util.spec_from_file_location("scenes_oracle", Path(__file__).with_name("oracle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
