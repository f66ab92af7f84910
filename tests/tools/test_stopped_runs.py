"""Tools that have loaded Paddle, and are stopped: what they say, their exit codes, no C++ stack; and going on."""

import signal
import time
from pathlib import Path

import pytest
import starting

SETTINGS = """
INPUT: {MAX_SEQ_LEN: 40, MAX_REGION: 12}
DATASET: {NAME: golden, DATA_DIR: %(golden)s/coco_ir, CACHE_DIR: %(folder)s/cache}
OUTPUT: {CHECKPOINT_DIR: %(folder)s, SAVE_NAME: run, SAVE_STEPS: 2, KEEP: 1}
OPTIMIZATION: {BATCH_SIZE: 4, EPOCHS: 4000}
MONITOR: {EVAL_FREQ: 0}
PRETRAINED: {DIR: %(golden)s/checkpoint}
EVAL: {CHECKPOINT_DIR: %(golden)s/checkpoint, EVAL_CROSS_IMAGE: true, EVAL_IMG_KEYS_FILE: test_img_keys.tsv}
MISC: {NUM_WORKERS: 1, DEVICE: cpu}
"""


@pytest.fixture
def cfg_file(write, golden, tmp_path):
    return write(SETTINGS % {"golden": golden, "folder": tmp_path})


def stopped(words, sign, when, tmp_path):
    """Start a tool and send a signal once `when(process)`; (exit code, stderr)."""
    with open(tmp_path / "stderr", "w+") as stderr:
        process = starting.start(words, stderr=stderr)
        while not when(process) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(sign)
        return process.wait(60), (tmp_path / "stderr").read_text()


@pytest.mark.parametrize(
    ("sign", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_training_says_what_is_kept(cfg_file, tmp_path, sign, code, word):
    words = ["tools/train_retrieval.py", "--cfg_file", cfg_file]
    found, stderr = stopped(words, sign, lambda _: (tmp_path / "run" / "checkpoint-2").is_dir(), tmp_path)
    line = stderr.splitlines()[-1]
    assert found == code and "C++" not in stderr and "Traceback" not in stderr, stderr
    assert line.startswith(f"{word}: what came after {tmp_path}/run/checkpoint-")
    assert line.endswith(" is lost; the same command with --opts PRETRAINED.RESUME auto goes on from there")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc for what is loaded")
def test_sigterm_while_paddle_loads(cfg_file, tmp_path):
    """The run folder is not there yet, so nothing is kept; Paddle has its own idea of SIGTERM by then."""
    words = ["tools/train_retrieval.py", "--cfg_file", cfg_file]

    def loads(process):
        return "libpaddle" in Path(f"/proc/{process.pid}/maps").read_text()

    code, stderr = stopped(words, signal.SIGTERM, loads, tmp_path)
    assert code == 143
    kept = "nothing is kept before the first checkpoint (OUTPUT.SAVE_STEPS); the same command starts again"
    assert [line for line in stderr.splitlines() if "INFO" not in line] == [f"terminated: {kept}"]


def test_evaluation_says_what_is_kept(cfg_file, tmp_path):
    opts = ["--opts", "EVAL.BACKEND", "eager", "EVAL.BATCH_TOKENS", "60", "DATASET.TEST", "train"]
    opts += ["EVAL.EVAL_IMG_KEYS_FILE", ""]
    words = ["tools/eval_retrieval.py", "--cfg-file", cfg_file, "--output-dir", tmp_path / "eval", *opts]
    code, stderr = stopped(
        words, signal.SIGTERM, lambda _: (tmp_path / "eval" / "finished_blocks.npy").is_file(), tmp_path
    )
    assert code == 143 and "C++" not in stderr
    assert stderr.splitlines()[-1] == "terminated: what was scored is kept; the same command goes on from there"
