"""Charts inside pages: learning curves and histograms."""

import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.charts import MOST_BARS, bars, histogram, learning_curves, read_run


def paths(svg):
    """[([(x, y), ...], what it is drawn with, its colour), ...] of a drawing, which must be well-formed."""
    found = []
    for path in xml.etree.ElementTree.fromstring(svg).iter("path"):
        points = [tuple(map(float, point)) for point in re.findall(r"[ML] (\S+) (\S+)", path.get("d"))]
        kind, colour = re.search(r"(stroke|fill): (var\(--\w+\)|#\w+)", path.get("style", "fill: #0")).groups()
        found.append((points, kind, colour))
    return found


def test_curves_follow_the_log(tmp_path):
    records = [{"step": step, "loss": 1 / step, "lr": 1e-3} for step in range(1, 1001)]
    metrics = {"i2t_retrieval": {"R@1": 0.25}, "t2i_retrieval": {"R@1": 0.5}}
    records += [{"step": 500, "score": 0.3, "metrics": {"i2t_retrieval": {"R@1": 0.1}}}]
    records += [{"step": 1000, "score": 0.4, "metrics": metrics}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    loss, recall = learning_curves(read_run(tmp_path))
    (line,) = [path for path in paths(loss.svg) if path[2] == "var(--bar)"]
    heights = [y for _, y in line[0]]
    assert 50 <= len(heights) <= 400 and heights == sorted(heights)  # the loss falls, so the line goes down
    assert "0.001 at the end" in loss.words and loss.legend == ["loss"]
    assert "text retrieval 25.0, image retrieval 50.0" in recall.words
    assert recall.legend == ["text retrieval", "image retrieval"] and "var(--bar2)" in recall.svg
    assert learning_curves(records[:1000])[0].svg == loss.svg, "the same content gives the same drawing"
    assert learning_curves([]) == []


def test_scores_of_another_task():
    records = [{"step": step, "score": step / 10, "metrics": {"accuracy": step / 10}} for step in (1, 2)]
    (chart,) = learning_curves(records)
    assert chart.words == "Score in % on the development questions, at the end 20.0" and chart.legend == ["score"]


def test_damaged_run_folder(tmp_path):
    with pytest.raises(DataError, match="metrics.jsonl: no such file"):
        read_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    with pytest.raises(DataError, match="metrics.jsonl: not a log of training"):
        read_run(tmp_path)


def test_a_histogram_shows_counts_and_what_lies_beyond_the_limit():
    values = np.repeat([3, 4, 5, 6], [10, 20, 5, 1])
    chart = histogram("Regions", "1 <of> 36 is cut.", "regions", values, limit=5, limit_name="MAX_REGION")
    svg = str(chart.svg)
    bars_of = {
        colour: [points for points, kind, c in paths(svg) if kind == "fill" and c == colour]
        for colour in ("var(--bar)", "var(--bar2)")
    }
    heights = [max(y for _, y in points) - min(y for _, y in points) for points in bars_of["var(--bar)"]]
    assert np.allclose(np.array(heights) / heights[1], [0.5, 1, 0.25], atol=1e-4)
    assert len(bars_of["var(--bar2)"]) == 1
    assert re.findall("<title>(.*?)</title>", svg) == [
        f"{v} regions: {n}" for v, n in ((3, 10), (4, 20), (5, 5), (6, 1))
    ]
    assert "MAX_REGION 5" in svg and 'aria-label="Regions. 1 &lt;of&gt; 36 is cut."' in svg
    assert "#0000" not in svg and "http" not in svg and "<style" not in svg
    assert svg == histogram("Regions", "1 <of> 36 is cut.", "regions", values, limit=5, limit_name="MAX_REGION").svg


def test_names_inside_two_drawings_differ():
    ids = [set(re.findall(r' id="([^"]+)"', histogram(t, "", "x", np.array([1, 2, 9]), 4, "L").svg)) for t in "ab"]
    assert not ids[0] & ids[1]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60), st.none() | st.integers(0, 300))
def test_bars_hold_every_value_once_and_end_at_the_limit(values, limit):
    starts, width, heights = bars(np.bincount(values), limit)
    assert len(starts) <= MOST_BARS + 1 and heights.sum() == len(values)
    for start, height in zip(starts.tolist(), heights.tolist(), strict=True):
        assert height == sum(start <= value < start + width for value in values)
        assert limit is None or not start <= limit < start + width - 1, "no bar is on both sides"
