"""Checkpoints are whole or absent, damage is found, disks that are full or read-only end a run with one clear line."""

import shutil
import signal
import subprocess

import pytest

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.solvers.checkpoint import newest_checkpoint, read_training_state
from oscar_paddle.solvers.run_folder import RunFolder


def error_lines(stderr):
    assert "Traceback" not in stderr
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


@pytest.fixture
def finished(unbroken, tmp_path):
    """A copy of a finished run (checkpoints of steps 28 and 30, and the best one)."""
    return shutil.copytree(unbroken, tmp_path / "finished", symlinks=True)


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "cut", "one bit"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json"])
def test_any_damage_is_found(finished, name, how):
    newest = finished / "checkpoint-30"
    damage(newest / name, how)
    with pytest.raises(WeightsError, match=name):
        read_training_state(newest)
    folder, state = newest_checkpoint(RunFolder(finished))
    assert (folder.name, state["step"]) == ("checkpoint-28", 28)


def test_what_a_checkpoint_holds(unbroken):
    state = read_training_state(unbroken / "checkpoint-28")
    names = {path.name for path in (unbroken / "checkpoint-28").iterdir()}
    assert names == {
        "model.safetensors",
        "optimizer.safetensors",
        "config.json",
        "vocab.txt",
        "tokenizer_config.json",
        "trainer_state.json",
    }
    assert (state["step"], state["epoch"], state["position_in_epoch"], state["optimizer_updates"]) == (28, 1, 13, 28)
    assert state["scheduler"] == {"name": "linear", "step": 28, "total_steps": 30}
    assert state["loss_scaler"] == {"scale": 1.0, "good_updates": 0, "skipped_updates": 0}
    assert state["random_state"]["seed"] == 7
    assert state["config"]["OPTIMIZATION"]["LR"] == 1e-3
    assert state["best_step"] in (10, 20)
    assert 0 < state["best_score"] < 1


def test_damaged_newest_checkpoint(training, unbroken, finished, result):
    """The run goes on from the one before, says so, and ends as if nothing had happened."""
    damage(finished / "checkpoint-30" / "model.safetensors", "one bit")
    code, stderr = training(finished)
    assert code == 0, stderr
    assert "passing over a damaged checkpoint: " in stderr
    assert "checkpoint-30/model.safetensors: damaged" in stderr
    assert "resuming from" in stderr and "checkpoint-28: step 28 of 30" in stderr
    assert result(finished) == result(unbroken)
    assert (finished / "set-aside-checkpoint-30").is_dir()  # nothing is thrown away


def test_finished_run_started_again(training, unbroken, finished, result):
    before = {path.name: path.stat().st_mtime_ns for path in finished.glob("checkpoint-*/*")}
    code, stderr = training(finished)
    assert code == 0, stderr
    assert "training is complete at step 30 of 30" in stderr
    assert "nothing left to do" in stderr
    assert result(finished) == result(unbroken)
    assert {path.name: path.stat().st_mtime_ns for path in finished.glob("checkpoint-*/*")} == before


def test_file_that_cannot_be_written_whole(training, unbroken, result, tmp_path):
    """One line, nothing half-written; and once there is room the same command does it all."""
    run = tmp_path / "run"
    for limit in (500_000, 300_000):  # bytes a file may have: the model (0.4 MB) without its moments (0.8 MB); neither
        code, stderr = training(run, limit=limit)
        assert code == 1, stderr
        (line,) = error_lines(stderr)
        assert line.startswith(f"error: {run}/checkpoint-4: cannot write the checkpoint: ")
        assert {path.name for path in run.iterdir()} == {".lock", "config.yaml", "log.txt", "metrics.jsonl"}
    code, stderr = training(run)
    assert code == 0, stderr
    assert result(run) == result(unbroken)


@pytest.fixture
def disk(tmp_path):
    """A file system of our own; call it with mount options to change them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk, options):
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def test_full_disk(training, unbroken, result, disk):
    """There is room for one checkpoint only: it stays whole, and with more room the run goes on from it."""
    run = disk / "run"
    code, stderr = training(run, "OUTPUT.KEEP", 1)
    assert code == 1, stderr
    (line,) = error_lines(stderr)
    assert line.startswith(f"error: {run}/checkpoint-8: cannot write the checkpoint: ")
    assert "No space left on device" in line
    assert read_training_state(run / "last")["step"] == 4
    assert not list(run.glob(".tmp-*"))
    remount(disk, "size=20m")
    code, stderr = training(run)
    assert code == 0, stderr
    assert "checkpoint-4: step 4 of 30" in stderr
    assert result(run) == result(unbroken)


def test_read_only_disk(training, disk):
    run = disk / "run"
    remount(disk, "ro")
    code, stderr = training(run)
    assert code == 1, stderr
    assert error_lines(stderr)[0].startswith(f"error: {run}: ")
    assert "Read-only file system" in stderr


def test_disk_that_turns_read_only(training, disk, tmp_path):
    run = disk / "run"
    assert training(run, kill_at=60)[0] == -signal.SIGKILL
    (step,) = [path.name for path in run.glob("checkpoint-*")]
    remount(disk, "ro")
    code, stderr = training(run)
    assert code == 1, stderr
    assert "cannot be written" in error_lines(stderr)[0]
    assert read_training_state(run / step)


def test_a_file_where_the_run_folder_should_be(training, tmp_path):
    (tmp_path / "run").write_text("")
    code, stderr = training(tmp_path / "run")
    assert code == 1
    assert error_lines(stderr) == [
        f"error: {tmp_path}/run: cannot make the run folder (OUTPUT.CHECKPOINT_DIR/OUTPUT.SAVE_NAME): File exists"
    ]
