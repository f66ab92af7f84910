"""The report page of retrieval: evaluation folders read back, queries picked and ranked, the page."""

import itertools
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oscar_paddle.config.errors import DataError, UserError
from oscar_paddle.solvers.metrics.retrieval import (
    candidate_ranks,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)
from oscar_paddle.tools.pages.page import fair_sample, write_page
from oscar_paddle.tools.pages.retrieval import RetrievalResults, chance_recall, hardest, write_report

HOSTILE = "</h3><script>alert('x')</script> & \"quoted\" <b>"


def write_evaluation(folder, margins, image_ids, captions, metrics=None, **provenance):
    """An evaluation folder; captions: (image id, text) for every column, or a list of them for every image."""
    folder.mkdir(exist_ok=True)
    margins = np.asarray(margins, np.float32)

    def named(rows):
        return [{"image_id": image_id, "number": n, "caption": text} for n, (image_id, text) in enumerate(rows)]

    has_candidates = isinstance(captions[0], list)
    if metrics is None and has_candidates:
        own = [[i == image_id for i, _ in row] for image_id, row in zip(image_ids, captions, strict=True)]
        metrics = retrieval_metrics(candidate_ranks(margins, np.array(own)), num_candidates=margins.shape[1])
    elif metrics is None:
        owner = np.array([image_ids.index(image_id) for image_id, _ in captions])
        metrics = retrieval_metrics(image_to_text_ranks(margins, owner), text_to_image_ranks(margins, owner))
    np.save(folder / "margins.npy", margins)
    files = {"image_ids": image_ids, "metrics": metrics, "provenance": provenance}
    files["captions"] = [named(row) for row in captions] if has_candidates else named(captions)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


@pytest.fixture
def small(tmp_path):
    """Three images, a caption each; the second caption ties between its own and a wrong image."""
    margins = [[2.0, 1.0, 0.5], [1.0, 1.0, 3.0], [-1.0, 0.0, 0.25]]
    return write_evaluation(tmp_path / "eval", margins, [11, 7, 30], [(11, "one"), (7, "two"), (30, "three")])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (11, 7, 30):
        Image.new("RGB", (40, 30), (number * 8, 90, 20)).save(folder / f"{number}.png")
    return folder


# ---- reading ----


def test_queries_are_ranked_by_margin_and_ties_go_against_the_right_answer(small):
    results = RetrievalResults(small)
    query = results.caption_query(1)
    assert [(hit.rank, hit.index, hit.is_right) for hit in query.hits] == [(1, 0, False), (2, 1, True), (3, 2, False)]
    assert query.right == query.hits[1]
    query = results.image_query(2, count=1)  # its best is caption 2, its own
    assert [(hit.rank, hit.index, hit.margin, hit.is_right) for hit in query.hits] == [(1, 2, 0.25, True)]
    assert results.describe(7) == "two" and results.describe(8) == ""


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 3))
def test_shown_ranks_are_those_of_the_metrics(tmp_path_factory, seed, num_images, per_image):
    rng = np.random.default_rng(seed)
    margins = rng.integers(0, 4, (num_images, num_images * per_image)).astype(np.float32)  # many ties
    captions = [(image, "x") for image in range(num_images) for _ in range(per_image)]
    folder = tmp_path_factory.mktemp("eval")
    results = RetrievalResults(write_evaluation(folder, margins, list(range(num_images)), captions))
    for image, rank in enumerate(results.i2t_ranks):
        assert results.image_query(image).right.rank == rank + 1
    for caption, rank in enumerate(results.t2i_ranks):
        assert results.caption_query(caption).right.rank == rank + 1


def test_candidate_lists_have_pictures_as_queries_only(tmp_path):
    captions = [[(7, "own"), (8, "other")], [(9, "foreign"), (7, "strange")]]
    results = RetrievalResults(write_evaluation(tmp_path, [[0.0, 1.0], [1.0, 2.0]], [7, 8], captions))
    assert results.has_candidates and results.t2i_ranks is None
    query = results.image_query(0)
    assert [results.caption(0, hit.index)["caption"] for hit in query.hits] == ["other", "own"]
    assert query.right.rank == 2 and results.image_query(1).right is None
    assert results.chance() == {"i2t_retrieval": {"R@1": 0.25, "R@5": 0.5, "R@10": 0.5}}


