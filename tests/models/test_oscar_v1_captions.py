"""Oscar v1's captioning checkpoints: a head under other names, without a bias, and a decoder of its own."""

import json
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.datasets.formats.torch_writer import write_torch_tensors
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.checkpoints.weights import read_state
from oscar_paddle.solvers.build import load

GOLDEN = Path(__file__).parents[1] / "golden" / "captioning" / "checkpoint"
HEAD = "cls.predictions."


@pytest.fixture
def first_release(tmp_path):
    """(folder, its tensors): the golden checkpoint as the first release would have written it."""
    shutil.copytree(GOLDEN, tmp_path / "v1")
    config = json.loads((GOLDEN / "config.json").read_text())
    (tmp_path / "v1" / "config.json").write_text(json.dumps({**config, "tie_weights": False}))
    state = {name.removeprefix(HEAD): value for name, value in read_state(GOLDEN).items() if name != f"{HEAD}bias"}
    state["decoder.weight"] = np.random.default_rng(0).normal(size=state["decoder.weight"].shape).astype(np.float32)
    write_torch_tensors(tmp_path / "v1" / "pytorch_model.bin", state)
    return tmp_path / "v1", state


def test_they_are_read_as_they_are(first_release):
    folder, state = first_release
    assert {"transform.dense.weight", "decoder.weight"} <= set(state) and not any(
        name.startswith("cls") for name in state
    )
    model, tied = load(folder, OscarForCaptioning), load(GOLDEN, OscarForCaptioning)
    words = model.bert.embeddings.word_embeddings.weight.numpy()
    assert (words == tied.bert.embeddings.word_embeddings.weight.numpy()).all()  # not the decoder, which is another
    hidden = paddle.to_tensor(np.random.default_rng(1).normal(size=(3, words.shape[1])).astype(np.float32))
    inner, same = (
        part.transform.LayerNorm(paddle.nn.functional.gelu(part.transform.dense(hidden))).numpy()
        for part in (model.cls.predictions, tied.cls.predictions)
    )
    assert (inner == same).all()
    np.testing.assert_allclose(model.word_logits(hidden).numpy(), inner @ state["decoder.weight"].T, atol=1e-4)


def test_what_is_missing_is_named(first_release):
    folder, state = first_release
    del state["transform.LayerNorm.weight"]
    write_torch_tensors(folder / "pytorch_model.bin", state)
    with pytest.raises(WeightsError, match="transform.LayerNorm.weight"):
        load(folder, OscarForCaptioning)
