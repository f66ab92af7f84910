"""The masked-word head: parts, tying, and its copies in files."""

import math

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.checkpoints.weights import load_into, read_state, to_state, write_model
from oscar_paddle.models.config import BertConfig

SIZES = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
DECODER, WORDS = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"


def model(tied, seed=0):
    paddle.seed(seed)
    return OscarForCaptioning(BertConfig(**SIZES, img_feature_dim=6, tie_weights=tied))


@pytest.mark.parametrize("tied", [True, False])
def test_scores_are_those_of_numpy(tied):
    found, rng = model(tied), np.random.default_rng(1)
    for parameter in found.cls.parameters():
        parameter.set_value(rng.standard_normal(parameter.shape).astype(np.float32))
    state, hidden = to_state(found), rng.standard_normal((3, 8)).astype(np.float32)
    part = {name.removeprefix("cls.predictions."): value.astype(np.float64) for name, value in state.items()}
    inner = hidden @ part["transform.dense.weight"].T + part["transform.dense.bias"]
    inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / np.sqrt(2)))
    inner = (inner - inner.mean(1, keepdims=True)) / np.sqrt(inner.var(1, keepdims=True) + 1e-12)
    inner = inner * part["transform.LayerNorm.weight"] + part["transform.LayerNorm.bias"]
    wanted = inner @ part["decoder.weight"].T + part["bias"]
    np.testing.assert_allclose(found.word_logits(paddle.to_tensor(hidden)).numpy(), wanted, atol=1e-5)


def test_a_tied_decoder_is_there_once_and_in_files_twice(tmp_path):
    found = model(tied=True)
    assert not any(name == DECODER for name, _ in found.named_parameters())
    write_model(tmp_path, found)
    stored = load_file(tmp_path / "model.safetensors")
    assert (stored[DECODER] == stored[WORDS]).all() and stored[DECODER].shape == (11, 8)
    other = model(tied=True, seed=1)
    load_into(other, read_state(tmp_path), tmp_path)
    assert all((to_state(other)[name] == value).all() for name, value in to_state(found).items())
    assert DECODER in dict(model(tied=False).named_parameters())


def test_the_decoder_wins_where_the_copies_differ(tmp_path):
    """As upstream, which copies the file's tensors into the one there is in this order."""
    write_model(tmp_path, model(tied=True))
    stored = load_file(tmp_path / "model.safetensors")
    save_file({**stored, DECODER: stored[DECODER] + 1}, tmp_path / "model.safetensors")
    other = model(tied=True, seed=1)
    load_into(other, read_state(tmp_path), tmp_path)
    assert (other.bert.embeddings.word_embeddings.weight.numpy() == stored[DECODER] + 1).all()
    del stored[DECODER]
    load_into(other, stored, tmp_path)  # one copy is enough
    assert (other.bert.embeddings.word_embeddings.weight.numpy() == stored[WORDS]).all()
