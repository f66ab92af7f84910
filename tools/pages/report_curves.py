"""Learning curves of a run folder as SVG that follows the page's colours."""

import json
import math
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.markup import element

WIDTH, HEIGHT = 460, 230  # drawing units
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34  # margins around the axes
MAX_POINTS = 400  # of one line


def read_run(run_folder):
    """Records of `metrics.jsonl`: one for each step, and one for each evaluation.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    path = Path(run_folder) / "metrics.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --run_folder is the folder that training wrote") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a log of training, one JSON object a line: {error}") from None


def learning_curves(records):
    """Charts of the loss and, where dev was evaluated, of R@1 or another task's score, each a figure with a caption.

    Args:
        records: list of dicts from `read_run`.
    Returns:
        list of Html, empty where there is nothing to draw.
    """
    steps = [(record["step"], record["loss"]) for record in records if "loss" in record]
    charts = []
    if len(steps) > 1:
        smooth = _smoothed(steps)
        words = f"Training loss, {smooth[0][1]:.3f} at first and {smooth[-1][1]:.3f} at the end"
        charts.append(_chart(words, [("loss", smooth)], max(y for _, y in smooth)))
    scores = [record for record in records if "score" in record]
    lines = []
    for key, label in (("i2t_retrieval", "text retrieval"), ("t2i_retrieval", "image retrieval")):
        points = [(r["step"], 100 * r["metrics"][key]["R@1"]) for r in scores if key in r["metrics"]]
        if points:
            lines.append((label, points))
    points = [(r["step"], 100 * r["score"]) for r in scores]
    if points and not lines:
        words = f"Score in % on the development questions, at the end {points[-1][1]:.1f}"
        charts.append(_chart(words, [("score", points)], 100))
    if lines:
        words = "R@1 in % on the development pictures, at the end: "
        words += ", ".join(f"{label} {points[-1][1]:.1f}" for label, points in lines)
        charts.append(_chart(words, lines, 100))
    return charts


def _smoothed(points):
    """Means of runs of neighbouring steps, at most MAX_POINTS of them."""
    size = max(1, len(points) // 60, math.ceil(len(points) / MAX_POINTS))
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[-1][0], math.fsum(y for _, y in run) / len(run)) for run in runs]


def _chart(words, lines, top):
    """A figure with axes from 0 to `top` and one line for each (label, points)."""
    last = max(x for _, points in lines for x, _ in points)
    x_ticks, y_ticks = _ticks(last), _ticks(top, math.ceil)
    top = y_ticks[-1]

    def x_at(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * x / last

    def y_at(y):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top

    shapes = []
    for y in y_ticks:
        at = f"{y_at(y):.1f}"
        shapes.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        shapes.append(element("text", f"{y:g}", x=LEFT - 6, y=f"{y_at(y) + 4:.1f}", text_anchor="end"))
    for x in x_ticks:
        anchor = "end" if x_at(x) > WIDTH - 30 else "middle"
        shapes.append(element("text", f"{x:,g}", x=f"{x_at(x):.1f}", y=HEIGHT - BOTTOM + 16, text_anchor=anchor))
    shapes.append(element("text", "training step", x=WIDTH - RIGHT, y=HEIGHT - 3, text_anchor="end"))
    for number, (_, points) in enumerate(lines):
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in points)
        shapes.append(element("polyline", points=path, class_=f"line{number}"))
        if len(points) < 40:
            shapes += [
                element("circle", cx=f"{x_at(x):.1f}", cy=f"{y_at(y):.1f}", r=3, class_=f"line{number}")
                for x, y in points
            ]
    drawing = element("svg", *shapes, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=words)
    legend = [element("span", label, class_=f"key{number}") for number, (label, _) in enumerate(lines)]
    return element("figure", drawing, element("figcaption", words, element("span", legend, class_="legend")))


def _ticks(top, whole=math.floor):
    """About four round numbers from 0 up to `top`: the last one just below it, or above it with math.ceil."""
    if not top > 0:
        return [0, 1]
    rough = top / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    return [round(number * step, 10) for number in range(whole(round(top / step, 9)) + 1)]
