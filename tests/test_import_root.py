"""`oscar_paddle` and PaddleNLP work in one process, from anywhere; see pyproject.toml.

PaddleNLP imports the Hugging Face package `datasets`, a folder name of ours. What breaks this: a
`datasets/__init__.py`, or a module that imports our folders as top-level names.
"""

import ast
from pathlib import Path

import pytest
import starting
import tomllib

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
assert tokenization._paddlenlp().BertTokenizer
"""


def run(arguments, folder):
    done = starting.run(arguments, cwd=folder, env=starting.environment(PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("order", "elsewhere"), [("ours first", False), ("theirs first", True)])
def test_from_any_folder(order, elsewhere, tmp_path):
    run(["-c", BOTH_WAYS[order] + CHECK.format(root=str(ROOT))], tmp_path if elsewhere else ROOT)


@pytest.mark.slow
def test_under_pytest(tmp_path):
    lines = (BOTH_WAYS["ours first"] + CHECK.format(root=str(ROOT))).splitlines()
    case = tmp_path / "test_imports.py"
    case.write_text("def test_imports():\n" + "".join(f"    {line}\n" for line in lines))
    # "python -m" puts the working folder, here the repository root, on the path as well.
    run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(case)], ROOT)


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
    assert users == ["datasets/tokenization.py"]


def test_nothing_imports_our_folders_as_top_level_names():
    wrong = {path.relative_to(ROOT).as_posix(): set(OURS) & set(imported(path)) for path in sources()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_our_datasets_folder_is_not_a_package_of_its_own():
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_every_room_is_installed():
    """A room that is not listed is missing from a wheel, and nothing else would notice."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    rooms = {path.parent.relative_to(ROOT) for folder in OURS for path in (ROOT / folder).rglob("*.py")}
    assert sorted(listed) == sorted(["oscar_paddle", *(".".join(["oscar_paddle", *room.parts]) for room in rooms)])
