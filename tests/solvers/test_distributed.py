"""Several processes are one: same parameters, same examples, same scores; and an error of one ends them all."""

import os
import signal
import subprocess
import time

import pytest
import starting
from runs import assert_equal_but_for_rounding, values

NO_DROPOUT = ("OPTIMIZATION.DROPOUT", 0, "OPTIMIZATION.ATTENTION_DROPOUT", 0)
# 60 examples in updates of 8: the last of the 8 updates of an epoch has 4, so that some ranks get nothing.
BATCH_OF_8 = (*NO_DROPOUT, "OPTIMIZATION.MAX_STEPS", 20, "OPTIMIZATION.LR", 1e-4, "MONITOR.EVAL_STEPS", 20)


def launch(training, run, processes, *opts):
    """`python -m paddle.distributed.launch`, as a user types it."""
    words = ["tools/train_retrieval.py", "--cfg_file", training.cfg_file, "--opts", "OUTPUT.CHECKPOINT_DIR", run.parent]
    words += ["OUTPUT.SAVE_NAME", run.name, *opts]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return starting.start(words, starting.launcher(processes, f"{run}-log"), **pipes)


def finish(process, seconds=300):
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


@pytest.fixture(scope="module")
def single(training):
    """20 updates of 8 examples in one process."""
    run = training.folder / "single"
    code, stderr = training(run, "OPTIMIZATION.BATCH_SIZE", 8, *BATCH_OF_8)
    assert code == 0, stderr
    return run


@pytest.mark.parametrize(
    ("batch", "accumulation"), [(4, 2), (1, 8), (3, 3)], ids=["2 x 4", "8 x 1", "3 x 3: not the same examples"]
)
def test_accumulation_is_one_batch(training, single, golden, tmp_path, batch, accumulation):
    run = tmp_path / "run"
    opts = ("OPTIMIZATION.BATCH_SIZE", batch, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", accumulation)
    code, stderr = training(run, *BATCH_OF_8, *opts)
    assert code == 0, stderr
    if batch * accumulation == 8:
        assert_equal_but_for_rounding(run, single, golden / "checkpoint")
    else:  # the comparison can fail
        with pytest.raises(AssertionError):
            assert_equal_but_for_rounding(run, single, golden / "checkpoint")


@pytest.mark.parametrize(("processes", "batch", "accumulation"), [(2, 4, 1), (4, 1, 2)])
def test_processes_are_one_batch(training, single, golden, tmp_path, processes, batch, accumulation):
    """Also with accumulation, and with ranks that have nothing to do in an epoch's last update."""
    run = tmp_path / "run"
    opts = ("OPTIMIZATION.BATCH_SIZE", batch, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", accumulation)
    code, output = finish(launch(training, run, processes, *BATCH_OF_8, *opts))
    assert code == 0, output
    assert_equal_but_for_rounding(run, single, golden / "checkpoint")
    for rank in range(1, processes):
        assert f"rank {rank} INFO run folder" in (run / f"log-rank{rank}.txt").read_text()
    assert "rank 0 INFO training is complete at step 20 of 20" in (run / "log.txt").read_text()


def test_two_processes_killed_and_resumed(training, tmp_path):
    """Dropout on; the launcher is killed with -9 and takes its workers along; the end is that of an unbroken run."""
    unbroken, run = tmp_path / "unbroken", tmp_path / "run"
    opts = ("OPTIMIZATION.BATCH_SIZE", 2, "OPTIMIZATION.MAX_STEPS", 12, "MONITOR.EVAL_STEPS", 12)
    code, output = finish(launch(training, unbroken, 2, *opts))
    assert code == 0, output
    process = launch(training, run, 2, *opts)
    wait_for(run / "checkpoint-4")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, output = finish(launch(training, run, 2, *opts))
    assert code == 0, output
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (run / "last" / name).read_bytes() == (unbroken / "last" / name).read_bytes()
    assert values(run, "loss") == values(unbroken, "loss")
    # Without dropout the two could go on as one; with dropout masks drawn for each process that is refused.
    code, stderr = training(run, *opts, "OPTIMIZATION.BATCH_SIZE", 4)
    assert code == 2
    assert "the number of processes was 2 and is 1; dropout masks depend on it" in stderr


def wait_for(path, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_world_size_may_change_without_dropout(training, single, golden, tmp_path):
    """8 updates by two processes, 12 more by one."""
    run = tmp_path / "run"
    process = launch(training, run, 2, *BATCH_OF_8, "OPTIMIZATION.BATCH_SIZE", 4)
    wait_for(run / "checkpoint-8")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, stderr = training(run, *BATCH_OF_8, "OPTIMIZATION.BATCH_SIZE", 8)
    assert code == 0, stderr
    assert_equal_but_for_rounding(run, single, golden / "checkpoint")


def test_error_of_one_rank_ends_all(training, golden, tmp_path):
    """Rank 1 alone meets a damaged row of features: its line is shown, nobody waits for ever."""
    data = tmp_path / "data"
    for folder in ("coco_ir", "model_0060000"):
        os.makedirs(data / folder)
        for file in (golden / folder).iterdir():
            (data / folder / file.name).write_bytes(file.read_bytes())
    run = tmp_path / "run"
    process = launch(
        training,
        run,
        2,
        "OPTIMIZATION.BATCH_SIZE",
        2,
        "DATASET.DATA_DIR",
        data / "coco_ir",
        "MONITOR.EVAL_STEPS",
        0,
        "MONITOR.EVAL_FREQ",
        0,
        "INPUT.FEATURE_CACHE_MB",
        0,
        "OPTIMIZATION.EPOCHS",
        2000,
    )
    wait_for(run / "checkpoint-4")
    features = data / "model_0060000" / "features.tsv"
    with open(features, "r+b") as file:  # every image's base64 text from now on
        file.seek(0)
        content = file.read()
        file.seek(0)
        file.write(content.replace(b"A", b"-"))
    code, output = finish(process, seconds=120)
    assert code != 0
    assert "error: rank " in output
    assert "features.tsv row " in output
