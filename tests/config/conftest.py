"""Shared by the tests of the configuration."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Writes a file below the test's folder and returns its path: write(text, name="exp.yaml")."""

    def write(text, name="exp.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