@pytest.mark.parametrize("name", ["margins.npy", "image_ids.json", "captions.json", "metrics.json"])
def test_missing_and_damaged_files_are_named(small, name):
    (small / name).write_bytes(b"\x80 no such format")
    with pytest.raises(DataError, match=f"{name}: not a"):
        RetrievalResults(small)
    (small / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        RetrievalResults(small)


def test_files_that_do_not_belong_together_are_refused(small):
    good = {path.name: path.read_bytes() for path in small.iterdir()}

    def refused(match, **changed):
        for name, content in good.items():
            (small / name).write_bytes(content)
        for name, value in changed.items():
            (small / f"{name}.json").write_text(json.dumps(value))
        with pytest.raises(DataError, match=match):
            RetrievalResults(small)

    captions = json.loads(good["captions.json"])
    refused(r"margins.npy: holds float32 \[3, 3\]; expected .* 2 images", image_ids=[11, 7])
    refused("captions.json: 2 captions; expected 3", captions=captions[:2])
    refused("a caption of image 5, which is not in", captions=[{**captions[0], "image_id": 5}, *captions[1:]])
    refused("entry 0 is 'text'", captions=["text", *captions[1:]])
    refused("image_ids.json: holds a dict; expected a list", image_ids={})
    refused("metrics.json: i2t_retrieval R@1 is None", metrics={})
    metrics = json.loads(good["metrics.json"])
    metrics["t2i_retrieval"]["R@1"] += 0.01
    refused("metrics.json: t2i_retrieval R@1 is .* evaluate again", metrics=metrics)
    refused("not finished", provenance={"state": "in progress"})
    margins = np.load(small / "margins.npy")
    margins[1, 2] = np.nan
    np.save(small / "margins.npy", margins)
    (small / "provenance.json").unlink()
    with pytest.raises(DataError, match="NaN in row 1, column 2"):
        RetrievalResults(small)


# ---- choosing ----


@given(st.integers(1, 6), st.integers(0, 6), st.integers(1, 8))
def test_chance_is_the_share_of_all_orders(num_answers, num_right, k):
    num_right = min(num_right, num_answers)
    orders = list(itertools.combinations(range(num_answers), num_right))  # places of the right answers
    share = sum(any(place < k for place in order) for order in orders) / len(orders)
    assert chance_recall([num_right], num_answers, k) == pytest.approx(share)


def test_chance_of_the_quick_start():
    assert chance_recall([5] * 200, 1000, 1) == pytest.approx(0.005)
    assert chance_recall([5], 1000, 10) == pytest.approx(1 - np.prod([(995 - i) / (1000 - i) for i in range(10)]))
    assert chance_recall([5, 0], 1000, 1) == pytest.approx(0.0025)


def test_the_sample_is_fair():
    assert fair_sample(1000, 12, 0) == fair_sample(1000, 12, 0) != fair_sample(1000, 12, 1)
    assert fair_sample(5, 12, 3) == [0, 1, 2, 3, 4]
    counts = np.zeros(10)
    for seed in range(400):
        chosen = fair_sample(10, 3, seed)
        assert len(set(chosen)) == 3 and chosen == sorted(chosen)
        counts[chosen] += 1
    assert counts.min() > 80 and counts.max() < 160  # 120 each, within four standard deviations


def test_hardest_are_the_worst_misses_one_for_each_owner():
    ranks = np.array([0, 9, 8, 0, 7, 1])
    assert hardest(ranks, 10) == [1, 2, 4, 5]
    assert hardest(ranks, 2) == [1, 2]
    assert hardest(ranks, 10, owners=[0, 0, 0, 1, 1, 2]) == [1, 4, 5]
    assert hardest(np.zeros(4, int), 10) == []


# ---- the page ----


class Reader(HTMLParser):
    """Text, attributes and nesting of a page."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.elements = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("img", "meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def classes(self, name):
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def test_page_holds_results_queries_and_nothing_from_elsewhere(tmp_path, images):
    margins = np.random.default_rng(1).normal(size=(3, 6))
    captions = [(i, f"{HOSTILE} {number}") for i in (11, 7, 30) for number in range(2)]
    data = {"name": "<Tiny>", "split": "test"}
    folder = write_evaluation(tmp_path / "eval", margins, [11, 7, 30], captions, data=data)
    path = write_report(
        RetrievalResults(folder), images, tmp_path / "new" / "report.html", facts=[("Time", "<1 s>")], num_queries=4
    )
    page = Reader(path.read_text(encoding="utf-8"))
    text = "".join(page.text)
    assert "Image-text retrieval: <Tiny> test" in text and "<1 s>" in text and f"“{HOSTILE} 0”" in text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert all(a["src"].startswith("data:") and a["alt"] for tag, a in page.elements if tag == "img")
    assert all(a["href"].startswith("#") for tag, a in page.elements if tag == "a")
    results = RetrievalResults(folder)
    failed = len(hardest(results.t2i_ranks, 6, results.caption_image)), len(hardest(results.i2t_ranks, 6))
    assert len(page.classes("caption-query")) == 4 + failed[0]
    assert len(page.classes("image-query")) == 3 + failed[1]
    recall = results.metrics["t2i_retrieval"]["R@1"]
    assert f"{100 * recall:.1f} %" in text and "chance 33.3 %" in text
    assert "4 of 6 captions, drawn at random (seed 0)" in text and "All 3 pictures." in text
    assert not page.classes("boxes") and "show-boxes" not in [a.get("id") for _, a in page.elements]


def test_the_same_evaluation_gives_the_same_page(small, images, tmp_path):
    pages = [
        write_report(RetrievalResults(small), images, tmp_path / name).read_bytes() for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]


def test_boxes_and_tags_are_drawn_when_given(small, images, tmp_path):
    rows = []
    for image_id in (11, 7, 30):
        found = [{"class": f"<tag {n}>", "conf": 0.5, "rect": [1.0, 2.0, 30.0, 20.0]} for n in range(2)]
        rows.append(f"{image_id}\t{json.dumps({'image_h': 30, 'image_w': 40, 'objects': found})}\n")
    (tmp_path / "predictions.tsv").write_text("".join(rows))
    path = write_report(RetrievalResults(small), images, tmp_path / "r.html", features=tmp_path / "features.tsv")
    page = Reader(path.read_text(encoding="utf-8"))
    drawings = [a for tag, a in page.elements if tag == "svg" and a.get("class") == "boxes"]
    assert len(drawings) == sum(tag == "img" for tag, _ in page.elements) > 0
    assert {a["viewbox"] for a in drawings} == {"0 0 40 30"}
    assert len(page.classes("box0")) == len(drawings) and "<tag 1>" in page.text
    with pytest.raises(DataError, match="elsewhere/predictions.tsv: no such file"):
        write_report(
            RetrievalResults(small), images, tmp_path / "r.html", features=tmp_path / "elsewhere" / "features.tsv"
        )


def test_candidate_page_has_pictures_only(tmp_path, images):
    captions = [[(11, "own"), (7, "other")], [(30, "foreign"), (11, "strange")]]
    folder = write_evaluation(tmp_path / "eval", [[1.0, 0.0], [1.0, 2.0]], [11, 7], captions)
    page = Reader(write_report(RetrievalResults(folder), images, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert not page.classes("caption-query") and len(page.classes("image-query")) == 3
    assert "no right answer in its list" in page.text and "Image retrieval" not in page.text


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the report page"):
        write_page(tmp_path / "file" / "r.html", "x")
    (tmp_path / "r.html").mkdir()
    with pytest.raises(UserError, match="cannot write the report page"):
        write_page(tmp_path / "r.html", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "r.html"]
