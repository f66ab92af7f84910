"""tools/eval_retrieval.py as a person runs it."""

import json
import re
import shutil

import numpy as np
import paddle
import pytest
import starting
from published import change_rows, features, store

LINE = r"{} Retrieval: \d\.\d{{4}} @ R1, \d\.\d{{4}} @ R5, \d\.\d{{4}} @ R10"


@pytest.fixture(scope="module")
def place(golden, tmp_path_factory):
    """A copy of the golden data with a configuration beside it."""
    folder = tmp_path_factory.mktemp("golden")
    shutil.copytree(golden, folder, dirs_exist_ok=True)
    (folder / "eval.yaml").write_text(
        f"""
INPUT: {{MAX_SEQ_LEN: 40, MAX_REGION: 12}}
DATASET: {{DATA_DIR: {folder}/coco_ir}}
EVAL: {{CHECKPOINT_DIR: {folder}/checkpoint, EVAL_CROSS_IMAGE: true, EVAL_IMG_KEYS_FILE: test_img_keys.tsv}}
MISC: {{DEVICE: cpu}}
"""
    )
    return folder


def evaluate(repository, place, out, *words, log_dir=None):
    """Into a folder; with `log_dir` by two processes."""
    tool = [repository / "tools/eval_retrieval.py", "--cfg_file", place / "eval.yaml", "--output_dir", out, *words]
    return starting.run(tool, starting.launcher(2, log_dir) if log_dir else (), cwd=place)


@pytest.fixture(scope="module")
def single(repository, place):
    done = evaluate(repository, place, place / "single")
    assert done.returncode == 0, done.stderr
    return done


def test_output(single, place):
    lines = single.stdout.splitlines()
    assert sum(bool(re.fullmatch(LINE.format("I2T"), line)) for line in lines) == 1
    assert sum(bool(re.fullmatch(LINE.format("T2I"), line)) for line in lines) == 1
    assert "10 images x 50 captions" in lines
    metrics = json.loads((place / "single" / "metrics.json").read_text())
    assert f"I2T Retrieval: {metrics['i2t_retrieval']['R@1']:.4f} @ R1" in single.stdout
    # Before it starts: how many pairs, on what, and for how long.
    assert "10 images x 50 captions = 500 pairs on Paddle Inference with oneDNN, float32" in single.stderr
    assert re.search(r"forecast: about .* at .* pairs/s", single.stderr)
    assert "Traceback" not in single.stderr


def test_results_are_the_references(single, place, golden):
    """Ranks from the margins on disk equal those of the reference implementation."""
    expected = json.loads((golden / "expected.json").read_text())["cross"]
    logits = np.load(golden / "expected_arrays.npz")["cross_logits"]
    margins = np.load(place / "single" / "margins.npy")
    np.testing.assert_allclose(margins.ravel(), logits[:, 1] - logits[:, 0], atol=4e-5)
    assert json.loads((place / "single" / "image_ids.json").read_text()) == expected["img_keys"]


def test_backends_agree(single, repository, place):
    done = evaluate(repository, place, place / "eager", "--opts", "EVAL.BACKEND", "eager")
    assert done.returncode == 0 and "on eager Paddle, float32" in done.stderr
    found, wanted = (np.load(place / name / "margins.npy") for name in ("eager", "single"))
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert done.stdout == single.stdout


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(single, repository, place):
    done = evaluate(repository, place, place / "two", log_dir=place / "log")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "two" / "margins.npy").read_bytes() == (place / "single" / "margins.npy").read_bytes()
    assert (place / "two" / "metrics.json").read_bytes() == (place / "single" / "metrics.json").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not paddle.base.core.supports_bfloat16(), reason="this processor has no AVX-512")
def test_two_processes_score_again_what_one_does(repository, place, single):
    """bfloat16, and the pairs near the top in float32."""
    words = ("--opts", "EVAL.PRECISION", "bfloat16", "EVAL.RESCORE_TOP", 3)
    done = evaluate(repository, place, place / "half", *words)
    assert done.returncode == 0, done.stderr
    assert "near the top of a list again on Paddle Inference with oneDNN, float32" in done.stderr
    difference = np.abs(np.load(place / "half" / "margins.npy") - np.load(place / "single" / "margins.npy"))
    assert 0.2 < (difference < 2e-5).mean() < 0.9 and difference.max() > 1e-3
    done = evaluate(repository, place, place / "half-two", *words, log_dir=place / "log")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("margins.npy", "metrics.json", "provenance.json"):
        assert (place / "half-two" / name).read_bytes() == (place / "half" / name).read_bytes(), name


@pytest.mark.slow
def test_an_error_of_the_second_process_ends_the_run_with_its_message(repository, place):
    shutil.copytree(place / "model_0060000", place / "broken")
    path = place / "broken" / "features.tsv"
    second = (place / "coco_ir" / "test_img_keys.tsv").read_text().split()[1]  # row 1 belongs to rank 1
    number = [row.split("\t")[0] for row in path.read_text().splitlines()].index(second)

    def spoil(fields):
        regions = features(fields)
        regions[0, 5] = np.nan
        store(fields, regions)

    change_rows(path, spoil, second)
    words = ("--opts", "DATASET.FEAT_FILE", path)
    done = evaluate(repository, place, place / "failed", *words, log_dir=place / "log2")
    assert done.returncode != 0
    for rank in (0, 1):  # rank 0's log is what the launcher shows
        log = (place / "log2" / f"workerlog.{rank}").read_text()
        assert re.search(rf"error: .*features.tsv row {number + 1} \(image {second}\)", log), log
    assert not (place / "failed" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--eccv", "nothing.json"), 1, "nothing.json: no such file"),
        (("--eccv", "coco_ir/test_img_keys.tsv"), 1, "not a file of caption annotation ids"),
        (("--opts", "EVAL.FOLDS", "5", "EVAL.EVAL_IMG_KEYS_FILE", "seven.tsv"), 2, "EVAL.FOLDS is 5"),
        (("--opts", "EVAL.PRECISION", "bfloat16", "EVAL.BACKEND", "eager"), 2, "EVAL.PRECISION is 'bfloat16'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(repository, place, words, code, message):
    keys = (place / "coco_ir" / "test_img_keys.tsv").read_text().splitlines(keepends=True)
    (place / "coco_ir" / "seven.tsv").write_text("".join(keys[:7]))
    done = evaluate(repository, place, place / "bad", *words)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr


def test_eccv_needs_the_whole_split(repository, place, single):
    pytest.importorskip("eccv_caption")
    ids = json.loads((place / "single" / "image_ids.json").read_text())
    (place / "ids.json").write_text(json.dumps({str(image): list(range(5)) for image in ids}))
    done = evaluate(repository, place, place / "eccv", "--eccv", place / "ids.json")
    assert done.returncode == 1 and "COCO test split" in done.stderr.splitlines()[-1], done.stderr
