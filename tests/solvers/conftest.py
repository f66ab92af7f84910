"""Real training processes on the golden data, and ranks that are threads."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import starting
import training_server
from runs import records

from oscar_paddle.solvers.ranks import Ranks

# Two epochs of 15 updates, dropout on, an evaluation and several checkpoints in each.
SETTINGS = """
INPUT: {MAX_SEQ_LEN: 40, MAX_REGION: 12}
DATASET: {NAME: golden, DATA_DIR: %(data)s/coco_ir, CACHE_DIR: %(cache)s}
OUTPUT: {SAVE_STEPS: 4, KEEP: 2}
OPTIMIZATION: {BATCH_SIZE: 4, EPOCHS: 2, LR: 1.0e-3}
MONITOR: {PRINT_STEP: 10, EVAL_STEPS: 10}
PRETRAINED: {DIR: %(data)s/checkpoint, RESUME: auto}
EVAL: {EVAL_CROSS_IMAGE: true}
MISC: {SEED: 7, NUM_WORKERS: 1, DEVICE: cpu}
"""


class Training:
    """Starts tools/train_retrieval.py, in forks of one process that has loaded Paddle already."""

    def __init__(self, folder, golden):
        self.folder = folder
        self.cfg_file = folder / "run.yaml"
        self.cfg_file.write_text(SETTINGS % {"data": golden, "cache": folder / "cache"})
        self.log = folder / "stderr.txt"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.server = starting.start([training_server.__file__], **pipes)
        assert self.server.stdout.readline() == "ready\n"

    def start(self, run, *opts, **how):
        """Begin a run in the folder <run>; `how` as in training_server.py. Returns the process id."""
        argv = ["--cfg_file", str(self.cfg_file), "--opts", "OUTPUT.CHECKPOINT_DIR", str(Path(run).parent)]
        argv += ["OUTPUT.SAVE_NAME", Path(run).name, *map(str, opts)]
        self.server.stdin.write(json.dumps({"argv": argv, "log": str(self.log), **how}) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def finish(self):
        """Wait for the process; (exit code, what it wrote to stderr)."""
        code = int(self.server.stdout.readline())
        return code, self.log.read_text()

    def __call__(self, run, *opts, **how):
        self.start(run, *opts, **how)
        return self.finish()

    def kill_after(self, run, seconds, *opts):
        """Run for some time at most, then kill -9."""
        pid = self.start(run, *opts)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.finish()


@pytest.fixture(scope="session")
def training(tmp_path_factory, golden):
    training = Training(tmp_path_factory.mktemp("training"), golden)
    yield training
    training.server.stdin.close()
    training.server.wait(timeout=20)


class Result:
    """What counts as the outcome of a run: the losses of all steps, the scores, and the final weights, bit for bit."""

    def __init__(self, run):
        self.records = records(run)
        self.weights = hashlib.sha256((Path(run) / "last" / "model.safetensors").read_bytes()).hexdigest()
        self.moments = hashlib.sha256((Path(run) / "last" / "optimizer.safetensors").read_bytes()).hexdigest()
        links = {name: Path(run) / name for name in ("last", "best")}
        self.names = {name: os.readlink(link) if link.is_symlink() else None for name, link in links.items()}

    def __eq__(self, other):
        return vars(self) == vars(other)


@pytest.fixture(scope="session")
def result():
    return Result


@pytest.fixture(scope="session")
def unbroken(training):
    """The folder of a run that nothing disturbed."""
    run = training.folder / "unbroken"
    started = time.monotonic()
    code, stderr = training(run)
    assert code == 0, stderr
    training.seconds = time.monotonic() - started
    training.operations = int(re.search(r"operations: (\d+)", stderr)[1])
    return run


class ThreadRanks:
    """Ranks that are threads of one process."""

    def __init__(self, world_size):
        self.barrier, self.values = threading.Barrier(world_size), [None] * world_size
        self.ranks = [ThreadRank(self, rank, world_size) for rank in range(world_size)]

    def run(self, function):
        """Call function(rank) on all; list of results or exceptions."""
        results = [None] * len(self.ranks)

        def call(rank):
            try:
                results[rank.rank] = function(rank)
            except Exception as error:
                results[rank.rank] = error

        threads = [threading.Thread(target=call, args=(rank,)) for rank in self.ranks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        return results


class ThreadRank(Ranks):
    def __init__(self, group, rank, world_size):
        self.group, self.rank, self.world_size = group, rank, world_size

    def gather(self, value):
        self.group.values[self.rank] = value
        self.group.barrier.wait(timeout=100)
        values = list(self.group.values)
        self.group.barrier.wait(timeout=100)
        return values


@pytest.fixture(scope="session")
def thread_ranks():
    return ThreadRanks
