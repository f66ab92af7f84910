"""Evaluation tools of VQA, GQA and NLVR2 as a person starts them, on the golden data."""

import json
import pickle
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import starting

CHECKPOINTS = {"vqa": "checkpoint", "gqa": "checkpoint", "nlvr2": "checkpoint"}
LENGTHS = {"vqa": (24, 6), "gqa": (26, 7), "nlvr2": (24, 6)}
EVAL_TYPE = {"vqa": "bal", "gqa": "bal", "nlvr2": "all"}


@pytest.fixture
def golden_of(repository, tmp_path):
    """Function: task -> a copy of its golden folder (evaluation leaves a cache in the checkpoint folder)."""

    def golden_of(task):
        folder = tmp_path / task
        if not folder.exists():
            shutil.copytree(repository / "tests" / "golden" / task, folder)
        return folder

    return golden_of


@pytest.fixture
def command(golden_of, tmp_path):
    """Function: task, split, --opts words -> the words of the command, which writes to tmp_path/eval."""

    def command(task, split, *opts):
        golden, (text, regions) = golden_of(task), LENGTHS[task]
        (tmp_path / "run.yaml").write_text("{}")
        words = {
            "INPUT.MAX_SEQ_LEN": text,
            "INPUT.MAX_REGION": regions,
            "INPUT.ADD_OD_LABEL": task != "nlvr2",
            "DATASET.DATA_DIR": golden / task,
            "DATASET.TEST": split,
            "DATASET.EVAL_DATA_TYPE": EVAL_TYPE[task],
            "DATASET.DATA_LABEL_TYPE": "mask" if task == "vqa" else "all",
            "EVAL.CHECKPOINT_DIR": golden / CHECKPOINTS[task],
        }
        flat = [str(word) for item in words.items() for word in item]
        places = ["--cfg_file", str(tmp_path / "run.yaml"), "--output_dir", str(tmp_path / "eval")]
        return [f"tools/eval_{task}.py", *places, "--opts", *flat, *opts]

    return command


def read(folder, name):
    return json.loads((folder / "eval" / name).read_text())


def expected_of(repository, task):
    return json.loads((repository / "tests" / "golden" / task / "expected.json").read_text())


