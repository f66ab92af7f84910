"""`oscar_paddle` and PaddleNLP work in one process, from anywhere; see pyproject.toml.

PaddleNLP imports the Hugging Face package `datasets`, a folder name of ours. What breaks this: a
`datasets/__init__.py`, or a module that imports our folders as top-level names.
"""

import ast
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import everyday
import pytest
import starting

ROOT = Path(__file__).parents[1]
OURS = ("config", "datasets", "models", "solvers", "tools")

BOTH_WAYS = {
    "ours first": "from oscar_paddle.datasets import tokenization, token_cache, tensorize\nimport paddlenlp\n",
    "theirs first": "import paddlenlp\nfrom oscar_paddle.datasets import tokenization, token_cache, tensorize\n",
}
# PaddleNLP imports lazily: take what we use of it, and check whose `datasets` it met.
CHECK = """
from pathlib import Path
import datasets
assert hasattr(datasets, "load_dataset"), datasets
assert Path(tokenization.__file__).parents[1] == Path({root!r}), tokenization
from paddlenlp.transformers import BertTokenizer
assert BertTokenizer.from_pretrained
"""


def run(arguments, folder):
    done = starting.run(arguments, cwd=folder, env=starting.environment(PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stdout + done.stderr


needs_paddlenlp = pytest.mark.skipif(not find_spec("paddlenlp"), reason="PaddleNLP is not installed (Python 3.13?)")


@needs_paddlenlp
@pytest.mark.slow
@pytest.mark.parametrize(("order", "elsewhere"), [("ours first", False), ("theirs first", True)])
def test_from_any_folder(order, elsewhere, tmp_path):
    run(["-c", BOTH_WAYS[order] + CHECK.format(root=str(ROOT))], tmp_path if elsewhere else ROOT)


@needs_paddlenlp
@pytest.mark.slow
def test_under_pytest(tmp_path):
    lines = (BOTH_WAYS["ours first"] + CHECK.format(root=str(ROOT))).splitlines()
    case = tmp_path / "test_imports.py"
    case.write_text("def test_imports():\n" + "".join(f"    {line}\n" for line in lines))
    # "python -m" puts the working folder, here the repository root, on the path as well.
    run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(case)], ROOT)


def test_training_evaluation_and_scoring_need_no_paddlenlp(tmp_path):
    done = starting.run([everyday.__file__, "paddlenlp"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("trained, evaluated (rsum ")


def sources():
    return [path for folder in (*OURS, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path):
    """Top-level names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_one_file_imports_paddlenlp():
    users = [path.relative_to(ROOT).as_posix() for path in sources() if "paddlenlp" in imported(path)]
    assert [name for name in users if not name.startswith("tests/")] == ["datasets/tokenization.py"]


def test_dependencies_are_what_is_imported():
    """Everything that the code imports comes with it, but for what an extra brings; and has a lowest version."""
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = {re.match("[a-z0-9_-]+", need)[0]: need for need in project["dependencies"]}
    names = {"yaml": "pyyaml", "PIL": "pillow", "markupsafe": "jinja2"}
    found = {name for path in sources() if "tests" not in path.parts for name in imported(path)}
    others = found - sys.stdlib_module_names - {"oscar_paddle"}
    optional = {"paddle", "paddlenlp", "visualdl", "eccv_caption"}
    assert {names.get(name, name) for name in others - optional} == set(listed)
    extras = [need for needs in project["optional-dependencies"].values() for need in needs]
    assert all(re.search("[=<]", need.split(";")[0]) for need in [*listed.values(), *extras])


def test_nothing_imports_our_folders_as_top_level_names():
    wrong = {path.relative_to(ROOT).as_posix(): set(OURS) & set(imported(path)) for path in sources()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_our_datasets_folder_is_not_a_package_of_its_own():
    assert not (ROOT / "datasets" / "__init__.py").exists()
