"""Several processes are one: same parameters, same examples, same scores; and an error of one ends them all."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

NO_DROPOUT = ("OPTIMIZATION.DROPOUT", 0, "OPTIMIZATION.ATTENTION_DROPOUT", 0)
# 60 examples in updates of 8: the last of the 8 updates of an epoch has 4, so that some ranks get nothing.
BATCH_OF_8 = (*NO_DROPOUT, "OPTIMIZATION.MAX_STEPS", 20, "OPTIMIZATION.LR", 1e-4, "MONITOR.EVAL_STEPS", 20)


def launch(repository, training, run, processes, *opts):
    """`python -m paddle.distributed.launch`, as a user types it."""
    argv = ["-m", "paddle.distributed.launch", "--nproc_per_node", processes, "--log_dir", f"{run}-log"]
    argv += ["tools/train_retrieval.py", "--cfg_file", training.cfg_file, "--opts", "OUTPUT.CHECKPOINT_DIR", run.parent]
    argv += ["OUTPUT.SAVE_NAME", run.name, *opts]
    return subprocess.Popen(
        [sys.executable, *map(str, argv)],
        cwd=repository,
        env=training.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process, seconds=300):
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def records(run, key):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


@pytest.fixture(scope="module")
def single(training):
    """20 updates of 8 examples in one process."""
    run = training.folder / "single"
    code, stderr = training(run, "OPTIMIZATION.BATCH_SIZE", 8, *BATCH_OF_8)
    assert code == 0, stderr
    return run


def assert_equal_runs(run, single):
    found, expected = (load_file(folder / "last" / "model.safetensors") for folder in (run, single))
    assert found.keys() == expected.keys()
    difference = {name: np.abs(found[name] - expected[name]).max() for name in expected}
    worst = max(difference, key=difference.get)
    assert difference[worst] <= 1e-6, f"{worst}: {difference[worst]}"
    np.testing.assert_allclose(list(records(run, "loss").values()), list(records(single, "loss").values()), rtol=1e-5)
    assert records(run, "metrics") == records(single, "metrics")  # all pairs, none twice


@pytest.mark.parametrize(
    ("batch", "accumulation"), [(4, 2), (1, 8), (3, 3)], ids=["2 x 4", "8 x 1", "3 x 3: not the same examples"]
)
def test_accumulation_is_one_batch(training, single, tmp_path, batch, accumulation):
    run = tmp_path / "run"
    opts = ("OPTIMIZATION.BATCH_SIZE", batch, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", accumulation)
    code, stderr = training(run, *BATCH_OF_8, *opts)
    assert code == 0, stderr
    if batch * accumulation == 8:
        assert_equal_runs(run, single)
    else:  # the comparison can fail
        with pytest.raises(AssertionError):
            assert_equal_runs(run, single)


@pytest.mark.parametrize(("processes", "batch", "accumulation"), [(2, 4, 1), (4, 1, 2)])
def test_processes_are_one_batch(repository, training, single, tmp_path, processes, batch, accumulation):
    """Also with accumulation, and with ranks that have nothing to do in an epoch's last update."""
    run = tmp_path / "run"
    opts = ("OPTIMIZATION.BATCH_SIZE", batch, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", accumulation)
    code, output = finish(launch(repository, training, run, processes, *BATCH_OF_8, *opts))
    assert code == 0, output
    assert_equal_runs(run, single)
    for rank in range(1, processes):
        assert f"rank {rank} INFO run folder" in (run / f"log-rank{rank}.txt").read_text()
    assert "rank 0 INFO training is complete at step 20 of 20" in (run / "log.txt").read_text()


def test_two_processes_killed_and_resumed(repository, training, tmp_path):
    """Dropout on; the launcher is killed with -9 and takes its workers along; the end is that of an unbroken run."""
    unbroken, run = tmp_path / "unbroken", tmp_path / "run"
    opts = ("OPTIMIZATION.BATCH_SIZE", 2, "OPTIMIZATION.MAX_STEPS", 12, "MONITOR.EVAL_STEPS", 12)
    code, output = finish(launch(repository, training, unbroken, 2, *opts))
    assert code == 0, output
    process = launch(repository, training, run, 2, *opts)
    wait_for(run / "checkpoint-4")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, output = finish(launch(repository, training, run, 2, *opts))
    assert code == 0, output
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (run / "last" / name).read_bytes() == (unbroken / "last" / name).read_bytes()
    assert records(run, "loss") == records(unbroken, "loss")
    # Without dropout the two could go on as one; with dropout masks drawn for each process that is refused.
    code, stderr = training(run, *opts, "OPTIMIZATION.BATCH_SIZE", 4)
    assert code == 2
    assert "the number of processes was 2 and is 1; dropout masks depend on it" in stderr


def wait_for(path, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_world_size_may_change_without_dropout(repository, training, single, tmp_path):
    """8 updates by two processes, 12 more by one."""
    run = tmp_path / "run"
    process = launch(repository, training, run, 2, *BATCH_OF_8, "OPTIMIZATION.BATCH_SIZE", 4)
    wait_for(run / "checkpoint-8")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, stderr = training(run, *BATCH_OF_8, "OPTIMIZATION.BATCH_SIZE", 8)
    assert code == 0, stderr
    assert_equal_runs(run, single)


def test_error_of_one_rank_ends_all(repository, training, golden, tmp_path):
    """Rank 1 alone meets a damaged row of features: its line is shown, nobody waits for ever."""
    data = tmp_path / "data"
    for folder in ("coco_ir", "model_0060000"):
        os.makedirs(data / folder)
        for file in (golden / folder).iterdir():
            (data / folder / file.name).write_bytes(file.read_bytes())
    run = tmp_path / "run"
    process = launch(
        repository,
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
