"""Packing drops padding and nothing else."""

import numpy as np
import paddle
import pytest
from flat import batch_of, text_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import padded
from textbook import Textbook
from tiny import tiny_model

from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.tensorize import TextRows
from oscar_paddle.models.packing import pack


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def by_hand(model, batch, row, mask_type="CLR"):
    """Logits of one row by textbook attention over all padded positions, in float64."""
    return Textbook(model).logits(padded(batch, mask_type, 9, 6), row)


@pytest.mark.parametrize("mask_type", ["CLR", "CL", "CR", "LR", "S2S"])
def test_logits_equal_textbook_attention_over_padded_rows(model, mask_type):
    batch = batch_of(np.random.default_rng(0), [(3, 4), (9, 1), (5, 0), (2, 6)], [2, 5, 4, 2])
    expected = np.stack([by_hand(model, batch, row, mask_type) for row in range(4)])
    np.testing.assert_allclose(model(pack(batch, mask_type)).numpy(), expected, atol=2e-5)
    assert expected.std() > 0.05


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=6), st.integers(0, 1000))
def test_a_row_is_the_same_in_any_company(model, lengths, seed):
    random = np.random.default_rng(seed)
    batch = batch_of(random, lengths)
    together = model(pack(batch)).numpy()
    for row in range(len(lengths)):
        np.testing.assert_allclose(together[row], by_hand(model, batch, row), atol=3e-5)


def test_shared_images_equal_repeated_ones(model):
    random = np.random.default_rng(2)
    text, image = text_rows(random, [3, 5, 4]), np.array([0, 0, 1])
    features = [random.normal(size=(count, 7)).astype(np.float32) for count in (2, 5)]
    shared = collate(text, features, image)
    repeated = collate(text, [features[i] for i in image], np.arange(3))
    np.testing.assert_allclose(model(pack(shared)).numpy(), model(pack(repeated)).numpy(), atol=1e-6)
    assert len(pack(shared).img_feats) == 2 + 5  # regions of each image once


def test_order_puts_text_before_regions_in_every_row():
    text = TextRows(
        np.array([1, 2, 3, 4, 5]), np.zeros(5, int), np.array([0, 1, 0, 1, 2]), np.array([2, 3]), np.array([2, 3])
    )
    packed = pack(collate(text, [np.zeros((1, 7), np.float32), np.zeros((2, 7), np.float32)], np.array([1, 0])))
    assert packed.order.tolist() == [0, 1, 5 + 1, 5 + 2, 2, 3, 4, 5 + 0]
    assert packed.text.tolist() == [0, 1, 4, 5, 6]
    assert packed.first.tolist() == [0, 4]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=8))
def test_layout_is_a_round_trip(lengths):
    packed = pack(batch_of(np.random.default_rng(0), lengths))
    total = [text + regions for text, regions in lengths]
    places = np.arange(sum(total))
    assert packed.spread.shape == (len(lengths), max(total))
    np.testing.assert_array_equal(places[packed.spread].ravel()[packed.collect], places)
    np.testing.assert_array_equal(packed.spread[:, 0], packed.first)


def test_outputs_by_name(model):
    """Position 0 of the text states makes the pooled vector; asked for alone, it is the same vector."""
    packed = pack(batch_of(np.random.default_rng(4), [(3, 4), (5, 2)]))
    both = model.bert(packed, ("pooled", "text_states"))
    assert set(both) == {"pooled", "text_states"} and both["text_states"].shape == [8, 16]
    only = model.bert(packed)
    assert set(only) == {"pooled"}
    np.testing.assert_allclose(only["pooled"].numpy(), both["pooled"].numpy(), atol=1e-6)
    pooled = model.bert.pooler(both["text_states"][paddle.to_tensor([0, 3])])
    np.testing.assert_allclose(pooled.numpy(), both["pooled"].numpy(), atol=1e-6)


def test_the_last_layer_computes_position_0_alone_where_nothing_else_is_asked_for(model, monkeypatch):
    sizes = []
    layer = model.bert.encoder.layer[-1].intermediate
    forward = type(layer).forward
    monkeypatch.setattr(type(layer), "forward", lambda self, x: sizes.append(x.shape[0]) or forward(self, x))
    packed = pack(batch_of(np.random.default_rng(4), [(3, 4), (5, 2)]))
    model.bert(packed)
    model.bert(packed, ("text_states",))
    assert sizes == [14, 2, 14, 14]


@pytest.mark.parametrize("mask_type", ["CLR", "CL", "S2S"])
def test_padded_places_may_show_any_row(mask_type):
    """Logits and gradients are those of padding that all shows row 0, but a GPU need not add up into one row.

    Paddle's softmax gives hidden keys e^-64 = 2e-28 on the CPU: gradients that would be 0 are noise of that size.
    """
    batch = batch_of(np.random.default_rng(0), [(3, 4), (9, 1), (5, 0), (2, 6)], [2, 5, 4, 2])
    packed = pack(batch, mask_type)
    inside = np.zeros(packed.spread.size, bool)
    inside[packed.collect] = True
    padding = packed.spread.ravel()[~inside]
    assert len(padding) and len(set(padding)) == len(padding)

    def outcome(packed):
        model = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model.train()
        logits = model(packed)
        logits.sum().backward()
        gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
        return {"logits": logits.numpy(), **gradients}

    found = outcome(packed)
    wanted = outcome(packed._replace(spread=np.where(inside, packed.spread.ravel(), 0).reshape(packed.spread.shape)))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-25, err_msg=name)
