"""The house stays in order: imports run one way, tasks stay in their rooms, and asking a task costs no Paddle."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("config", "datasets", "models", "solvers", "tools")  # each may import itself and what stands before it
TASKS = sorted(
    path.stem for path in (ROOT / "solvers" / "tasks").glob("*.py") if path.stem not in ("task", "questions")
)
FILES = {path: path.relative_to(ROOT).as_posix() for folder in ORDER for path in (ROOT / folder).rglob("*.py")}


def imports(path):
    """Modules below oscar_paddle that a file imports, wherever in the file, as lists of names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name.split(".")[1:] for name in names if name.startswith("oscar_paddle."))


def test_imports_run_one_way():
    wrong = []
    for path, name in FILES.items():
        allowed = (*ORDER[: ORDER.index(name.split("/")[0]) + 1], "__version__")
        wrong += [f"{name} imports {'.'.join(module)}" for module in imports(path) if module[0] not in allowed]
    assert not wrong
    assert any(module[0] == "models" for path in FILES for module in imports(path))  # else nothing was looked at


def test_there_is_no_circle():
    """Not even one through a function: a file that another one needs does not need it."""
    modules = {tuple(name.removesuffix(".py").split("/")): path for path, name in FILES.items()}
    needs = {
        module: {tuple(found) for found in imports(path) if tuple(found) in modules and tuple(found) != module}
        for module, path in modules.items()
    }
    while free := [module for module, needed in needs.items() if not needed]:
        needs = {module: needed - set(free) for module, needed in needs.items() if module not in free}
    assert not {".".join(module): sorted(map(".".join, needed)) for module, needed in needs.items()}


def names(path, words):
    """Those of the words that stand in a file, alone or in a name, not in another word ("refer" in "reference")."""
    text = path.read_text(encoding="utf-8").lower()
    return [word for word in words if re.search(rf"(?<![a-z]){word}(?![a-z])|for{word}|{word}task", text)]


@pytest.mark.parametrize("task", [task for task in TASKS if task != "retrieval"])
def test_a_task_stands_in_few_files(task):
    """Its data set, its task file, its metrics, two doors, the scenes, the keys it has: more is a wall to mend.

    Captions have a model, constraints, a second way to train, a third door, a benchmark and a page besides.
    """
    named = [name for path, name in FILES.items() if names(path, [task])]
    assert len(named) <= {"vqa": 10, "captioning": 18, "pretraining": 14, "refer": 16}.get(task, 8), named


def test_the_trunk_names_no_task():
    trunk = [
        "solvers/trainer.py",
        "solvers/training.py",
        "tools/shell/doors.py",
        "models/packing.py",
        "models/heads.py",
    ]
    trunk += [name for name in FILES.values() if name.startswith("solvers/scoring/") and not name.endswith("pairs.py")]
    words = [f"{task}task" for task in TASKS] + [task for task in TASKS if task != "retrieval"]
    for name in trunk:
        assert not names(ROOT / name, words), name


def test_a_task_can_be_asked_without_paddle():
    names = "; ".join(f"import oscar_paddle.solvers.tasks.{task}" for task in TASKS)
    program = (
        f"import sys; {names}; sys.exit(any(heavy in sys.modules for heavy in ('paddle', 'paddlenlp', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
