"""An evaluation that is stopped goes on; results are used again for the same question only; ranks agree."""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError, DataError, UserError
from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring import evaluation
from oscar_paddle.solvers.scoring import folder as evaluation_folder
from oscar_paddle.solvers.scoring import run as scoring_run
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.folder import BlockFiles, EvaluationFolder
from oscar_paddle.solvers.scoring.rows import block_groups
from oscar_paddle.solvers.tasks.retrieval import RetrievalEvaluation

SLOW = Path(__file__).parents[2] / "helpers" / "slow_evaluation.py"


def evaluate(cfg, data, folder, ranks, make_backend):
    return evaluation.evaluate(
        cfg, RetrievalEvaluation(cfg, data=data, split=cfg.DATASET.TEST), folder, ranks, make_backend
    )


@pytest.fixture(scope="module")
def config(golden, tmp_path_factory):
    """Function of --opts words: settings for the golden data."""
    cache = tmp_path_factory.mktemp("cache")

    def make(*opts):
        cfg = get_cfg_defaults()
        cfg.merge_from_list(
            [
                "INPUT.MAX_SEQ_LEN",
                40,
                "INPUT.MAX_REGION",
                12,
                "DATASET.DATA_DIR",
                f"{golden}/coco_ir",
                "DATASET.CACHE_DIR",
                str(cache),
                "EVAL.CHECKPOINT_DIR",
                f"{golden}/checkpoint",
                "EVAL.EVAL_CROSS_IMAGE",
                True,
                "EVAL.EVAL_IMG_KEYS_FILE",
                "test_img_keys.tsv",
                "EVAL.BATCH_TOKENS",
                600,
                *opts,
            ]
        )
        return cfg

    return make


@pytest.fixture(scope="module")
def tokenizer(config):
    return load_tokenizer(config(), config().EVAL.CHECKPOINT_DIR)


@pytest.fixture(scope="module")
def backend(config, tokenizer):
    return EagerBackend(model_for_evaluation(config(), tokenizer, OscarForClassification))


@pytest.fixture(scope="module")
def data(config, tokenizer):
    return build_evaluation_data(config(), tokenizer, "test")


@pytest.fixture(scope="module")
def finished(config, data, backend, tmp_path_factory):
    """A folder of an evaluation that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    evaluate(config(), data, folder, Ranks(), lambda weights, precision: backend)
    return folder


@pytest.fixture(autouse=True)
def record_at_once(monkeypatch):
    monkeypatch.setattr(evaluation_folder, "SYNC_SECONDS", -1.0)
    monkeypatch.setattr(scoring_run, "POLL_SECONDS", 0.05)


class Limited:
    """A backend that counts pairs and fails after some batches."""

    def __init__(self, backend, batches=10**9, error="the lights went out"):
        self.backend, self.name, self.left, self.error, self.pairs = backend, backend.name, batches, error, 0
        self.embed_regions, self.config = backend.embed_regions, backend.config

    def margins(self, batch, regions):
        self.left -= 1
        if self.left < 0:
            raise UserError(self.error)
        self.pairs += len(batch.order)
        return self.backend.margins(batch, regions)


def margins_of(folder):
    return (Path(folder) / "margins.npy").read_bytes()


def test_the_folder(finished, data):
    assert {path.name for path in finished.iterdir()} == {
        ".lock",
        "captions.json",
        "image_ids.json",
        "margins.npy",
        "metrics.json",
        "provenance.json",
    }
    margins = np.load(finished / "margins.npy")
    assert margins.shape == (10, 50) and margins.dtype == np.float32
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["protocol"] == "10 images x 50 captions"
    assert set(metrics["i2t_retrieval"]) == {"R@1", "R@5", "R@10"} == set(metrics["t2i_retrieval"])
    assert json.loads((finished / "image_ids.json").read_text()) == data.image_ids
    assert json.loads((finished / "provenance.json").read_text())["state"] == "complete"


@pytest.mark.parametrize("batches", [2, 9, 20])
def test_a_stopped_run_goes_on_with_the_same_bytes(config, data, backend, finished, tmp_path, batches):
    with pytest.raises(UserError, match="the lights went out"):
        evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: Limited(backend, batches))
    assert json.loads((tmp_path / "provenance.json").read_text())["state"] == "in progress"
    scored = np.load(tmp_path / "finished_blocks.npy")
    assert not (tmp_path / "metrics.json").exists()
    second = Limited(backend)
    evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: second)
    assert margins_of(tmp_path) == margins_of(finished)
    blocks = [block for group in block_groups(10, 50) for block in group]
    sizes = [len(block.rows) * len(block.columns) for block in blocks]
    left = sum(size for size, done in zip(sizes, scored, strict=True) if not done)
    assert left <= second.pairs <= left + 2 * max(sizes)  # the forecast measures a few
    if batches == 20:
        assert scored.sum() >= 2  # else the test shows nothing


def test_kill_9(golden, tmp_path):
    """Killed at several moments, from the first second on; each time it goes on, and ends with the same bytes."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    recorded = []
    for blocks in (1, 3, 5):
        process = subprocess.Popen([sys.executable, SLOW, golden, tmp_path / "cache", out, "0.15"])
        stop = time.monotonic() + 120
        while _recorded(out) < blocks and time.monotonic() < stop:
            time.sleep(0.01)
        process.kill()
        process.wait()
        recorded.append(_recorded(out))
    assert recorded == sorted(recorded) and recorded[-1] < len(block_groups(10, 50)), recorded
    subprocess.run([sys.executable, SLOW, golden, tmp_path / "cache", out, "0"], check=True)
    subprocess.run([sys.executable, SLOW, golden, tmp_path / "cache", whole, "0"], check=True)  # undisturbed
    assert margins_of(out) == margins_of(whole)


