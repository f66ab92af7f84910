"""The run folder: names, records, and the way back to an earlier step."""

import json

import pytest

from oscar_paddle.config.errors import TrainingError
from oscar_paddle.solvers import run_folder as module
from oscar_paddle.solvers.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "a" / "run")


def make(folder, *steps):
    for step in steps:
        folder.checkpoint(step).mkdir()
        (folder.checkpoint(step) / "model.safetensors").write_text(str(step))


def names(folder):
    return sorted(path.name for path in folder.path.iterdir() if "checkpoint" in path.name)


def target(folder, name):
    link = folder.path / name
    return link.resolve().name if link.is_symlink() else None


def test_checkpoints_are_ordered_by_step(folder):
    make(folder, 9, 100, 20)
    (folder.path / "checkpoint-300").write_text("a file")
    (folder.path / "set-aside-checkpoint-400").mkdir()
    assert list(folder.checkpoints()) == [9, 20, 100]


@pytest.mark.parametrize(
    ("keep", "best", "left"), [(0, 0, [1, 2, 3, 4]), (2, 0, [3, 4]), (2, 1, [1, 3, 4]), (1, 4, [4])]
)
def test_prune(folder, keep, best, left):
    make(folder, 1, 2, 3, 4)
    folder.prune(keep, best)
    assert list(folder.checkpoints()) == left
    assert not list(folder.path.glob(".tmp-*"))


def test_names_move(folder):
    make(folder, 1, 2)
    folder.point("last", 1)
    folder.point("last", 2)
    assert target(folder, "last") == "checkpoint-2"


def test_return_to_an_earlier_step(folder):
    """Later checkpoints step aside, `last` and `best` follow, later records go."""
    make(folder, 5, 10, 15, 20)
    folder.point("last", 20)
    folder.point("best", 15)
    for step in range(1, 21):
        folder.append_metrics({"step": step, "loss": 0.1 * step})
    with open(folder.metrics_file, "a") as file:
        file.write('{"step": 3, "lo')  # half a line, from a killed process
    folder.return_to(10, best_step=5)
    assert names(folder) == ["checkpoint-10", "checkpoint-5", "set-aside-checkpoint-15", "set-aside-checkpoint-20"]
    assert (target(folder, "last"), target(folder, "best")) == ("checkpoint-10", "checkpoint-5")
    lines = folder.metrics_file.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": s, "loss": 0.1 * s} for s in range(1, 11)]


def test_return_to_the_start(folder):
    """Without a checkpoint to go on from, nothing is called last or best."""
    make(folder, 5)
    folder.point("last", 5)
    folder.point("best", 5)
    folder.append_metrics({"step": 1})
    folder.return_to(0, best_step=0)
    assert names(folder) == ["set-aside-checkpoint-5"]
    assert (target(folder, "last"), target(folder, "best")) == (None, None)
    assert folder.read_metrics() == []


def test_claim_removes_what_was_half_written(folder):
    make(folder, 5)
    (folder.path / ".tmp-checkpoint-6").mkdir()
    (folder.path / ".tmp-checkpoint-6" / "model.safetensors").write_text("half")
    (folder.path / ".tmp-metrics").write_text("half")
    folder.claim()
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "checkpoint-5"]


def test_one_run_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0)
    folder.claim()
    with pytest.raises(TrainingError, match="another process is training in this run folder"):
        RunFolder(folder.path).claim()
    folder._lock.release()  # as the end of a process does
    RunFolder(folder.path).claim()


def test_a_path_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file/run: cannot make the run folder .*: Not a directory"):
        RunFolder(tmp_path / "file" / "run")
