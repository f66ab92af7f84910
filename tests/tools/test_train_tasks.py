"""Training tools of VQA, GQA and NLVR2 as a person starts them, on the golden data: run folder, kill -9, two ranks."""

import signal
import subprocess
import time

import pytest
import starting
from runs import assert_equal_but_for_rounding, records

TASKS = {
    "vqa": "OPTIMIZATION: {LOSS_TYPE: bce, BATCH_SIZE: 4, EPOCHS: 4, LR: 5.0e-4}",
    "gqa": "{OUTPUT: {CLASSIFIER: mlp}, OPTIMIZATION: {LOSS_TYPE: xe, BATCH_SIZE: 4, EPOCHS: 4, LR: 1.0e-3}}",
    "nlvr2": "{OUTPUT: {CLASSIFIER: mlp, CLS_HIDDEN_SCALE: 3}, OPTIMIZATION: {BATCH_SIZE: 4, EPOCHS: 4, LR: 1.0e-3}}",
}
EXACT = ("OPTIMIZATION.DROPOUT", "0", "OPTIMIZATION.ATTENTION_DROPOUT", "0", "OPTIMIZATION.LR", "1e-4")


@pytest.fixture
def command(repository, tmp_path):
    """Function: task, run name, --opts words -> the words of the command."""

    def command(task, run, *opts):
        golden = repository / "tests" / "golden" / task
        cfg_file = tmp_path / f"{task}.yaml"
        cfg_file.write_text(TASKS[task])
        words = {
            "INPUT.MAX_SEQ_LEN": 24,
            "INPUT.MAX_REGION": 6,
            "DATASET.DATA_DIR": golden / task,
            "DATASET.DEV": "val",
            "DATASET.CACHE_DIR": tmp_path / "cache",
            "DATASET.EVAL_DATA_TYPE": "bal" if task == "gqa" else "all",
            "OUTPUT.CHECKPOINT_DIR": tmp_path,
            "OUTPUT.SAVE_NAME": run,
            "OUTPUT.KEEP": 1,
            "MISC.NUM_WORKERS": 1,
            "PRETRAINED.DIR": golden / "checkpoint",
            "PRETRAINED.RESUME": "auto",
            "MISC.SEED": 7,
        }
        flat = [str(word) for item in words.items() for word in item]
        return [f"tools/train_{task}.py", "--cfg_file", str(cfg_file), "--opts", *flat, *opts]

    return command


@pytest.mark.parametrize("task", TASKS)
def test_killed_and_started_again_is_the_same_run(command, run, tmp_path, task):
    done = run(command(task, "unbroken"))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "unbroken").iterdir()}
    assert names >= {"config.yaml", "curves.png", "log.txt", "metrics.jsonl", "last", "best"}
    assert "training is complete at step 12 of 12; best dev score" in done.stderr
    assert " examples in " in done.stderr and " val: " in done.stderr
    process = starting.start(command(task, "killed"), stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "last").is_symlink() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(command(task, "killed"))
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "killed") == records(tmp_path / "unbroken")
    weights = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("killed", "unbroken")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("task", ["vqa", "nlvr2"])
def test_two_ranks_are_one(command, run, repository, tmp_path, task):
    done = run(command(task, "one", *EXACT))
    assert done.returncode == 0, done.stderr
    ranks = starting.launcher(2, tmp_path / "log")
    done = run(command(task, "two", *EXACT, "OPTIMIZATION.BATCH_SIZE", "2"), ranks)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "two" / "log-rank1.txt").is_file()
    checkpoint = repository / "tests" / "golden" / task / "checkpoint"
    assert_equal_but_for_rounding(tmp_path / "two", tmp_path / "one", checkpoint)
    done = run(command(task, "other", *EXACT, "OPTIMIZATION.BATCH_SIZE", "2"))
    assert done.returncode == 0, done.stderr
    with pytest.raises(AssertionError):  # the comparison can fail
        assert_equal_but_for_rounding(tmp_path / "other", tmp_path / "one", checkpoint)


def test_the_head_of_another_task(command, run, repository, tmp_path):
    """An error that names what does not fit, and a new head where one is asked for."""
    other = ("PRETRAINED.DIR", str(repository / "tests" / "golden" / "nlvr2" / "checkpoint_single"))
    done = run(command("gqa", "run", *other))
    assert done.returncode == 1
    assert "the weights do not fit the model" in done.stderr and "classifier.weight" in done.stderr
    done = run(command("gqa", "run", *other, "PRETRAINED.FRESH_HEAD", "True", "OPTIMIZATION.MAX_STEPS", "1"))
    assert done.returncode == 0, done.stderr
    assert "starts from initial values: classifier.0.bias" in done.stderr


@pytest.mark.parametrize(
    ("task", "opts", "code", "message"),
    [
        ("vqa", ("DATASET.TRAIN", "minival"), 2, "vqa has 'train', 'train+val'"),
        ("gqa", ("DATASET.DATA_DIR", "nowhere"), 1, "nowhere/trainval_testdev_all_ans2label.pkl and "),
        ("nlvr2", ("OUTPUT.CLASSIFIER", "linear"), 1, "the weights do not fit the model"),
        ("nlvr2", ("DATASET.FEAT_FILE", "none.pt"), 1, "none.pt"),
    ],
)
def test_errors_are_one_line(command, run, task, opts, code, message):
    done = run(command(task, "run", *opts))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code and message in line and "Traceback" not in done.stderr
