"""First weights of a model that starts from scratch."""

import numpy as np
import paddle
import pytest

from oscar_paddle.config.loader import load_config
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.models.scratch import POSITION_SCALE, let_equals_attend
from oscar_paddle.solvers.build import load_tokenizer, model_for_training
from oscar_paddle.solvers.tasks.retrieval import RetrievalTask

CONFIG = {
    "vocab_size": 60,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "img_feature_dim": 7,
    "use_img_layernorm": 1,
    "initializer_range": 0.1,
}


def fresh_model():
    paddle.seed(3)
    return OscarForClassification(BertConfig(**CONFIG))


def weights(model):
    return {name: parameter.numpy() for name, parameter in model.named_parameters()}


def test_only_keys_and_positions_change():
    plain, model = weights(fresh_model()), fresh_model()
    let_equals_attend(model.bert)
    changed = weights(model)
    keys = {f"bert.encoder.layer.{layer}.attention.self.key.weight" for layer in range(2)}
    positions = "bert.embeddings.position_embeddings.weight"
    assert {name for name in plain if not np.array_equal(plain[name], changed[name])} == {*keys, positions}
    for name in keys:
        np.testing.assert_array_equal(changed[name], plain[name.replace("key", "query")])
    np.testing.assert_allclose(changed[positions], POSITION_SCALE * plain[positions], rtol=1e-6)


def test_keys_are_free_to_leave_the_queries():
    model = fresh_model()
    let_equals_attend(model.bert)
    attention = model.bert.encoder.layer[0].attention.self
    before = attention.query.weight.numpy()
    attention.key.weight.set_value(attention.key.weight + 1.0)
    np.testing.assert_array_equal(attention.query.weight.numpy(), before)


def finds_equals(model):
    """How often the word at one end of a text attends most, outside itself, to the equal word at the other end."""
    words = np.random.default_rng(5).permuted(np.tile(np.arange(60), (200, 1)), axis=1)[:, :20]
    words[:, -1] = words[:, 0]
    text = paddle.to_tensor(words.reshape(-1))
    positions = paddle.to_tensor(np.tile(np.arange(20), 200))
    hidden = model.bert.embeddings(text, paddle.zeros_like(text), positions)
    attention = model.bert.encoder.layer[0].attention.self
    queries = attention.query(hidden).numpy().reshape(200, 20, -1)[:, :1]
    keys = attention.key(hidden).numpy().reshape(200, 20, -1)[:, 1:]
    return float(np.mean((queries * keys).sum(-1).argmax(-1) == 18))


def test_equal_words_attend_to_each_other():
    model = fresh_model()
    model.eval()
    assert finds_equals(model) < 0.2  # 1 of 19 by chance
    let_equals_attend(model.bert)
    assert finds_equals(model) > 0.95


@pytest.mark.parametrize("kind", ["plain", "alike"])
def test_the_setting_decides(golden, tmp_path, kind):
    (tmp_path / "scratch.yaml").write_text(
        f"INPUT: {{MAX_SEQ_LEN: 40}}\nPRETRAINED: {{DIR: {golden}/checkpoint, FROM_SCRATCH: true}}\n"
    )
    cfg = load_config(str(tmp_path / "scratch.yaml"), ["PRETRAINED.SCRATCH_WEIGHTS", kind])
    attention = (
        model_for_training(cfg, load_tokenizer(cfg, cfg.PRETRAINED.DIR), RetrievalTask(cfg).head())
        .bert.encoder.layer[0]
        .attention.self
    )
    assert np.array_equal(attention.key.weight.numpy(), attention.query.weight.numpy()) == (kind == "alike")
