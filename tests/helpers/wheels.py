"""The files that a wheel is made from."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("config", "configs", "datasets", "models", "solvers", "tools")


def copy_source(folder):
    """Copy what a wheel needs, and a folder that must not get into it: in place, setuptools would leave `build/`."""
    for room in (*ROOMS, "tests/config"):
        shutil.copytree(REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    return folder