def test_vqa_score_files_and_reuse(command, run, repository, tmp_path):
    done = run(command("vqa", "val"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "VQA val: score 30.91 % (11 examples)\n"
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names == {".lock", "metrics.json", "predictions.json", "predictions.npy", "provenance.json"}
    wanted = expected_of(repository, "vqa")["splits"]["val"]
    predictions = read(tmp_path, "predictions.json")
    assert [p["predicted"] for p in predictions] == [e["predicted_answer"] for e in wanted["examples"]]
    assert [p["record"] for p in predictions] == [e["json_row"] for e in wanted["examples"]]
    assert read(tmp_path, "metrics.json")["score"] == pytest.approx(wanted["score"], abs=1e-6)
    assert "scoring 11 examples on" in done.stderr and "forecast: about" in done.stderr
    again = run(command("vqa", "val"))
    assert again.stdout == done.stdout and "holds results of the same checkpoint" in again.stderr
    other = run(command("vqa", "val", "INPUT.ADD_OD_LABEL", "False"))
    assert other.stdout == "VQA val: score 0.00 % (11 examples)\n" and "differing: settings" in other.stderr


@pytest.mark.parametrize(("task", "split"), [("vqa", "test2015"), ("gqa", "test")])
def test_the_file_for_the_server(command, run, repository, tmp_path, task, split):
    done = run(command(task, split))
    assert done.returncode == 0, done.stderr
    path = tmp_path / "eval" / f"{split}_results.json"
    assert done.stdout.strip().endswith(str(path))
    found, wanted = json.loads(path.read_text()), expected_of(repository, task)["splits"][split]["results_file"]
    if task == "gqa":  # the reference loses leading zeros
        assert "07333408" in [entry["questionId"] for entry in found]
        found = [{**entry, "questionId": str(int(entry["questionId"]))} for entry in found]
    assert found == wanted
    assert read(tmp_path, "metrics.json") == {"split": split, "num_examples": len(found)}


def test_nlvr2_on_two_ranks(command, run, repository, tmp_path):
    done = run(command("nlvr2", "val"), starting.launcher(2, tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    wanted = expected_of(repository, "nlvr2")["heads"]["pair_mlp_layernorm"]["without_tags"]["val"]
    predictions = read(tmp_path, "predictions.json")
    assert [p["predicted"] for p in predictions] == [str(bool(c)).lower() for c in wanted["predicted"]]
    assert read(tmp_path, "metrics.json")["accuracy"] == pytest.approx(wanted["accuracy"])
    two = (tmp_path / "eval" / "predictions.npy").read_bytes()
    shutil.rmtree(tmp_path / "eval")
    assert run(command("nlvr2", "val")).returncode == 0
    assert (tmp_path / "eval" / "predictions.npy").read_bytes() == two


def test_killed_and_started_again(command, run, golden_of, tmp_path):
    """Many blocks, so that the kill falls between two of them."""
    path = golden_of("gqa") / "gqa" / "gqa_all_qla_testdev.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([{**record, "q_id": f"{n}{record['q_id']}"} for n in range(2000) for record in records]))
    words = command("gqa", "test-dev", "EVAL.BACKEND", "eager", "EVAL.BATCH_TOKENS", "100")
    process = starting.start(words, stderr=subprocess.DEVNULL)
    flags = tmp_path / "eval" / "finished_blocks.npy"
    while process.poll() is None and not (flags.exists() and np.load(flags).any()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was finished before it could be killed"
    assert 0 < np.load(flags).sum() < len(np.load(flags))
    done = run(words)
    assert done.returncode == 0 and "going on with an evaluation that was not finished" in done.stderr
    resumed = (tmp_path / "eval" / "predictions.npy").read_bytes()
    shutil.rmtree(tmp_path / "eval")
    assert run(words).returncode == 0
    assert (tmp_path / "eval" / "predictions.npy").read_bytes() == resumed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_backends_agree(command, run, tmp_path, precision):
    import paddle

    if precision == "bfloat16" and not paddle.base.core.supports_bfloat16():
        pytest.skip("this processor has no AVX-512")
    found = {}
    for backend in ("eager", "inference"):
        how = "float32" if backend == "eager" else precision
        done = run(command("nlvr2", "val", "EVAL.BACKEND", backend, "EVAL.PRECISION", how))
        assert done.returncode == 0, done.stderr
        found[backend] = np.load(tmp_path / "eval" / "predictions.npy")
    np.testing.assert_allclose(*found.values(), atol=1e-4 if precision == "float32" else 0.2)


@pytest.mark.parametrize(
    ("task", "split", "opts", "code", "message"),
    [
        ("vqa", "minival", (), 2, "vqa has 'val', 'test2015', 'test-dev2015'"),
        ("nlvr2", "test1", ("INPUT.USE_PAIR", "False"), 1, "classifier.0.weight [72, 48] instead of [72, 24]"),
        ("gqa", "val", ("EVAL.CHECKPOINT_DIR", "nowhere"), 1, "nowhere"),
        ("vqa", "val", ("DATASET.DATA_LABEL_TYPE", "all"), 1, "val2014_qla.json: no such file; it holds the questions"),
    ],
)
def test_errors_are_one_line(command, run, task, split, opts, code, message):
    done = run(command(task, split, *opts))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code and message in line and "Traceback" not in done.stderr


def test_a_checkpoint_tells_the_rows_of_a_pair(command, run, golden_of):
    single = golden_of("nlvr2") / "checkpoint_single"
    (single / "training_args.json").write_text('{"use_pair": false}')
    done = run(command("nlvr2", "val", "EVAL.CHECKPOINT_DIR", str(single)))
    assert done.returncode == 0, done.stderr
    assert "INPUT.USE_PAIR is False, as the checkpoint was trained" in done.stderr


def test_answers_of_another_label_file(command, run, tmp_path):
    labels = tmp_path / "more.pkl"
    labels.write_bytes(pickle.dumps({f"answer {label}": label for label in range(40)}))
    done = run(command("gqa", "val", "DATASET.LABEL_FILE", str(labels), "DATASET.LABEL2ANS_FILE", ""))
    assert done.returncode == 1
    assert "num_labels is 37, but there are 40 answers (DATASET.LABEL_FILE)" in done.stderr
