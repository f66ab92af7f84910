"""Two epsilons that every published config sets alike, and dropout at the places where no gradient test sees it."""

import numpy as np
import paddle
import pytest
from flat import batch_of
from padded import padded
from textbook import Dropping, Textbook, layer_norm
from tiny import tiny_model

from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.tensorize import TextRows
from oscar_paddle.models.oscar import OscarForImagePairs
from oscar_paddle.models.packing import pack

DRAWS = 4000


@pytest.fixture
def batch():
    return batch_of(np.random.default_rng(0), [(3, 4), (5, 2), (2, 4), (4, 1)])


def scale(parameter, factor):
    parameter.set_value(parameter.numpy() * np.float32(factor))


def test_epsilon_of_the_regions_layernorm(batch):
    """Another one than that of all other LayerNorms, before which values are small enough for it to be seen."""
    settings = {"img_layer_norm_eps": 1e-3, "layer_norm_eps": 1e-5}

    def logits(**changed):
        model = tiny_model(**{**settings, **changed})
        scale(model.bert.img_embedding.weight, 0.04)
        return model(pack(batch)).numpy(), model

    found, model = logits()
    rows = padded(batch, "CLR", 5, 4)
    wanted = np.stack([Textbook(model).logits(rows, row) for row in range(4)])
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    for other in (1e-4, 1e-5, 1e-12):
        assert np.abs(logits(img_layer_norm_eps=other)[0] - wanted).max() > 1e-2


def test_epsilon_of_the_pair_heads_layernorm(batch):
    """Upstream: the head's epsilon is layer_norm_eps, whatever the regions' is."""
    settings = {"layer_norm_eps": 1e-3, "img_layer_norm_eps": 1e-4, "classifier": "mlp", "cls_hidden_scale": 3}
    model = tiny_model(OscarForImagePairs, **settings)
    scale(model.classifier[0].weight, 0.02)
    book = Textbook(model)

    def head(pooled, epsilon):
        hidden = np.maximum(book.linear(pooled, "classifier.0"), 0)
        norm = layer_norm(hidden, book.weights["classifier.2.weight"], book.weights["classifier.2.bias"], epsilon)
        return book.linear(norm, "classifier.3")

    rows = padded(batch, "CLR", 5, 4)
    pooled = np.stack([np.concatenate([book.pooled(rows, row) for row in pair]) for pair in ((0, 1), (2, 3))])
    np.testing.assert_allclose(model(pack(batch)).numpy(), head(pooled, 1e-3), atol=2e-5)
    for other in (1e-4, 1e-5, 1e-12):
        assert np.abs(head(pooled, other) - head(pooled, 1e-3)).max() > 1e-2


# ---- dropout ----


def drawn_logits(model, batch):
    """[DRAWS, 2] logits in training mode of one row, which shares its image with all others of the batch."""
    text = TextRows(*(batch[name] for name in TextRows._fields)).take(np.zeros(DRAWS, int))
    rows = pack(collate(text, [batch["img_feats"][: batch["num_regions"][0]]], np.zeros(DRAWS, int)))
    model.train()
    paddle.seed(11)
    with paddle.no_grad():
        return model(rows).numpy().astype(np.float64)


def wanted_logits(model, batch, **probability):
    row = padded(batch, "CLR", 5, 4)
    drop = Dropping(DRAWS, {place.replace("_", " "): p for place, p in probability.items()})
    return Textbook(model).logits(row, 0, drop)


def assert_drawn_alike(found, wanted):
    """Mean and spread of each logit, as far as so many draws tell them."""
    mean, spread = wanted.mean(axis=0), wanted.std(axis=0)
    np.testing.assert_allclose(found.std(axis=0), spread, rtol=0.08)
    assert (np.abs(found.mean(axis=0) - mean) < 5 * spread * np.sqrt(2 / DRAWS)).all()


def differs(found, wanted):
    return not np.allclose(found.std(axis=0), wanted.std(axis=0), rtol=0.16)


def test_attention_dropout(batch):
    model = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.4)
    found = drawn_logits(model, batch)
    assert_drawn_alike(found, wanted_logits(model, batch, attention=0.4))
    assert differs(found, wanted_logits(model, batch, attention=0.2))


def test_head_dropout(batch):
    """The pooled vector is made a constant, so that no other place can move the logits."""
    model = tiny_model(hidden_dropout_prob=0.4, attention_probs_dropout_prob=0.4)
    pooler = model.bert.pooler.dense
    pooler.weight.set_value(np.zeros(pooler.weight.shape, np.float32))
    pooler.bias.set_value(np.random.default_rng(1).normal(size=pooler.bias.shape).astype(np.float32))
    found = drawn_logits(model, batch)
    values, weight = np.tanh(pooler.bias.numpy().astype(np.float64)), model.classifier.weight.numpy()
    np.testing.assert_allclose(found.mean(axis=0), values @ weight, atol=0.05)
    spread = np.sqrt(0.4 / 0.6 * (values**2 @ weight**2))
    np.testing.assert_allclose(found.std(axis=0), spread, rtol=0.08)


def test_region_dropout(batch):
    """Each row drops its own values of the image that all rows share. Text is nothing here: regions decide."""
    places = ("text", "regions", "attention output", "output", "head")
    model = tiny_model(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.0, num_hidden_layers=1)
    for name, parameter in model.named_parameters():
        if name == "bert.embeddings.LayerNorm.weight":
            parameter.set_value(np.zeros(parameter.shape, np.float32))
        if name.endswith(("self.value.weight", "attention.output.dense.weight")):
            scale(parameter, 3)
    found = drawn_logits(model, batch)
    everywhere = {place.replace(" ", "_"): 0.3 for place in places}
    assert_drawn_alike(found, wanted_logits(model, batch, **everywhere))
    assert differs(found, wanted_logits(model, batch, **{**everywhere, "regions": 0.0}))
