"""The curves of a training run, as `curves.png` and the pages for people show them. Matplotlib loads when it draws."""

import math
from typing import NamedTuple

MOST_POINTS = 60  # of a smoothed line, about
_FEW = 40  # points of a line that are worth a mark each


class Curves(NamedTuple):
    """What the log of a run says of its course.

    Attributes:
        losses, rates: [(step, loss or learning rate), ...] of every update.
        figures: {name: [(step, value), ...]} of every update: what a task reports beside its loss.
        scores: {name: [(step, percent), ...]} of the evaluations: see `curve_values`, or else "score".
        best: step of the best evaluation, or None.
        dev_losses: {name: [(step, loss), ...]} of the evaluations, of those that measure "losses".
    """

    losses: list
    rates: list
    figures: dict
    scores: dict
    best: int | None
    dev_losses: dict


def read_curves(records):
    """Curves of the records of `metrics.jsonl`, dicts of one update or one evaluation each."""
    updates = [record for record in records if "loss" in record]
    found = [(r["step"], {"score": r["score"], **curve_values(r["metrics"])}) for r in records if "score" in r]
    figures = updates[0].get("figures", {}) if updates else {}
    last = found[-1][1] if found else {}
    names = [name for name in last if name != "score"] or list(last)  # the score itself where there is no recall
    scores = {name: [(step, 100 * values[name]) for step, values in found if name in values] for name in names}
    return Curves(
        losses=[(r["step"], r["loss"]) for r in updates],
        rates=[(r["step"], r["lr"]) for r in updates if "lr" in r],
        figures={name: [(r["step"], r["figures"][name]) for r in updates] for name in figures},
        scores=scores,
        dev_losses=_dev_losses(records),
        best=max(found, key=lambda item: item[1]["score"])[0] if found else None,
    )


def _dev_losses(records):
    found = [(r["step"], r["metrics"]["losses"]) for r in records if "losses" in r.get("metrics", ())]
    names = found[-1][1] if found else ()
    return {f"dev, {name}": [(step, losses[name]) for step, losses in found if name in losses] for name in names}


def curve_values(metrics):
    """{name: fraction} of an evaluation that are worth a line: its "curves", or R@1 of each direction of retrieval."""
    recalls = {f"{name} R@1": group["R@1"] for name, group in metrics.items() if name.endswith("_retrieval")}
    return metrics.get("curves", recalls)


def smoothed(points):
    """(means of runs of neighbouring points, each at the last of its run; how many points a run has)."""
    size = max(1, len(points) // MOST_POINTS)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[-1][0], math.fsum(y for _, y in run) / len(run)) for run in runs], size


def draw_lines(axes, lines, colours=(None, None)):
    """Draw {label: [(x, y), ...]} into Matplotlib axes, points marked where they are few."""
    for (label, points), colour in zip(lines.items(), colours, strict=False):
        _plot(axes, points, label=label, color=colour, marker="o" if len(points) < _FEW else None)


def _plot(axes, points, **options):
    axes.plot([x for x, _ in points], [y for _, y in points], **options)


def draw_run(records, title):
    """Loss, learning rate and development scores by step.

    Args:
        records: of `metrics.jsonl`, with at least one update and one evaluation.
    Returns:
        Matplotlib figure.
    """
    from matplotlib.figure import Figure

    curves = read_curves(records)
    figure = Figure(figsize=(8, 12 if curves.figures else 9), layout="constrained")
    top, *between, middle, bottom = figure.subplots(4 if curves.figures else 3, 1, sharex=True)
    means, size = smoothed(curves.losses)
    if size > 1:
        _plot(top, curves.losses, color="0.8", label="each step")
    draw_lines(top, {f"mean of {size} steps" if size > 1 else "each step": means})
    draw_lines(top, curves.dev_losses, [None] * len(curves.dev_losses))
    top.set_ylabel("loss" if curves.dev_losses else "training loss")
    top.legend()
    for axes in between:
        draw_lines(axes, {name: smoothed(points)[0] for name, points in curves.figures.items()}, [None] * 9)
        axes.set_ylabel("training figures")
        axes.legend()
    _plot(middle, curves.rates)
    middle.set_ylabel("learning rate")
    draw_lines(bottom, curves.scores)
    bottom.axvline(curves.best, color="0.7", linestyle=":", label=f"best: step {curves.best}")
    bottom.set_ylabel("dev, %")
    bottom.set_xlabel("optimizer step")
    bottom.legend()
    figure.suptitle(title)
    return figure
