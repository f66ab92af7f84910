import contextlib
import io
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from oscar_paddle.config.errors import DataError, UserError
from oscar_paddle.solvers.metrics.eccv import TARGETS, check_eccv_input, eccv_metrics, ranked_ids
from oscar_paddle.solvers.metrics.retrieval import image_to_text_ranks, retrieval_metrics, text_to_image_ranks

NO_BAR = tqdm(disable=True)

# ---- ranked lists: no package needed ----


def test_lists_worked_by_hand():
    block = np.array([[0.1, 0.9, 0.5, 0.9], [3.0, 2.0, 1.0, 0.0]])
    truths = {"a": {7: [102], 8: [103]}, "b": {7: [104]}}
    rankings = ranked_ids([block], [7, 8], [101, 102, 103, 104], truths, NO_BAR)
    assert rankings["a"] == {7: [104, 102, 103, 101], 8: [101, 102, 103, 104]}  # 102 after its equal 104
    assert rankings["b"] == {7: [102, 104, 103, 101]}  # here 104 is the positive; query 8 is not asked for


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 60), st.sampled_from([2, 9, 10**6]))
def test_lists_equal_a_slow_sort(seed, num_queries, num_items, num_values):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, num_values, (num_queries, num_items)).astype(np.float32)
    queries, items = rng.permutation(1000)[:num_queries].tolist(), rng.permutation(1000)[:num_items].tolist()
    some = rng.choice(items, size=min(num_items, 15), replace=False).tolist()
    truths = {"few": {query: some[:2] for query in queries[1:]}, "many": {query: some for query in queries}}
    rankings = ranked_ids([scores[:2], scores[2:]] if num_queries > 2 else [scores], queries, items, truths, NO_BAR)
    for name, length in (("few", 10), ("many", max(10, len(some)))):
        assert rankings[name].keys() == truths[name].keys()
        for query, ranking in rankings[name].items():
            row = dict(zip(items, scores[queries.index(query)], strict=True))
            order = sorted(items, key=lambda item: (-row[item], item in truths[name][query]))
            assert ranking == order[:length]


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "eccv_caption", None)
    with pytest.raises(UserError, match="eccv-caption: python -m pip install -r requirements-eccv.txt"):
        check_eccv_input([1], [2])


# ---- with the package, on the ids it ships ----


@pytest.fixture(scope="module")
def package():
    reason = "package eccv-caption is not installed (python -m pip install -r requirements-eccv.txt)"
    return pytest.importorskip("eccv_caption", reason=reason).Metrics()


@pytest.fixture(scope="module")
def split(package):
    """Image and caption ids in an order of our own, and the row of each caption's image."""
    rng = np.random.default_rng(5)
    image_ids = rng.permutation(list(package.coco_gts["i2t"])).tolist()
    caption_ids = rng.permutation(package.coco_ids).tolist()
    row = {image_id: index for index, image_id in enumerate(image_ids)}
    return image_ids, caption_ids, np.array([row[package.coco_gts["t2i"][caption_id][0]] for caption_id in caption_ids])


@pytest.fixture(scope="module")
def margins(package, split):
    """Noise, raised at COCO's pairs and at some of ECCV's, rounded so that a tenth of all values tie. 500 MB."""
    image_ids, caption_ids, caption_image = split
    rng = np.random.default_rng(6)
    scores = rng.standard_normal((len(image_ids), len(caption_ids)), dtype=np.float32)
    scores[caption_image, np.arange(len(caption_ids))] += 3
    column = {caption_id: index for index, caption_id in enumerate(caption_ids)}
    for image_id, positives in package.eccv_gts["i2t"].items():
        scores[image_ids.index(image_id), [column[p] for p in positives[::2] if p in column]] += 3
    np.multiply(scores, 16, out=scores)
    return np.rint(scores, out=scores)


@pytest.fixture(scope="module")
def run(margins, split):
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        return eccv_metrics(margins, *split[:2]), printed.getvalue()


@pytest.fixture(scope="module")
def figures(run):
    return run[0]


def test_every_figure_is_there_as_plain_fractions(figures):
    recalls = [f"{name}_r{k}" for name in ("coco_5k", "cxc") for k in (1, 5, 10)]
    assert sorted(figures) == sorted([*recalls, "eccv_map_at_r", "eccv_rprecision", "eccv_r1"])
    for both in figures.values():
        assert both.keys() == {"i2t", "t2i"}
        assert all(type(value) is float and 0 < value < 1 for value in both.values())


def test_coco_recalls_equal_our_own_with_ties(figures, margins, split):
    caption_image = split[2]
    ours = retrieval_metrics(image_to_text_ranks(margins, caption_image), text_to_image_ranks(margins, caption_image))
    for k in (1, 5, 10):
        assert figures[f"coco_5k_r{k}"]["i2t"] == pytest.approx(ours["i2t_retrieval"][f"R@{k}"], abs=1e-9)
        assert figures[f"coco_5k_r{k}"]["t2i"] == pytest.approx(ours["t2i_retrieval"][f"R@{k}"], abs=1e-9)


