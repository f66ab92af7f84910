"""tools/train_retrieval.py and tools/bench_train.py as a person starts them. More of the first in tests/solvers."""

import json

import pytest
import starting

SETTINGS = """
INPUT: {MAX_SEQ_LEN: 40, MAX_REGION: 12, NUM_CAPTIONS_PER_IMAGE_DEV: 10}
DATASET: {NAME: golden, DATA_DIR: %(golden)s/coco_ir, CACHE_DIR: %(folder)s/cache}
OUTPUT: {CHECKPOINT_DIR: %(folder)s/exp}
OPTIMIZATION: {BATCH_SIZE: 15, EPOCHS: 2, LR: 1.0e-3}
MONITOR: {PRINT_STEP: 2}
PRETRAINED: {DIR: %(golden)s/checkpoint}
EVAL: {EVAL_CAPTION_INDEX_FILE: minival_caption_indexs_top20.pt}
MISC: {DEVICE: auto}
"""


@pytest.fixture
def tool(golden, tmp_path):
    cfg_file = tmp_path / "small.yaml"
    cfg_file.write_text(SETTINGS % {"golden": golden, "folder": tmp_path})

    def run(*words):
        done = starting.run(["tools/train_retrieval.py", "--cfg_file", cfg_file, *words])
        return done.returncode, done.stderr

    return run


def test_from_beginning_to_end(tool, tmp_path):
    """What a run folder holds, and the line at the end."""
    code, stderr = tool()
    assert code == 0, stderr
    run = tmp_path / "exp" / "small"
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".lock",
        "best",
        "checkpoint-4",
        "checkpoint-8",
        "config.yaml",
        "curves.png",
        "last",
        "log.txt",
        "metrics.jsonl",
    }
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 9))
    scores = {record["step"]: record["score"] for record in records if "score" in record}
    assert scores.keys() == {4, 8}
    assert all(r["score"] == r["metrics"]["i2t_retrieval"]["R@1"] for r in records if "score" in r)  # candidates
    summary = stderr.splitlines()[-1]
    assert "training is complete at step 8 of 8; best dev score" in summary
    assert "120 pairs in" not in summary and "240 pairs in" in summary  # 2 epochs x 60 captions x (1 + 1)
    assert str(run) in summary
    assert "CPU threads" in stderr


def test_mixed_precision_on_the_cpu(tool):
    import paddle

    if paddle.is_compiled_with_cuda():
        pytest.skip("this Paddle has GPUs")
    for amp in ("bf16", "fp16"):
        code, stderr = tool("--opts", "OPTIMIZATION.AMP", amp)
        assert code == 2
        (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
        assert line == f"error: OPTIMIZATION.AMP is '{amp}', but Paddle's mixed precision needs a GPU: set 'off'"


def test_bench():
    """On a tiny model: the JSON is whole and both ways of computing agree."""
    sizes = {"--layers": 1, "--width": 64, "--positives": 2, "--rounds": 1}
    done = starting.run(["tools/bench_train.py", *starting.words_of(sizes)])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["loss_difference"] < 1e-5
    assert 0 < result["share_of_time_in_matrix_products"] < 1
    speed = result["pairs_per_second"]
    assert result["ratio_default"] == pytest.approx(speed["ours"] / speed["published_default"])
    assert result["ratio_same_maths_path"] == pytest.approx(speed["ours"] / speed["published"])