def _recorded(folder):
    try:
        return int(np.load(folder / "finished_blocks.npy").sum())
    except (OSError, ValueError):
        return 0


def test_finished_margins_are_used_again(config, data, finished, caplog):
    before = (finished / "margins.npy").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        metrics = evaluate(config(), data, finished, Ranks(), None)
    assert "using them" in caplog.text and "i2t_retrieval" in metrics
    assert (finished / "margins.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "opts", [("INPUT.MAX_REGION", 11), ("INPUT.ADD_OD_LABEL", False), ("EVAL.PRECISION", "bfloat16")]
)
def test_other_settings_are_scored_again(config, data, backend, finished, tmp_path, opts):
    _copy(finished, tmp_path)
    counted = Limited(backend)
    evaluate(config(*opts), data, tmp_path, Ranks(), lambda weights, precision: counted)
    assert counted.pairs >= 500


def test_other_data_are_scored_again(config, tokenizer, backend, finished, tmp_path):
    _copy(finished, tmp_path)
    cfg = config()
    data = build_evaluation_data(cfg, tokenizer, "test")
    data.captions[7] += " indeed"
    counted = Limited(backend)
    evaluate(cfg, data, tmp_path, Ranks(), lambda weights, precision: counted)
    assert counted.pairs >= 500


@pytest.mark.parametrize("damage", ["truncated margins", "other shape", "provenance", "blocks"])
def test_damaged_results_are_not_used(config, data, backend, finished, tmp_path, damage):
    if damage == "blocks":
        with pytest.raises(UserError):
            evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: Limited(backend, 9))
        (tmp_path / "finished_blocks.npy").write_bytes(b"not numpy")
    else:
        _copy(finished, tmp_path)
    if damage == "truncated margins":
        (tmp_path / "margins.npy").write_bytes(margins_of(finished)[:-100])
    elif damage == "other shape":
        np.save(tmp_path / "margins.npy", np.zeros((3, 3), np.float32))
    elif damage == "provenance":
        (tmp_path / "provenance.json").write_text('["what?"]')
    counted = Limited(backend)
    evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: counted)
    assert counted.pairs >= 500 and margins_of(tmp_path) == margins_of(finished)


