"""The measuring tools: what they print, not how fast the machine is. bench_train is in test_train_retrieval.py."""

import argparse
import json
import multiprocessing
import subprocess
import sys

import pytest

from oscar_paddle.config.errors import UserError
from oscar_paddle.tools.bench.worker import Worker

pytestmark = pytest.mark.slow


def run(repository, tool, *words):
    command = [sys.executable, repository / "tools" / tool, *words]
    return subprocess.run(list(map(str, command)), text=True, capture_output=True)


def test_bench_eval(repository, tmp_path):
    words = ("--hidden", 64, "--layers", 2, "--seconds", 0.8, "--work_dir", tmp_path)
    done = run(repository, "bench_eval.py", *words, "--variants", "published,inference-float32")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    published, ours = report["variants"]["published"], report["variants"]["inference-float32"]
    assert published["ratio"] == 1.0 and published["largest_margin_difference"] == 0.0
    assert ours["ratio"] == pytest.approx(ours["pairs_per_s"] / published["pairs_per_s"])
    assert 0 < ours["largest_margin_difference"] < 1e-4  # another way to the same margins
    assert ours["padding"] < 0.03 < 0.15 < published["padding"] < 0.4
    assert report["matrix_product_gflops"]["numpy"] > ours["useful_gflops"] > 0


def test_bench_eval_names_what_it_does_not_know(repository):
    done = run(repository, "bench_eval.py", "--variants", "published,fast")
    assert done.returncode == 1 and done.stderr.startswith("error: --variants: 'fast' is unknown")


def test_bench_captioning(repository, tmp_path):
    words = ("--hidden", 64, "--layers", 2, "--images", 3, "--rounds", 1, "--beams", 2, "--max_length", 5)
    words += ("--variants", "published,inference-float32,inference-bfloat16")
    words += ("--scst_images", 1, "--scst_samples", 2, "--scst_rounds", 1)
    done = run(repository, "bench_captioning.py", *words, "--work_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    published, ours = report["variants"]["published"], report["variants"]["inference-float32"]
    assert (published["images"], ours["images"]) == (1, 3)
    assert ours["to_published"]["same_captions"] and ours["to_published"]["largest_score_difference"] < 1e-4
    ratio = published["seconds_an_image"] / ours["seconds_an_image"]
    assert ours["to_published"]["times_as_fast"] == pytest.approx(ratio)
    assert 0 < ours["useful_share_of_matrix_product"] < 1
    assert ("inference-bfloat16" in report["missing"]) != ("inference-bfloat16" in report["variants"])
    steps = report["self_critical_training"]
    assert steps["seconds_per_step"].keys() == {"published", "ours", "ours_shared_prefix"} > steps["ratio"].keys()
    assert abs(steps["loss"]) > 0.01 and steps["loss_difference"] < 1e-4  # without dropout all ways are one
    assert 0 < steps["reward_share"]["ours"] < 1


def test_bench_captioning_names_what_it_does_not_know(repository):
    done = run(repository, "bench_captioning.py", "--published_images", 30)
    assert (done.returncode, done.stderr) == (1, "error: --published_images is 30, expected 1 to 22 (--images)\n")


def test_bench_scale(repository):
    done = run(repository, "bench_scale.py", "--sizes", "20x100,40x200")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert (first["pairs"], second["pairs"]) == (2000, 8000)
    assert second["growth"]["pairs"] == 4.0 and second["growth"]["peak_memory_gib"] < 1.3
    assert second["ranking_seconds"] < second["seconds"]


def test_bench_scale_names_what_is_no_size(repository):
    done = run(repository, "bench_scale.py", "--sizes", "20x100,big")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --sizes: 'big' is not a size such as 1000x5000\n"


def test_what_stops_a_worker_is_said_under_its_name(tmp_path):
    (tmp_path / "20x100").mkdir()
    (tmp_path / "20x100" / "features.tsv").write_text("")
    args = argparse.Namespace(out=tmp_path, hidden=32, layers=1, batch_tokens=512)
    with (
        Worker("scale.Scale", "20x100", args) as worker,
        pytest.raises(UserError, match="20x100 stopped: .*features.tsv"),
    ):
        worker.ask("run")


def test_a_process_that_is_killed_is_named():
    with Worker("scale.Scale", "20x100", argparse.Namespace()) as worker:
        multiprocessing.active_children()[0].kill()
        with pytest.raises(UserError, match="20x100 stopped without a word"):
            worker.ask("run")


def test_bench_start(repository):
    done = run(repository, "bench_start.py", "--old", repository, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    floor = report.pop("import paddle")
    assert set(report) == {"help", "score_pairs", "eval_retrieval, first", "eval_retrieval, again"}
    assert all(times["ratio"] == times["new"] / times["old"] for times in report.values())
    assert report["help"]["new"] < floor < report["eval_retrieval, first"]["new"]


def test_bench_start_names_a_folder_that_is_no_working_tree(repository, tmp_path):
    done = run(repository, "bench_start.py", "--old", tmp_path)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}: no working tree of this project with its tests\n")


def test_bench_refer(repository):
    words = ("--width", 96, "--layers", 2, "--expressions", 6, "--rounds", 1, "--rows", "5,9")
    done = run(repository, "bench_refer.py", *words)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [(found["what"], found["region_rows"]) for found in results] == [
        ("scoring", 5),
        ("scoring", 9),
        ("training", 5),
    ]
    for found in results:
        rates = found["expressions_per_second"]
        assert found["ratio_default"] == pytest.approx(rates["ours"] / rates["published_default"])
        assert found.get("largest_score_difference", 0) <= 2e-5


def test_bench_refer_names_what_it_cannot_measure(repository):
    for words, message in ((("--rows", "5,x"), "--rows: '5,x', expected"), (("--expressions", 8), "a multiple of 6")):
        done = run(repository, "bench_refer.py", *words)
        assert done.returncode == 1 and message in done.stderr
