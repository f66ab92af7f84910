"""`import oscar_paddle; oscar_paddle.score(...)`: from any folder, in an editable and in a plain installation."""

import shutil

import numpy as np
import pytest
import starting

from oscar_paddle.datasets.regions.vinvl import RegionFeatures

IMPORTS = """
import sys
import oscar_paddle
heavy = [name for name in ("paddle", "paddlenlp", "numpy") if name in sys.modules]
assert not heavy, heavy
assert dir(oscar_paddle).count("score") == 1
assert not hasattr(oscar_paddle, "scores")
import oscar_paddle.datasets.formats.torch_files, oscar_paddle.solvers.metrics.retrieval
assert oscar_paddle.__file__ == {file!r}, oscar_paddle.__file__
"""
PAGE = """
from oscar_paddle.tools.pages.page import render
assert "<h1>a page</h1>" in render("base.html", title="a page", sections=[], has_boxes=False)
"""
SCORES = """
for found in oscar_paddle.score({checkpoint!r}, {features!r}, ["a dog", "two cats"]):
    print(found.caption, found.probability)
"""


def run(program, folder, **variables):
    done = starting.run(["-c", program], cwd=folder, env=starting.environment(**variables))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def arguments(golden, tmp_path):
    regions = RegionFeatures(golden / "model_0060000" / "features.tsv")
    np.savez(tmp_path / "image.npz", features=regions[regions.ids[0]], tags="dog frisbee")
    return {"checkpoint": str(golden / "checkpoint"), "features": str(tmp_path / "image.npz")}


@pytest.mark.slow
def test_from_another_folder(arguments, repository, tmp_path):
    lines = run((IMPORTS + SCORES).format(file=str(repository / "__init__.py"), **arguments), tmp_path)
    assert [line.rsplit(" ", 1)[0] for line in lines] == ["a dog", "two cats"]
    assert all(0 < float(line.rsplit(" ", 1)[1]) < 1 for line in lines)


@pytest.mark.slow
def test_as_pip_install_lays_it_out(repository, tmp_path):
    """What is installed without -e is whole, holds nothing else, and is found first."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("config", "datasets", "models", "solvers", "tools", "tests/config"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(repository / name, source)
    run(f"from setuptools import setup; setup(script_args=['-q', 'build_py', '--build-lib', {str(site)!r}])", source)
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    parts = [
        path.relative_to(source).as_posix()
        for part in ("config", "datasets", "models", "solvers", "tools")
        for path in (source / part).rglob("*")
        if path.is_file()  # the templates of pages and the scenes' grammar, too
    ]
    assert found == sorted(f"oscar_paddle/{name}" for name in [*parts, "__init__.py"])
    program = IMPORTS.format(file=str(site / "oscar_paddle" / "__init__.py")) + PAGE
    run(program, tmp_path, PYTHONPATH=str(site))
