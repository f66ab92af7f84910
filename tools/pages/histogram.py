"""A histogram as SVG that follows the colours of a report page; what lies beyond a limit stands out."""

import math

import numpy as np

from oscar_paddle.tools.pages.markup import element

WIDTH, HEIGHT = 460, 210  # drawing units
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 38  # margins around the axes
MOST_BARS = 50


def draw_histogram(histogram):
    """A figure with a heading, the drawing and a sentence.

    Args:
        histogram: `dataset_figures.Histogram`.
    Returns:
        Html.
    """
    starts, width, heights = bars(histogram.counts, histogram.limit)
    top, last = max(1, int(heights.max())), int(starts[-1]) + width
    x_scale = (WIDTH - LEFT - RIGHT) / (last - int(starts[0]))
    y_scale = (HEIGHT - TOP - BOTTOM) / top

    def x_at(value):
        return LEFT + (value - int(starts[0])) * x_scale

    floor, shapes = HEIGHT - BOTTOM, []
    for height in {top, top // 2} - {0}:  # lines at half and full height
        y = f"{floor - height * y_scale:.1f}"
        shapes.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        shapes.append(element("text", _short(height), x=LEFT - 6, y=float(y) + 4, text_anchor="end"))
    for start, height in zip(starts.tolist(), heights.tolist(), strict=True):
        if height:
            beyond = histogram.limit is not None and start > histogram.limit
            values = f"{start}" if width == 1 else f"{start} to {start + width - 1}"
            bar = {"x": f"{x_at(start) + 0.5:.1f}", "width": f"{max(1, width * x_scale - 1):.1f}"}
            size = max(1.0, height * y_scale)
            words = element("title", f"{values} {histogram.unit}: {height:,}")
            shapes.append(
                element(
                    "rect",
                    words,
                    **bar,
                    y=f"{floor - size:.1f}",
                    height=f"{size:.1f}",
                    class_="beyond-limit" if beyond else "bar",
                )
            )
    for value in _ticks(int(starts[0]), last - width):
        x = f"{x_at(value + 0.5):.1f}"
        shapes.append(element("text", f"{value:,}", x=x, y=floor + 16, text_anchor="middle"))
    shapes.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    shapes.append(element("text", histogram.unit, x=WIDTH - RIGHT, y=HEIGHT - 5, text_anchor="end"))
    shapes += _limit_line(histogram, starts, last, x_at, floor)
    words = f"{histogram.title}. {histogram.words}".strip()
    drawing = element("svg", *shapes, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=words)
    caption = element("figcaption", element("b", histogram.title), " ", histogram.words)
    return element("figure", caption, drawing)


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
    starts = np.arange(first, last + 1, width)
    padded = np.zeros(len(starts) * width, np.int64)
    for value in used.tolist():
        padded[value - first] = counts[value]
    return starts, width, padded.reshape(-1, width).sum(axis=1)


def _limit_line(histogram, starts, last, x_at, floor):
    limit = histogram.limit
    if limit is None or not starts[0] <= limit + 1 <= last:
        return []
    x = x_at(limit + 1)
    anchor = "end" if x > (LEFT + WIDTH) / 2 else "start"
    text = f"{histogram.limit_name} {limit}"
    return [
        element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=TOP - 8, y2=floor, class_="limit"),
        element("text", text, x=f"{x + (-5 if anchor == 'end' else 5):.1f}", y=TOP - 10, text_anchor=anchor),
    ]


def _ticks(first, last):
    """About six round numbers from first to last."""
    rough = max(1.0, (last - first) / 6)
    unit = 10 ** math.floor(math.log10(rough))
    step = max(1, int(next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)))
    return range(-(-first // step) * step, last + 1, step)


def _short(count):
    return f"{count / 1000:.4g}k" if count >= 10_000 else f"{count:,.4g}"
