"""Every pair is scored once, with the margin it has alone, whatever shares its batch."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import LENGTHS, SCORED, tiny_model

from oscar_paddle.datasets.tensorize import attention_mask
from oscar_paddle.models.bert import HIDDEN_BIAS
from oscar_paddle.models.losses import match_margin
from oscar_paddle.solvers.scoring.pairs import (
    BLOCK_PAIRS,
    Block,
    EagerBackend,
    PairScorer,
    image_groups,
    kind_bias,
    length_batches,
)
from oscar_paddle.tools.bench.made_up import made_up_data


@pytest.fixture(scope="module")
def model():
    return tiny_model(**SCORED)


@pytest.fixture
def data(tmp_path):
    return made_up_data(tmp_path, 6, 18, LENGTHS)


def one_by_one(model, data, images, captions):
    """Margins of pairs, each alone in its batch, through the padded interface of the model."""
    model.eval()
    with paddle.no_grad():
        rows = [match_margin(model.logits(data.batch([i], [c]))) for i, c in zip(images, captions, strict=True)]
    return np.concatenate([row.numpy() for row in rows])


@pytest.mark.parametrize("mask_type", ["CLR", "CL", "CR", "LR"])
@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
def test_margins_are_those_of_single_pairs(model, data, mask_type, batch_tokens):
    data.mask_type = mask_type
    found = PairScorer(EagerBackend(model), data, batch_tokens).score(Block(range(1, 5), range(3, 18)))
    images, captions = np.repeat(np.arange(1, 5), 15), np.tile(np.arange(3, 18), 4)
    wanted = one_by_one(model, data, images, captions)
    assert found.shape == (4, 15) and found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-5)
    assert wanted.std() > 0.05  # margins that differ, or the comparison would show nothing


@pytest.mark.parametrize("mask_type", ["CLR", "LR"])
def test_fused_attention(model, data, mask_type):
    data.mask_type = mask_type
    wanted = PairScorer(EagerBackend(model), data, 200).score(Block(range(6), range(18)))
    fused = EagerBackend(model, fused=True)
    np.testing.assert_allclose(PairScorer(fused, data, 200).score(Block(range(6), range(18))), wanted, atol=2e-5)
    assert "fused" in fused.name


def test_rows_without_tags(model, data):
    data.has_tags[2:4] = False
    found = PairScorer(EagerBackend(model), data, 200).score(Block(range(6), range(18)))
    wanted = one_by_one(model, data, np.repeat(np.arange(6), 18), np.tile(np.arange(18), 6))
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-5)


def test_candidate_lists(model, data):
    data.candidates = np.random.RandomState(1).randint(18, size=(6, 5))
    scorer = PairScorer(EagerBackend(model), data, 200)
    found = scorer.score(Block(range(2, 6), range(1, 4)))
    wanted = one_by_one(model, data, np.repeat(np.arange(2, 6), 3), data.candidates[2:6, 1:4].ravel())
    assert scorer.num_columns == 5
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-5)


def test_each_image_is_read_once(model, data, monkeypatch):
    read = []
    original = type(data.regions).__getitem__
    monkeypatch.setattr(type(data.regions), "__getitem__", lambda self, key: read.append(key) or original(self, key))
    scorer = PairScorer(EagerBackend(model), data, 100)
    for columns in (range(0, 7), range(7, 18)):  # two blocks of the same images
        scorer.score(Block(range(0, 4), columns))
    assert read == [0, 1, 2, 3]


def test_progress_counts_every_pair(model, data):
    counted = []
    PairScorer(EagerBackend(model), data, 100).score(Block(range(6), range(18)), counted.append)
    assert sum(counted) == 108 and len(counted) > 3


def test_next_to_no_padding(model, tmp_path):
    data = made_up_data(tmp_path, 2, 1000, LENGTHS)
    batches = list(PairScorer(EagerBackend(model), data, 400).batches(np.zeros(1000, int), np.arange(1000)))
    padded = sum(batch.order.size for _, batch, _ in batches)
    real = sum(int((batch.bias == 0).sum()) for _, batch, _ in batches)
    assert real < padded < 1.03 * real


@given(num_images=st.integers(1, 400), num_columns=st.integers(1, 3000))
@settings(deadline=None, max_examples=60)
def test_blocks_cover_the_matrix_once(num_images, num_columns):
    times = np.zeros((num_images, num_columns), np.uint8)
    groups = image_groups(num_images, num_columns)
    for group in groups:
        assert len({block.images for block in group}) == 1
        for block in group:
            times[block.images.start : block.images.stop, block.captions.start : block.captions.stop] += 1
            assert 1 <= block.pairs <= max(BLOCK_PAIRS[1], 1)
    assert (times == 1).all()


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=80), batch_tokens=st.integers(1, 300))
def test_length_batches(lengths, batch_tokens):
    lengths = np.array(sorted(lengths, reverse=True))
    cuts = list(length_batches(lengths, batch_tokens))
    assert [place for start, stop in cuts for place in range(start, stop)] == list(range(len(lengths)))
    for start, stop in cuts:
        assert stop - start == 1 or (stop - start) * lengths[start] <= batch_tokens


@given(
    rows=st.lists(st.tuples(st.integers(2, 5), st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=5),
    mask_type=st.sampled_from(["CL", "CR", "LR"]),
)
def test_kind_bias_is_the_published_mask_without_padding(rows, mask_type):
    caption, tags, regions = np.array(rows).T
    text = caption + tags
    wanted = attention_mask(mask_type, caption, text, regions, 9, 4)
    found = kind_bias(mask_type, caption, text, text + regions, int((text + regions).max()))
    for row in range(len(rows)):
        places = np.r_[: text[row], 9 : 9 + regions[row]]
        size = len(places)
        np.testing.assert_array_equal(found[row, 0, :size, :size] == 0, wanted[row][np.ix_(places, places)] == 1)
        assert (found[row, 0, :size, size:] == HIDDEN_BIAS).all()
