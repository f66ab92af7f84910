"""Progress, records, scalars and the picture of a run."""

import json
import logging
import sys

import pytest

from oscar_paddle.config import progress
from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.curves import curve_values
from oscar_paddle.solvers.monitor import Monitor
from oscar_paddle.solvers.run_folder import RunFolder

METRICS = {
    "i2t_retrieval": {"R@1": 0.25, "R@5": 0.5},
    "i2t_standard_error": {"R@1": 0.04, "R@5": 0.05},  # no curve of its own
    "t2i_retrieval": {"R@1": 0.125, "R@5": 0.25},
    "rsum": 112.5,
}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def options(**changes):
    monitor = get_cfg_defaults().MONITOR
    monitor.PRINT_STEP = 5
    for key, value in changes.items():
        monitor[key] = value
    return monitor


def update(step, loss=0.5, grad_norm=2.0):
    return {"step": step, "epoch": 1, "loss": loss, "lr": 1e-4, "grad_norm": grad_norm}


def evaluation(step, score):
    return {"step": step, "epoch": 1, "score": score, "best_score": score, "metrics": METRICS}


def test_a_line_for_every_step(folder):
    monitor = Monitor(folder, total_steps=10, first_step=0, options=options(), active=True)
    for step in (1, 2):
        monitor.step(update(step, loss=0.1 * step), num_pairs=32, seconds=0.5, waited=0.1)
    monitor.close()
    lines = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    speed = {"pairs_per_s": 64.0, "waited_s": 0.1}
    assert lines == [{**update(step, loss=0.1 * step), **speed} for step in (1, 2)]


def test_log_lines_are_means(folder, caplog):
    caplog.set_level(logging.INFO)
    monitor = Monitor(folder, total_steps=12, first_step=0, options=options(), active=True)
    for step in range(1, 13):
        monitor.step(update(step, loss=float(step), grad_norm=None if step == 5 else 1.0), 10, 2.0 if step > 5 else 1.0)
    monitor.summary("training is complete")
    monitor.close()
    assert (
        "step 5 of 12, epoch 1: loss 3.0000 (mean of the last 5), lr 1.000e-04, gradient norm overflow, upd"
        in caplog.text
    )
    assert "step 10 of 12, epoch 1: loss 8.0000 (mean of the last 5)" in caplog.text
    assert "gradient norm 1.000, 5.0 pairs/s" in caplog.text
    assert "step 12 of 12, epoch 1: loss 11.5000 (mean of the last 2)" in caplog.text
    assert "training is complete; 120 pairs in " in caplog.text


def test_bar(folder, capsys, monkeypatch):
    """Loss, learning rate, pairs a second and the time left, also from where a resumed run starts."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    monitor = Monitor(folder, total_steps=12, first_step=10, options=options(), active=True)
    monitor.step(update(11), 32, 0.5)
    monitor.close()
    line = capsys.readouterr().err.splitlines()[-1]
    for part in ("training", "11 of 12", "loss=0.5000", "lr=1.00e-04", "pairs/s=64.0", "<"):
        assert part in line


def test_picture_after_an_evaluation(folder):
    """Loss, learning rate and recall; also for tasks whose metrics have no recall."""
    monitor = Monitor(folder, total_steps=10, first_step=0, options=options(), active=True)
    for step in range(1, 6):
        monitor.step(update(step), 32, 0.5)
    monitor.evaluation(evaluation(5, 0.1875))
    picture = (folder.path / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
    monitor.evaluation({**evaluation(5, 0.2), "metrics": {"accuracy": 0.2}})
    assert (folder.path / "curves.png").read_bytes() != picture
    monitor.close()


def test_visualdl(folder):
    from visualdl import LogReader

    monitor = Monitor(folder, total_steps=10, first_step=0, options=options(VISUALDL=True), active=True)
    monitor.step(update(1), 32, 0.5)
    monitor.step(update(2, grad_norm=None), 32, 0.5)
    monitor.evaluation(evaluation(2, 0.1875))
    monitor.close()
    (file,) = (folder.path / "visualdl").iterdir()
    reader = LogReader(file_path=str(file))

    def values(tag):
        return [(record.id, round(record.value, 6)) for record in reader.get_data("scalar", tag)]

    assert values("train/loss") == [(1, 0.5), (2, 0.5)]
    assert values("train/grad_norm") == [(1, 2.0)]
    assert values("dev/score") == [(2, 0.1875)]
    assert values("dev/i2t_retrieval R@1") == [(2, 0.25)]


def test_without_visualdl_one_line_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "visualdl", None)
    with pytest.raises(UserError, match=r"MONITOR.VISUALDL needs .* pip install 'oscar-paddle\[visualdl\]'$"):
        Monitor(folder, total_steps=10, first_step=0, options=options(VISUALDL=True), active=True)


def test_other_ranks_are_silent(folder, capsys):
    monitor = Monitor(folder, total_steps=10, first_step=0, options=options(VISUALDL=True), active=False)
    monitor.step(update(1), 32, 0.5)
    monitor.evaluation(evaluation(1, 0.2))
    monitor.summary("training is complete")
    monitor.close()
    assert list(folder.path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_curve_values():
    assert curve_values(METRICS) == {"i2t_retrieval R@1": 0.25, "t2i_retrieval R@1": 0.125}
    assert curve_values({"accuracy": 0.5, "by_type": {"yes/no": 0.7}}) == {}
