"""Charts as SVG inside a page, which follow its colours, light and dark: learning curves and histograms."""

import io
import json
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.curves import draw_lines, read_curves, smoothed

WIDTH, HEIGHT = 460, 220  # drawing units
MOST_BARS = 50
# Matplotlib wants colours; the page's style sheet knows them. These stand for its variables in the drawing.
BAR, BAR2, SOFT, LINE = "#00000a", "#00000b", "#00000c", "#00000d"
_VARIABLES = {BAR: "var(--bar)", BAR2: "var(--bar2)", SOFT: "var(--soft)", LINE: "var(--line)"}
_STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), SOFT),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), LINE),
    **dict.fromkeys(("axes.spines.left", "axes.spines.right", "axes.spines.top"), False),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0),
    **{"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.linewidth": 1},
    **{"font.size": 11, "lines.linewidth": 2, "lines.markersize": 6, "svg.fonttype": "none"},
}
_LABELS = {"i2t_retrieval R@1": "text retrieval", "t2i_retrieval R@1": "image retrieval"}


class Chart(NamedTuple):
    """A drawing, what it shows in words, and the names of its lines, if any."""

    svg: Markup
    words: str
    legend: list
    title: str = ""


def read_run(run_folder):
    """Records of `metrics.jsonl`, one for each step and one for each evaluation; DataError where it is not whole."""
    path = Path(run_folder) / "metrics.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --run_folder is the folder that training wrote") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a log of training, one JSON object a line: {error}") from None


def learning_curves(records):
    """Charts of the loss and, where dev was evaluated, of R@1 or another task's score; none where nothing is known."""
    curves, charts = read_curves(records), []
    if len(curves.losses) > 1:
        means, _ = smoothed(curves.losses)
        words = f"Training loss, {means[0][1]:.3f} at first and {means[-1][1]:.3f} at the end"
        charts.append(_line_chart(words, {"loss": means}))
    if curves.scores:
        lines = {_LABELS.get(name, name): points for name, points in curves.scores.items()}
        ends = ", ".join(f"{label} {points[-1][1]:.1f}" for label, points in lines.items())
        words = f"R@1 in % on the development pictures, at the end: {ends}"
        if "score" in lines:
            words = f"Score in % on the development questions, at the end {lines['score'][-1][1]:.1f}"
        charts.append(_line_chart(words, lines, top=100))
    return charts


def _line_chart(words, lines, top=None):
    """Axes from 0 up to `top` (None: above the highest point)."""

    def draw(axes):
        draw_lines(axes, lines, (BAR, BAR2))
        axes.set_ylim(0, top)
        axes.set_xlim(0)
        axes.locator_params("both", nbins=5)
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel("training step", loc="right")

    return Chart(_svg(draw, words), words, list(lines))


def histogram(title, words, unit, values, limit=None, limit_name=""):
    """A distribution of whole numbers as a Chart; what lies beyond a limit stands out.

    Args:
        title: of what. words: what follows from it, one sentence. unit: of the values.
        values: [n] int, at least one, from 0 on.
        limit: the value from which something is cut, or None; limit_name: the key that sets it.
    """
    starts, width, heights = bars(np.bincount(values), limit)

    def draw(axes):
        for start, height in zip(starts.tolist(), heights.tolist(), strict=True):
            if height:
                beyond = limit is not None and start > limit
                at = start + (width - 1) / 2  # a bar is as wide as its values, each in the middle of its place
                (bar,) = axes.bar(at, height, 0.92 * width, color=BAR2 if beyond else BAR)
                shown = f"{start}" if width == 1 else f"{start} to {start + width - 1}"
                bar.set_gid(f"{shown} {unit}: {height:,}")
        if limit is not None and starts[0] <= limit + 1 <= starts[-1] + width:
            axes.axvline(limit + 0.5, color=BAR2, linewidth=1.5, linestyle=(0, (4, 3)))
            side = "right" if limit > (starts[0] + starts[-1]) / 2 else "left"
            gap = -5 if side == "right" else 5
            place = {"xytext": (gap, 3), "textcoords": "offset points", "ha": side}
            axes.annotate(f"{limit_name} {limit}", (limit + 0.5, 1), xycoords=axes.get_xaxis_transform(), **place)
        axes.locator_params("x", nbins=7, integer=True)
        axes.locator_params("y", nbins=4, integer=True)
        axes.yaxis.set_major_formatter(lambda count, _: f"{count / 1000:.4g}k" if count >= 10_000 else f"{count:,.4g}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel(unit, loc="right")

    return Chart(_svg(draw, f"{title}. {words}".strip()), words, [], title)


def bars(counts, limit):
    """Bars of equal width in whole numbers, one of them ending at the limit.

    Args:
        counts: [n] int, how often each value 0 .. n - 1 occurs; not all zero.
        limit: int or None.
    Returns:
        (first value of each bar [b] int64, values in a bar, heights [b] int64).
    """
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1])
    width = math.ceil((last - first + 1) / MOST_BARS)
    if limit is not None:
        first -= (first - limit - 1) % width  # a bar starts just beyond the limit
    edges = np.arange(first, last + width + 1, width)
    heights, _ = np.histogram(used, edges, weights=counts[used])
    return edges[:-1], width, heights.astype(np.int64)


def _svg(draw, words):
    """The axes that `draw(axes)` fills, as SVG for a page; the same for the same content."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": words}):
        figure = Figure((WIDTH / 72, HEIGHT / 72), layout="constrained")
        axes = figure.subplots()
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r".*?<svg [^>]*>|<style.*?</style>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="([^"]* [^"]*)">', r"<g><title>\1</title>", text)  # a name in words is for the pointer
    text = re.sub(r' id="[a-z0-9.]+_[0-9]+"', "", text).replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">{text}')