@pytest.mark.parametrize("way", ["i2t", "t2i"])
def test_eccv_figures_equal_the_definition(figures, margins, split, package, way):
    queries, items = split[:2] if way == "i2t" else split[1::-1]
    scores = margins if way == "i2t" else margins.T
    index, items = {query: i for i, query in enumerate(queries)}, np.array(items)
    average_precision, r_precision, first = [], [], []
    for query, positives in package.eccv_gts[way].items():
        hit = np.isin(items, positives)
        found = hit[np.lexsort((hit, -scores[index[query]]))[: len(positives)]]
        precision = np.cumsum(found) / np.arange(1, len(found) + 1)
        average_precision.append((precision * found).sum() / len(positives))
        r_precision.append(found.mean())
        first.append(found[0])
    assert figures["eccv_map_at_r"][way] == pytest.approx(np.mean(average_precision), abs=1e-9)
    assert figures["eccv_rprecision"][way] == pytest.approx(np.mean(r_precision), abs=1e-9)
    assert figures["eccv_r1"][way] == pytest.approx(np.mean(first), abs=1e-9)


def test_cxc_recall_equals_the_definition(figures, margins, split, package):
    column = {caption_id: index for index, caption_id in enumerate(split[1])}
    first = []
    for row, image_id in enumerate(split[0]):
        positives = [column[caption_id] for caption_id in package.cxc_gts["i2t"][image_id]]
        best = margins[row, positives].max()
        first.append(np.count_nonzero(margins[row] >= best) == np.count_nonzero(margins[row, positives] == best))
    assert figures["cxc_r1"]["i2t"] == pytest.approx(np.mean(first), abs=1e-9)


def test_nothing_is_drawn_unless_asked_for(run):
    assert run[1] == ""


def test_ids_other_than_the_split_are_refused(split):
    image_ids, caption_ids, _ = split
    cases = [
        (image_ids[:1000], caption_ids, r"1000 image ids are not the 5000 .* is missing; 0 too many, 4000 missing"),
        (image_ids, [*caption_ids, 7], r"25001 caption annotation ids .*id 7 is not in it; 1 too many, 0 missing"),
        (image_ids, [*caption_ids[1:], caption_ids[1]], f"caption annotation id {caption_ids[1]} is given 2 times"),
        (["dog.jpg", *image_ids[1:]], caption_ids, "image ids must be integers: .*dog.jpg"),
    ]
    for images, captions, message in cases:
        with pytest.raises(DataError, match=message):
            check_eccv_input(images, captions)


def test_ids_may_be_strings_of_digits(split):
    _, image_ids, caption_ids = check_eccv_input(map(str, split[0]), map(str, split[1]))
    assert (image_ids, caption_ids) == split[:2]


def test_margins_must_fit_the_ids_and_hold_no_nan(split):
    with pytest.raises(DataError, match=r"margins are float32 \[3, 4\]; expected float \[5000, 25000\]"):
        eccv_metrics(np.zeros((3, 4), np.float32), *split[:2])
    one_nan = np.broadcast_to(np.float32(np.nan), (5000, 25000))
    with pytest.raises(DataError, match="NaN in row 0, column 0"):
        eccv_metrics(one_nan, *split[:2])


# ---- the package's own ways, which eccv.py goes around ----


def lists_of(package, length):
    def ranking(positives, pool):
        return [*positives, *(item for item in pool[:100] if item not in set(positives))][:length]

    images, captions = list(package.coco_gts["i2t"]), package.coco_ids.tolist()
    return (
        {i: ranking(package.eccv_gts["i2t"].get(i, [])[:40], captions) for i in images},
        {c: ranking(package.eccv_gts["t2i"].get(c, [])[:15], images) for c in captions},
    )


def test_package_leaves_figures_out_unless_asked_for_map_at_r(package):
    lists = lists_of(package, 50)  # longer than any list of positives
    assert package.compute_all_metrics(*lists, target_metrics=["eccv_rprecision"]) == {}
    assert len(package.compute_all_metrics(*lists, target_metrics=["eccv_recalls", "eccv_map_at_r"])) == 1
    assert len(package.compute_all_metrics(*lists, target_metrics=TARGETS["eccv"])) == 3


def test_package_needs_every_query_and_long_lists(package):
    i2t, t2i = lists_of(package, 50)
    with pytest.raises(KeyError):
        package.compute_all_metrics(dict(list(i2t.items())[:10]), t2i, target_metrics=TARGETS["cxc"])
    with pytest.raises(IndexError):
        package.compute_all_metrics(*lists_of(package, 10), target_metrics=TARGETS["eccv"])


def test_package_counts_two_captions_from_outside_the_split(package):
    positives = {caption_id for ids in package.eccv_gts["i2t"].values() for caption_id in ids}
    assert positives - set(package.coco_ids.tolist()) == {144675, 467259}
