"""`import oscar_paddle; oscar_paddle.score(...)`: from any folder, in an editable and in a plain installation."""

import re
import zipfile
from email import message_from_string

import numpy as np
import pytest
import starting
from wheels import ROOMS, copy_source

import oscar_paddle
from oscar_paddle.config import errors
from oscar_paddle.datasets.regions.vinvl import RegionFeatures

IMPORTS = """
import sys
import oscar_paddle
heavy = [name for name in ("paddle", "paddlenlp", "numpy", "yaml") if name in sys.modules]
assert not heavy, heavy
assert set(oscar_paddle.__all__) <= set(dir(oscar_paddle))
assert not hasattr(oscar_paddle, "scores")
import oscar_paddle.datasets.formats.torch_files, oscar_paddle.solvers.metrics.retrieval
assert oscar_paddle.__file__ == {file!r}, oscar_paddle.__file__
"""
PAGE = """
from oscar_paddle.tools.pages.page import render
assert "<h1>a page</h1>" in render("base.html", title="a page", sections=[], has_boxes=False)
"""
PACKAGED = """
from oscar_paddle.config.loader import load_config
assert load_config("configs/retrieval_test_5k.yaml").EVAL.EVAL_CROSS_IMAGE
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


def test_what_stands_at_the_top(golden):
    for name in ("UserError", "ConfigError", "DataError", "WeightsError", "TrainingError"):
        assert getattr(oscar_paddle, name) is getattr(errors, name)
    model = oscar_paddle.load(golden / "checkpoint")
    assert not model.training and model.config.num_hidden_layers == len(model.bert.encoder.layer)
    with pytest.raises(oscar_paddle.WeightsError, match="no such checkpoint folder"):
        oscar_paddle.load("no/such")
    scorer = oscar_paddle.ImageScorer(golden / "checkpoint")
    picture = np.ones((2, 2054), np.float32)
    assert oscar_paddle.score(scorer, picture, "a dog") == oscar_paddle.score(golden / "checkpoint", picture, "a dog")


def test_the_change_log_begins_with_this_version(repository):
    headings = re.findall("^## (.*)$", (repository / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == oscar_paddle.__version__


def test_without_paddle_the_api_says_which_extra(tmp_path):
    program = """
import sys
sys.modules["paddle"] = None
import oscar_paddle
try:
    oscar_paddle.score
except oscar_paddle.UserError as error:
    print(error)
"""
    (line,) = run(program, tmp_path)
    assert line.startswith("Paddle is not installed: pip install 'oscar-paddle[cpu]', or for NVIDIA GPUs")


@pytest.mark.slow
def test_a_wheel(repository, tmp_path):
    """What is installed from it is whole, holds nothing else, and is found first."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    words = ["-q", "bdist_wheel", "--dist-dir", str(tmp_path)]
    run(f"from setuptools import setup; setup(script_args={words})", copy_source(source))
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"oscar_paddle-{oscar_paddle.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    info = site / f"oscar_paddle-{oscar_paddle.__version__}.dist-info"
    found = {
        path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file() and info not in path.parents
    }
    parts = [
        path.relative_to(repository).as_posix()
        for room in ROOMS
        for path in (repository / room).rglob("*")
        if path.is_file() and path.suffix != ".pyc"  # configs, templates of pages and the scenes' grammar, too
    ]
    assert found == {f"oscar_paddle/{name}" for name in [*parts, "__init__.py"]}

    about = message_from_string((info / "METADATA").read_text(encoding="utf-8"))
    needs = about.get_all("Requires-Dist")
    assert set(about.get_all("Provides-Extra")) >= {"cpu", "gpu", "vocab"}
    always = {re.match("[a-zA-Z0-9_-]+", need)[0] for need in needs if "extra ==" not in need}
    assert {"tokenizers", "numpy", "safetensors"} <= always
    assert not always & {"paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "huggingface_hub", "transformers"}
    assert "oscar-paddle = oscar_paddle.tools.shell.console:main" in (info / "entry_points.txt").read_text()

    program = IMPORTS.format(file=str(site / "oscar_paddle" / "__init__.py")) + PAGE + PACKAGED
    run(program, tmp_path, PYTHONPATH=str(site))
