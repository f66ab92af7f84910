"""Packing drops padding and nothing else."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.models.packing import layout, pack, pack_rows

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "img_feature_dim": 7,
    "use_img_layernorm": 1,
    "initializer_range": 0.3,
}


def padded_batch(random, lengths, text_width, region_width, three_d=False):
    """A batch in the public layout with garbage in the padding."""
    rows = len(lengths)
    mask = np.zeros((rows, text_width + region_width), np.int64)
    for row, (text, regions) in enumerate(lengths):
        mask[row, :text] = 1
        mask[row, text_width : text_width + regions] = 1
    if three_d:
        mask = mask[:, None, :] * mask[:, :, None]
    return {
        "input_ids": random.integers(1, 50, (rows, text_width)),
        "token_type_ids": random.integers(0, 2, (rows, text_width)),
        "attention_mask": mask,
        "img_feats": random.normal(size=(rows, region_width, 7)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def model():
    paddle.seed(3)
    model = OscarForClassification(BertConfig(**CONFIG))
    model.eval()
    return model


def by_hand(model, batch, row):
    """Logits of one row by textbook attention over all padded positions, in float64."""
    weights = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * weights[f"{name}.weight"]
            + weights[f"{name}.bias"]
        )

    def gelu(x):
        return x * 0.5 * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)))

    ids, types = batch["input_ids"][row], batch["token_type_ids"][row]
    text = sum(
        weights[f"bert.embeddings.{table}_embeddings.weight"][index]
        for table, index in (("word", ids), ("token_type", types), ("position", np.arange(len(ids))))
    )
    regions = norm(linear(batch["img_feats"][row].astype(np.float64), "bert.img_embedding"), "bert.LayerNorm")
    x = np.concatenate([norm(text, "bert.embeddings.LayerNorm"), regions])
    mask = batch["attention_mask"][row]
    bias = (1 - (mask if mask.ndim == 2 else np.broadcast_to(mask, (len(x), len(x))))) * -10000.0
    for layer in range(2):
        name = f"bert.encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{name}.attention.self.{part}").reshape(-1, 2, 8).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(8) + bias
        probabilities = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        context = (probabilities @ v).transpose(1, 0, 2).reshape(-1, 16)
        x = norm(linear(context, f"{name}.attention.output.dense") + x, f"{name}.attention.output.LayerNorm")
        inner = gelu(linear(x, f"{name}.intermediate.dense"))
        x = norm(linear(inner, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
    return linear(np.tanh(linear(x[0], "bert.pooler.dense")), "classifier")


@pytest.mark.parametrize("three_d", [False, True])
def test_logits_equal_textbook_attention_over_padded_rows(model, three_d):
    random = np.random.default_rng(0)
    batch = padded_batch(random, [(3, 4), (9, 1), (5, 0), (2, 6)], 9, 6, three_d)
    expected = np.stack([by_hand(model, batch, row) for row in range(4)])
    np.testing.assert_allclose(model.logits(batch).numpy(), expected, atol=2e-5)


def test_pair_mask_decides_who_sees_whom(model):
    random = np.random.default_rng(1)
    batch = padded_batch(random, [(4, 3), (6, 2)], 6, 3, three_d=True)
    batch["attention_mask"][:, :2, 6:] = 0  # the first two text positions do not see regions
    batch["attention_mask"][:, 6:, :2] = 0
    expected = np.stack([by_hand(model, batch, row) for row in range(2)])
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
