"""Packing drops padding and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textbook import Textbook
from tiny import padded_batch, tiny_model

from oscar_paddle.models.packing import layout, pack, pack_rows


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.parametrize("three_d", [False, True])
def test_logits_equal_textbook_attention_over_padded_rows(model, three_d):
    random = np.random.default_rng(0)
    batch = padded_batch(random, [(3, 4), (9, 1), (5, 0), (2, 6)], 9, 6, three_d)
    expected = np.stack([Textbook(model).logits(batch, row) for row in range(4)])
    np.testing.assert_allclose(model.logits(batch).numpy(), expected, atol=2e-5)


def test_pair_mask_decides_who_sees_whom(model):
    random = np.random.default_rng(1)
    batch = padded_batch(random, [(4, 3), (6, 2)], 6, 3, three_d=True)
    batch["attention_mask"][:, :2, 6:] = 0  # the first two text positions do not see regions
    batch["attention_mask"][:, 6:, :2] = 0
    expected = np.stack([Textbook(model).logits(batch, row) for row in range(2)])
    np.testing.assert_allclose(model.logits(batch).numpy(), expected, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=6), st.integers(0, 1000))
def test_extra_padding_changes_nothing(model, lengths, seed):
    batch = padded_batch(np.random.default_rng(seed), lengths, 9, 6)
    text, regions = max(t for t, _ in lengths), max(r for _, r in lengths)
    mask = batch["attention_mask"]
    trimmed = {
        "input_ids": batch["input_ids"][:, :text],
        "token_type_ids": batch["token_type_ids"][:, :text],
        "attention_mask": np.concatenate([mask[:, :text], mask[:, 9 : 9 + regions]], axis=1),
        "img_feats": batch["img_feats"][:, :regions],
    }
    np.testing.assert_array_equal(model.logits(batch).numpy(), model.logits(trimmed).numpy())


def test_shared_images_equal_repeated_ones(model):
    random = np.random.default_rng(2)
    batch = padded_batch(random, [(3, 2), (5, 2), (4, 5)], 6, 5)
    image = np.array([0, 0, 1])
    distinct = batch["img_feats"][[0, 2]]
    repeated = {**batch, "img_feats": distinct[image]}
    shared = {**batch, "img_feats": distinct, "img_index": image}
    np.testing.assert_allclose(model.logits(shared).numpy(), model.logits(repeated).numpy(), atol=1e-6)
    assert len(pack(**shared).img_feats) == 2 + 5  # regions of each image once


def test_order_puts_text_before_regions_in_every_row():
    packed = pack_rows(
        np.array([[1, 2, 0], [3, 4, 5]]),
        np.zeros((2, 3), int),
        np.array([2, 3]),
        np.array([2, 1]),
        np.array([1, 0]),
        np.zeros((3, 7), np.float32),
    )
    assert packed.input_ids.tolist() == [1, 2, 3, 4, 5]
    assert packed.position_ids.tolist() == [0, 1, 0, 1, 2]
    assert packed.order.tolist() == [0, 1, 5 + 1, 5 + 2, 2, 3, 4, 5 + 0]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_layout_is_a_round_trip(lengths):
    spread, collect, first = layout(np.array(lengths))
    packed = np.arange(sum(lengths))
    assert spread.shape == (len(lengths), max(lengths))
    np.testing.assert_array_equal(packed[spread].ravel()[collect], packed)
    np.testing.assert_array_equal(spread[:, 0], first)
