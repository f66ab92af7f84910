"""OPTIMIZATION.RECOMPUTE trades time for memory and changes nothing else, dropout included."""

import numpy as np
import paddle
import pytest
from flat import batch_of

from oscar_paddle.models.bert import BertLayer
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.models.packing import pack

CONFIG = BertConfig(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.2,
    img_feature_dim=20,
    use_img_layernorm=1,
)


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return pack(batch_of(random, list(zip(random.integers(3, 12, 5), random.integers(1, 9, 5), strict=True)), width=20))


def gradients(batch, recompute, seed=5):
    paddle.seed(1)
    model = OscarForClassification(CONFIG)
    model.bert.encoder.recompute = recompute
    model.train()
    paddle.seed(seed)
    paddle.square(model(batch)).sum().backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_are_equal_with_dropout(batch):
    kept, recomputed = gradients(batch, False), gradients(batch, True)
    assert kept.keys() == recomputed.keys()
    for name, gradient in kept.items():
        np.testing.assert_array_equal(recomputed[name], gradient, err_msg=name)
    other_masks = gradients(batch, True, seed=6)
    assert any((other_masks[name] != gradient).any() for name, gradient in kept.items())


def test_every_layer_runs_twice(batch, monkeypatch):
    calls = []
    forward = BertLayer.forward
    monkeypatch.setattr(BertLayer, "forward", lambda self, *args: calls.append(self) or forward(self, *args))
    gradients(batch, False)
    assert len(calls) == 3
    gradients(batch, True)
    assert len(calls) == 3 + 6


def test_a_whole_run(training, unbroken, result, tmp_path):
    code, stderr = training(tmp_path / "run", "OPTIMIZATION.RECOMPUTE", True)
    assert code == 0, stderr
    assert result(tmp_path / "run") == result(unbroken)