def test_another_backend_does_not_continue_half_a_run(config, data, backend, finished, tmp_path):
    with pytest.raises(UserError):
        evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: Limited(backend, 9))
    other = Limited(backend)
    other.name = "another backend"
    evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: other)
    assert other.pairs >= 500


def _copy(source, target):
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_write_the_same_bytes(config, data, backend, finished, thread_ranks, tmp_path, world_size):
    counts = [Limited(backend) for _ in range(world_size)]
    results = thread_ranks(world_size).run(
        lambda rank: evaluate(config(), data, tmp_path, rank, lambda weights, precision: counts[rank.rank])
    )
    assert margins_of(tmp_path) == margins_of(finished)
    assert all(result == results[0] for result in results) and "rsum" in results[0]
    assert min(count.pairs for count in counts) > 500 // world_size // 2  # all of them worked


def test_another_number_of_ranks_continues(config, data, backend, finished, thread_ranks, tmp_path):
    with pytest.raises(UserError):
        evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: Limited(backend, 20))
    thread_ranks(3).run(lambda rank: evaluate(config(), data, tmp_path, rank, lambda weights, precision: backend))
    assert margins_of(tmp_path) == margins_of(finished)


def test_a_ranks_error_reaches_all(config, data, backend, thread_ranks, tmp_path):
    def make(rank):
        return Limited(backend, 3, "row 7 is broken") if rank.rank == 1 else Limited(backend)

    def run(rank):
        return evaluate(config(), data, tmp_path, rank, lambda weights, precision: make(rank))

    results = thread_ranks(3).run(run)
    told = "rank 1: row 7 is broken"
    assert [str(error) for error in results] == [told, "row 7 is broken", told]


def test_nan_is_an_error_that_names_the_pair(config, data, backend, tmp_path):
    class Broken(Limited):
        def margins(self, batch, regions):
            return np.full(len(batch.order), np.nan, np.float32)

    image = data.image_ids[0]
    with pytest.raises(DataError, match=f"image {image}, caption 0 of image {image}: the margin is NaN"):
        evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: Broken(backend))


def test_a_full_disk_is_one_line(config, data, backend, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match="margins.npy: cannot be written: No space left on device"):
        evaluate(config(), data, tmp_path, Ranks(), lambda weights, precision: backend)


def test_two_runs_in_one_folder(config, data, tmp_path):
    first = EvaluationFolder(tmp_path)
    first.lock()
    with pytest.raises(UserError, match="another run is writing into this folder"):
        evaluate(config(), data, tmp_path, Ranks(), None)
    first.unlock()


def test_a_folder_that_ranks_do_not_share(tmp_path):
    with pytest.raises(UserError, match="all of them share"):
        BlockFiles(tmp_path, [], margins="margins.npy", flags="finished_blocks.npy")


def test_folds(config, data, backend, tmp_path):
    metrics = evaluate(config("EVAL.FOLDS", 5), data, tmp_path, Ranks(), lambda weights, precision: backend)
    folded = metrics["folded"]
    assert folded["protocol"] == "10 images x 50 captions (mean of 5 folds)" and len(folded["folds"]) == 5
    # Two images and ten captions a fold: far easier than ten images.
    assert folded["t2i_retrieval"]["R@1"] > metrics["t2i_retrieval"]["R@1"]
    lines = RetrievalEvaluation(config(), data=data, split="test").lines(metrics)
    assert sum(line.startswith("I2T Retrieval: ") for line in lines) == 1
    assert any(line.startswith(folded["protocol"] + ": I2T: ") for line in lines)


def test_what_could_not_be_reported_is_refused_before_scoring(config, data):
    with pytest.raises(ConfigError, match="EVAL.FOLDS is 3, which 10 images cannot be divided into"):
        RetrievalEvaluation(config("EVAL.FOLDS", 3), data=data, split="test").check()
    with pytest.raises((DataError, UserError)):
        RetrievalEvaluation(config(), data=data, split="test", annotation_ids=list(range(50))).check()
