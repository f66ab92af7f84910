import json
import math
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics import retrieval
from oscar_paddle.solvers.metrics.retrieval import (
    candidate_ranks,
    equal_sentence_ranks,
    five_fold_metrics,
    format_recall_line,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "retrieval"
INF = math.inf


def matrix(*rows):
    return np.array(rows, dtype=np.float32)


# ---- ranks by hand ----


def test_ranks_worked_by_hand():
    margins = matrix(
        [0.9, 0.1, 0.5, 0.7, 0.2],  # captions 0, 3: the best (0.9) leads
        [0.3, 0.4, 0.8, 0.6, 0.1],  # caption 4: 0.1 is behind all four
        [0.5, 0.2, 0.3, 0.4, 0.6],  # captions 1, 2: the best (0.3) is behind 0.5, 0.4 and 0.6
    )
    caption_image = [0, 2, 2, 0, 1]
    assert image_to_text_ranks(margins, caption_image).tolist() == [0, 4, 3]
    # Columns: 0.9 first; 0.2 behind 0.4; 0.3 behind 0.8 and 0.5; 0.7 first; 0.1 behind 0.2 and 0.6.
    assert text_to_image_ranks(margins, caption_image).tolist() == [0, 1, 2, 0, 2]


def test_ranks_are_int64_arrays_with_one_entry_a_query():
    margins, caption_image = np.zeros((3, 7), np.float32), np.array([0, 0, 1, 2, 2, 1, 0], np.int32)
    i2t, t2i = image_to_text_ranks(margins, caption_image), text_to_image_ranks(margins, caption_image)
    assert (i2t.dtype, i2t.shape, t2i.dtype, t2i.shape) == (np.int64, (3,), np.int64, (7,))
    assert candidate_ranks(margins, margins == 1).dtype == np.int64


def test_a_positive_ranks_after_every_equal_negative_but_not_after_equal_positives():
    margins = matrix([1, 1, 1, 1], [1, 1, 0, 1])
    caption_image = [0, 0, 1, 1]
    assert image_to_text_ranks(margins, caption_image).tolist() == [2, 2]
    assert text_to_image_ranks(margins, caption_image).tolist() == [1, 1, 1, 1]


def test_upstream_order_puts_the_later_of_two_equals_ahead():
    margins = matrix([1, 1, 1, 1], [1, 1, 0, 1])
    caption_image = [0, 1, 0, 1]
    assert image_to_text_ranks(margins, caption_image, ties="later_first").tolist() == [1, 0]
    assert text_to_image_ranks(margins, caption_image, ties="later_first").tolist() == [1, 0, 0, 0]
    is_positive = np.array([[0, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)
    assert candidate_ranks(margins, is_positive, ties="later_first").tolist() == [2, 1]


def test_unknown_tie_order_lists_the_known_ones():
    with pytest.raises(ValueError, match="'best'; expected one of .'worst', 'later_first'"):
        image_to_text_ranks(matrix([0]), [0], ties="best")


def test_an_image_without_captions_is_a_miss_behind_all():
    margins = matrix([1, 0, 0], [9, 9, 9], [0, 0, 1])
    assert image_to_text_ranks(margins, [0, 0, 2]).tolist() == [0, 3, 0]


def test_infinities_are_the_highest_and_the_lowest_values():
    margins = matrix([INF, INF, -INF, 3], [-INF, 0, -INF, -INF])
    assert image_to_text_ranks(margins, [0, 0, 1, 1]).tolist() == [0, 2]  # -inf: behind 0 and an equal
    assert text_to_image_ranks(margins, [0, 0, 1, 1]).tolist() == [0, 0, 1, 1]
    assert image_to_text_ranks(matrix([INF, INF]), [0, 0]).tolist() == [0]
    assert candidate_ranks(matrix([INF, INF, -INF]), np.array([[False, True, False]])).tolist() == [1]
    assert candidate_ranks(matrix([0, INF, -INF]), np.array([[False, False, True]])).tolist() == [2]


def test_candidate_ranks_worked_by_hand():
    margins = matrix([0.5, 0.4, 0.4, 0.1], [0.5, 0.4, 0.4, 0.1], [0.0, 0.1, 0.2, 0.3])
    positive = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=bool)
    assert candidate_ranks(margins, positive).tolist() == [2, 4, 0]


def test_equal_sentences_are_right_for_all_their_images():
    margins = matrix([3, 3, 1, 0], [5, 5, 0, 2], [0, 0, 4, 4])  # captions 0 and 1 are one sentence
    caption_image, sentences = np.array([0, 1, 2, 2]), np.array([0, 0, 1, 2])
    assert image_to_text_ranks(margins, caption_image).tolist() == [1, 1, 0]  # tied with their equals
    i2t, t2i = equal_sentence_ranks(margins, caption_image, sentences)
    assert i2t.tolist() == [0, 0, 0] and t2i.tolist() == [0, 0, 0, 0]
    assert text_to_image_ranks(margins, caption_image).tolist() == [1, 0, 0, 0]


# ---- ranks against slow and obvious loops ----


def slow_rank(row, positive, ties):
    """Sort with the positives, or the earlier ones, last among equals; then look for the first positive."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], positive[i] if ties == "worst" else -i))
    return next((place for place, i in enumerate(order) if positive[i]), len(row))


@st.composite
def scored_pairs(draw):
    """Few distinct margins (so ties abound), odd sizes, images with none to many captions in any order."""
    num_images, num_captions = draw(st.integers(1, 9)), draw(st.integers(1, 17))
    values = draw(st.sampled_from([[0.0, -0.0, 1.0], [-INF, -1.5, 0.0, 2.0, INF], list(range(200))]))
    margin = st.sampled_from(values)
    rows = draw(
        st.lists(
            st.lists(margin, min_size=num_captions, max_size=num_captions), min_size=num_images, max_size=num_images
        )
    )
    owner = st.integers(0, num_images - 1)
    return matrix(*rows), np.array(draw(st.lists(owner, min_size=num_captions, max_size=num_captions)))


@settings(max_examples=150)
@given(scored_pairs(), st.sampled_from(retrieval.TIES), st.sampled_from([1, 20, 2**20]))
def test_ranks_equal_a_slow_sort(pairs, ties, block_values):
    margins, caption_image = pairs
    positive = caption_image[None, :] == np.arange(len(margins))[:, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK_VALUES", block_values)  # one row, a few rows, everything at once
        i2t = image_to_text_ranks(margins, caption_image, ties)
        t2i = text_to_image_ranks(margins, caption_image, ties)
        candidates = candidate_ranks(margins, positive, ties)
        sentences = np.arange(margins.shape[1]) % 4
        equal = equal_sentence_ranks(margins, caption_image, sentences)
    shared = np.array([row @ (sentences[:, None] == sentences) > 0 for row in positive])
    assert equal[0].tolist() == [slow_rank(*pair, "worst") for pair in zip(margins, shared, strict=True)]
    assert equal[1].tolist() == [slow_rank(*pair, "worst") for pair in zip(margins.T, shared.T, strict=True)]
    assert i2t.tolist() == [slow_rank(row, is_own, ties) for row, is_own in zip(margins, positive, strict=True)]
    assert t2i.tolist() == [slow_rank(row, is_own, ties) for row, is_own in zip(margins.T, positive.T, strict=True)]
    assert candidates.tolist() == i2t.tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_memory_mapped_file_is_read_in_blocks(tmp_path, monkeypatch, order):
    margins = np.random.default_rng(0).standard_normal((500, 2500), dtype=np.float32)  # 5 MB
    np.save(tmp_path / "margins.npy", np.asarray(margins, order=order))
    mapped = np.load(tmp_path / "margins.npy", mmap_mode="r")
    caption_image = np.repeat(np.arange(500), 5)
    wanted = image_to_text_ranks(margins, caption_image), text_to_image_ranks(margins, caption_image)
    monkeypatch.setattr(retrieval, "BLOCK_VALUES", 50_000)  # 0.2 MB
    tracemalloc.start()
    try:
        found = image_to_text_ranks(mapped, caption_image), text_to_image_ranks(mapped, caption_image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert all((f == w).all() for f, w in zip(found, wanted, strict=True))
    assert peak < 1_500_000


# ---- input that is wrong ----


@pytest.mark.parametrize("block_values", [1, 2**20])
def test_nan_is_an_error_that_names_the_place(monkeypatch, block_values):
    monkeypatch.setattr(retrieval, "BLOCK_VALUES", block_values)
    margins = np.zeros((4, 3), np.float32)
    margins[2, 1] = np.nan
    for ranks in (image_to_text_ranks, text_to_image_ranks):
        with pytest.raises(DataError, match="NaN in row 2, column 1"):
            ranks(margins, [0, 1, 3])
    with pytest.raises(DataError, match="NaN in row 2, column 1"):
        candidate_ranks(margins, margins == 0)


def test_errors_name_the_mapped_file(tmp_path):
    np.save(tmp_path / "margins.npy", matrix([0, 1], [np.nan, 1]))
    mapped = np.load(tmp_path / "margins.npy", mmap_mode="r")
    with pytest.raises(DataError, match=r"margins\.npy\): NaN in row 1, column 0"):
        text_to_image_ranks(mapped, [0, 1])


@pytest.mark.parametrize(
    ("caption_image", "message"),
    [
        ([0, 1], r"int64 \[2\]; expected integers \[3\]"),
        ([[0, 1, 1]], r"int64 \[1, 3\]; expected integers \[3\]"),
        ([0.0, 1.0, 1.0], r"float64 \[3\]; expected integers"),
        ([True, False, True], r"bool \[3\]; expected integers"),
        ([0, 1, 2], r"caption_image\[2\] is 2; expected a row of margins, 0 to 1"),
        ([0, -1, 1], r"caption_image\[1\] is -1; expected a row"),
    ],
)
def test_caption_image_must_fit_the_margins(caption_image, message):
    for function in (image_to_text_ranks, text_to_image_ranks, five_fold_metrics):
        with pytest.raises(DataError, match=message):
            function(np.zeros((2, 3), np.float32), caption_image)


@pytest.mark.parametrize("margins", [np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), np.array([["a", "b"]])])
def test_margins_must_be_a_matrix_of_numbers(margins):
    with pytest.raises(DataError, match="expected numbers"):
        image_to_text_ranks(margins, [])


def test_is_positive_must_be_bool_of_the_same_shape():
    for wrong in (np.zeros((2, 3)), np.zeros((3, 2), bool)):
        with pytest.raises(DataError, match=r"expected bool \[2, 3\]"):
            candidate_ranks(np.zeros((2, 3), np.float32), wrong)


# ---- figures ----


def test_figures_worked_by_hand():
    metrics = retrieval_metrics(np.array([0, 1, 4, 5, 9, 10, 0, 700]), np.array([0, 0, 9, 10]))
    assert metrics["i2t_retrieval"] == {"R@1": 2 / 8, "R@5": 4 / 8, "R@10": 6 / 8}
    assert metrics["t2i_retrieval"] == {"R@1": 2 / 4, "R@5": 2 / 4, "R@10": 3 / 4}
    assert metrics["i2t_median_rank"] == 5.5  # between 1-based 5 and 6
    assert metrics["i2t_mean_rank"] == 729 / 8 + 1
    assert (metrics["i2t_num_queries"], metrics["t2i_num_queries"]) == (8, 4)
    assert metrics["i2t_standard_error"]["R@1"] == pytest.approx(math.sqrt(0.25 * 0.75 / 8))
    assert metrics["t2i_standard_error"]["R@10"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert metrics["rsum"] == pytest.approx(25 + 50 + 75 + 50 + 50 + 75)


def test_perfect_ranks():
    metrics = retrieval_metrics(np.zeros(3, int), np.zeros(15, int))
    assert metrics["rsum"] == 600
    assert metrics["t2i_standard_error"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0}
    assert metrics["i2t_median_rank"] == metrics["i2t_mean_rank"] == 1


def test_figures_survive_json_as_plain_numbers():
    for metrics in (retrieval_metrics(np.array([3, 0]), np.array([1, 2, 3]), 9), retrieval_metrics(np.array([3, 0]))):
        assert json.loads(json.dumps(metrics)) == metrics


def test_one_direction_has_no_rsum_and_no_other_direction():
    metrics = retrieval_metrics(np.array([0, 3]))
    assert not [name for name in metrics if name.startswith(("t2i", "rsum"))]


def test_a_list_shorter_than_k_does_not_turn_a_miss_into_a_hit():
    ranks = candidate_ranks(matrix([3, 2, 1], [3, 2, 1]), np.array([[0, 0, 1], [0, 0, 0]], dtype=bool))
    metrics = retrieval_metrics(ranks, num_candidates=3)
    assert metrics["i2t_retrieval"] == {"R@1": 0.0, "R@5": 0.5, "R@10": 0.5}
    assert metrics["i2t_num_without_positive"] == 1


@pytest.mark.parametrize(
    ("ranks", "message"),
    [([], "non-empty"), ([0.5], "integers"), ([[1]], "non-empty list"), ([3, -1], "hold -1; expected 0-based")],
)
def test_ranks_must_be_ranks(ranks, message):
    with pytest.raises(DataError, match=f"i2t_ranks.*{message}"):
        retrieval_metrics(ranks)
    with pytest.raises(DataError, match=f"t2i_ranks.*{message}"):
        retrieval_metrics([0], ranks)


def test_a_rank_beyond_the_candidates_is_refused():
    with pytest.raises(DataError, match="hold 21; expected at most 20"):
        retrieval_metrics([0, 21], num_candidates=20)


def test_recall_line_is_the_known_one():
    line = format_recall_line("I2T", {"R@1": 0.898, "R@5": 0.988, "R@10": 0.997})
    assert line == "I2T Retrieval: 0.8980 @ R1, 0.9880 @ R5, 0.9970 @ R10"


# ---- five folds ----


def test_folds_are_consecutive_parts_of_the_list_with_their_own_captions():
    rng = np.random.default_rng(3)
    margins = rng.integers(0, 50, (30, 77)).astype(np.float32)
    caption_image = rng.permutation(np.concatenate([np.arange(30), rng.integers(0, 30, 47)]))  # captions in any order
    metrics = five_fold_metrics(margins, caption_image)
    assert len(metrics["folds"]) == 5
    for fold, found in enumerate(metrics["folds"]):
        columns = [c for c in range(77) if caption_image[c] // 6 == fold]
        part, owner = margins[fold * 6 : fold * 6 + 6][:, columns], caption_image[columns] - fold * 6
        wanted = retrieval_metrics(image_to_text_ranks(part, owner), text_to_image_ranks(part, owner), len(columns))
        assert found == wanted
    assert metrics["i2t_num_queries"] == 30
    assert metrics["t2i_num_queries"] == 77
    for key in ("i2t_retrieval", "t2i_retrieval"):
        for k in ("R@1", "R@5", "R@10"):
            assert metrics[key][k] == pytest.approx(np.mean([fold[key][k] for fold in metrics["folds"]]))
    assert metrics["rsum"] == pytest.approx(np.mean([fold["rsum"] for fold in metrics["folds"]]))
    assert metrics["t2i_mean_rank"] == pytest.approx(np.mean([fold["t2i_mean_rank"] for fold in metrics["folds"]]))
    assert json.loads(json.dumps(metrics)) == metrics


def test_standard_error_of_a_mean_of_folds_is_that_of_the_mean():
    # Two images a fold; image 0's captions always lose against the other image's: R@1 is 1/2 in every fold.
    margins = np.tile(matrix([0, 1], [0, 1]), (5, 5))
    metrics = five_fold_metrics(margins, np.arange(10))
    assert [fold["i2t_retrieval"]["R@1"] for fold in metrics["folds"]] == [0.5] * 5
    assert metrics["folds"][0]["i2t_standard_error"]["R@1"] == pytest.approx(math.sqrt(0.25 / 2))
    assert metrics["i2t_standard_error"]["R@1"] == pytest.approx(math.sqrt(0.25 / 10))  # as of ten queries


def test_one_fold_is_the_whole():
    rng = np.random.default_rng(4)
    margins, caption_image = rng.standard_normal((6, 13), dtype=np.float32), rng.integers(0, 6, 13)
    whole = retrieval_metrics(
        image_to_text_ranks(margins, caption_image), text_to_image_ranks(margins, caption_image), num_candidates=13
    )
    found = five_fold_metrics(margins, caption_image, folds=1)
    assert found.pop("folds") == [whole]
    assert found == whole


def test_folds_must_be_equal_and_have_captions():
    with pytest.raises(DataError, match="12 images cannot be split into 5 equal folds"):
        five_fold_metrics(np.zeros((12, 12), np.float32), np.arange(12))
    with pytest.raises(DataError, match="no captions for images 4 to 5"):
        five_fold_metrics(np.zeros((10, 3), np.float32), [0, 3, 9])


# ---- the reference implementation's numbers ----


def golden_margins(name, num_images):
    logits = np.load(GOLDEN / "expected_arrays.npz")[f"{name}_logits"]
    return (logits[:, 1] - logits[:, 0]).reshape(num_images, -1)  # pairs are stored image by image


def golden_expected(name):
    return json.loads((GOLDEN / "expected.json").read_text())[name]


@pytest.mark.parametrize("ties", retrieval.TIES)
@pytest.mark.parametrize("name", ["cross", "cross_notags", "cross_CL", "cross_CR", "cross_after_training"])
def test_ranks_and_recalls_of_the_reference(name, ties):
    margins, expected = golden_margins(name, num_images=10), golden_expected(name)
    caption_image = np.repeat(np.arange(10), 5)
    i2t, t2i = image_to_text_ranks(margins, caption_image, ties), text_to_image_ranks(margins, caption_image, ties)
    assert i2t.tolist() == expected["i2t_ranks"]
    assert t2i.tolist() == expected["t2i_ranks"]
    metrics = retrieval_metrics(i2t, t2i, num_candidates=50)
    assert {key: metrics[key] for key in ("i2t_retrieval", "t2i_retrieval")} == expected["R"]


def test_without_attention_from_caption_to_image_every_image_ties():
    """With the LR mask the score cannot depend on the image; the reference's image ranks are list order, ours are last.

    The margins are those of the reference implementation, equal to the last bit over the ten images.
    """
    margins, expected = golden_margins("cross_LR", num_images=10), golden_expected("cross_LR")
    caption_image = np.repeat(np.arange(10), 5)
    assert (margins == margins[0]).all()
    i2t = image_to_text_ranks(margins, caption_image, ties="later_first")
    t2i = text_to_image_ranks(margins, caption_image, ties="later_first")
    assert (i2t.tolist(), t2i.tolist()) == (expected["i2t_ranks"], expected["t2i_ranks"])
    metrics = retrieval_metrics(i2t, t2i)
    assert {key: metrics[key] for key in ("i2t_retrieval", "t2i_retrieval")} == expected["R"]
    assert image_to_text_ranks(margins, caption_image).tolist() == expected["i2t_ranks"]
    assert text_to_image_ranks(margins, caption_image).tolist() == [9] * 50


class PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"unexpected {module}.{name}")


def test_candidate_ranks_and_recalls_of_the_reference():
    expected = golden_expected("top20")
    with open(GOLDEN / "coco_ir" / "minival_caption_indexs_top20.pt", "rb") as file:
        *_, candidates = (PlainUnpickler(file).load() for _ in range(4))  # three headers of the old torch layout
    owner = np.array([[image_id for image_id, _ in json.loads(candidates[key])] for key in expected["img_keys"]])
    is_positive = owner == np.array(expected["img_keys"])[:, None]
    ranks = candidate_ranks(golden_margins("top20", num_images=12), is_positive)
    assert ranks.tolist() == expected["i2t_ranks"]
    assert 20 in ranks  # the image without a positive in its list
    assert retrieval_metrics(ranks, num_candidates=20)["i2t_retrieval"] == expected["R"]["i2t_retrieval"]
