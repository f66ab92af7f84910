"""Checkpoints of every supported kind, strict loading, and damaged files."""

import json
import pickle
import shutil

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from oscar_paddle.config.errors import UserError, WeightsError
from oscar_paddle.datasets.formats.array_files import from_bfloat16
from oscar_paddle.models.checkpoints.weights import (
    find_weights,
    fresh_parts,
    is_stored_transposed,
    load_into,
    read_state,
    to_state,
    write_model,
)
from oscar_paddle.models.config import BertConfig, read_model_config
from oscar_paddle.models.oscar import OscarForClassification

TINY = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
TINY |= {"max_position_embeddings": 6, "img_feature_dim": 5, "use_img_layernorm": 1}


@pytest.fixture
def model():
    paddle.seed(1)
    return OscarForClassification(BertConfig(**TINY))


def fresh_model(**values):
    paddle.seed(2)
    return OscarForClassification(BertConfig(**{**TINY, **values}))


def assert_same(model, state):
    found = to_state(model)
    assert set(found) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_names_and_shapes_are_upstream(golden):
    state = read_state(golden / "checkpoint")
    model = OscarForClassification(read_model_config(golden / "checkpoint"))
    assert {name: value.shape for name, value in to_state(model).items()} == {n: v.shape for n, v in state.items()}


def test_parameter_count_of_the_published_base_model():
    hidden, inner, layers = 768, 3072, 12
    config = BertConfig(num_hidden_layers=1, use_img_layernorm=0)
    one = sum(value.size for value in to_state(OscarForClassification(config)).values())
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
    assert one + (layers - 1) * layer == 111_062_018  # docs/reference.md, names


def test_our_own_format_round_trips_bit_for_bit(model, tmp_path):
    write_model(tmp_path, model)
    state = to_state(model)
    other = fresh_model()
    load_into(other, read_state(tmp_path), tmp_path)
    assert_same(other, state)
    assert read_model_config(tmp_path).to_dict() == model.config.to_dict()


def test_linear_weights_are_stored_as_pytorch_has_them(model, tmp_path):
    write_model(tmp_path, model)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["bert.encoder.layer.0.intermediate.dense.weight"].shape == (12, 8)  # [out, in]
    square = "bert.pooler.dense.weight"  # shape checks cannot see a missing transpose here
    np.testing.assert_array_equal(stored[square], model.bert.pooler.dense.weight.numpy().T)
    assert stored["bert.embeddings.word_embeddings.weight"].shape == (11, 8)


@pytest.mark.parametrize("wrapped", [False, True])
def test_vinvl_paddle_folder(model, tmp_path, wrapped):
    """paddle_model.bin: a pickle of the port's state, linear weights in Paddle's orientation."""
    state = to_state(model)
    paddle_state = {
        name: np.ascontiguousarray(value.T) if is_stored_transposed(name, value) else value
        for name, value in state.items()
    }
    content = {"epoch": 29, "model": paddle_state} if wrapped else paddle_state
    paddle.save(
        {k: paddle.to_tensor(v) for k, v in paddle_state.items()} if not wrapped else content,
        str(tmp_path / "paddle_model.bin"),
    )
    other = fresh_model()
    load_into(other, read_state(tmp_path), tmp_path)
    assert_same(other, state)


def test_vinvl_paddle_config_names(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"img_feat_dim": 2048, "img_feat_type": "frcnn"}))
    assert read_model_config(tmp_path).img_feature_dim == 2048


def hugging_face_state(model):
    """A plain encoder as Hugging Face saves it: no prefix, no image part, no head, old LayerNorm names."""
    state = {}
    for name, value in to_state(model).items():
        if name.startswith(("classifier.", "bert.img_embedding.", "bert.LayerNorm.")):
            continue
        name = name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma")
        state[name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    state["embeddings.position_ids"] = np.arange(6)[None]
    return state


def test_hugging_face_bert_starts_a_fresh_head_and_image_part(model, tmp_path, caplog):
    save_file(hugging_face_state(model), tmp_path / "model.safetensors")
    state = read_state(tmp_path)
    other = fresh_model()
    untouched = to_state(other)
    with caplog.at_level("INFO"):
        started = load_into(other, state, tmp_path, fresh_parts(state))
    expected = {name: untouched[name] if name in started else value for name, value in to_state(model).items()}
    assert_same(other, expected)
    layers = ("bert.LayerNorm", "bert.img_embedding", "classifier")
    assert sorted(started) == [f"{layer}.{part}" for layer in layers for part in ("bias", "weight")]
    assert "starts from initial values" in caplog.text and "bert.img_embedding.weight" in caplog.text


def test_pre_training_heads_are_left_out_and_the_classifier_starts_fresh(model, tmp_path, caplog):
    state = to_state(model)
    state = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    state["cls.seq_relationship.weight"] = np.zeros((3, 8), np.float32)
    save_file(state, tmp_path / "model.safetensors")
    state = read_state(tmp_path)
    assert fresh_parts(state) == ("classifier.",)
    with caplog.at_level("INFO"):
        load_into(fresh_model(), state, tmp_path, fresh_parts(state))
    assert "cls.seq_relationship.weight" in caplog.text


def test_every_misfit_is_listed_and_nothing_is_loaded(model, tmp_path):
    state = to_state(model)
    del state["bert.pooler.dense.bias"]
    state["bert.extra.weight"] = np.zeros((2, 2), np.float32)
    state["bert.embeddings.word_embeddings.weight"] = np.zeros((12, 8), np.float32)
    state["bert.encoder.layer.0.output.dense.weight"] = np.zeros((12, 8), np.float32)  # not transposed
    other = fresh_model()
    before = to_state(other)
    with pytest.raises(WeightsError) as raised:
        load_into(other, state, "somewhere")
    message = str(raised.value)
    assert "somewhere" in message and "\n" not in message
    assert "missing: bert.pooler.dense.bias" in message
    assert "unexpected: bert.extra.weight" in message
    assert "bert.embeddings.word_embeddings.weight [12, 8] instead of [11, 8]" in message
    assert "bert.encoder.layer.0.output.dense.weight [12, 8] instead of [8, 12]" in message
    assert_same(other, before)


def test_the_head_of_another_task_has_a_remedy(model):
    state = to_state(model)
    state["classifier.bias"] = np.zeros(7, np.float32)
    with pytest.raises(WeightsError, match=r"classifier.bias .* instead of .*; PRETRAINED.FRESH_HEAD True starts"):
        load_into(fresh_model(), state, "somewhere", fresh_parts(state))
    for fresh, damaged in ((), {}), (fresh_parts(state), {"bert.pooler.dense.bias": np.zeros(7, np.float32)}):
        with pytest.raises(WeightsError, match="instead of") as raised:  # evaluation; other weights
            load_into(fresh_model(), {**state, **damaged}, "somewhere", fresh)
        assert "FRESH_HEAD" not in str(raised.value)


def test_evaluation_needs_every_weight(model, tmp_path):
    save_file(hugging_face_state(model), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="missing: .*classifier.weight"):
        load_into(fresh_model(), read_state(tmp_path), tmp_path)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(WeightsError, match="no weights here; expected one of model.safetensors, pytorch_model.bin"):
        find_weights(tmp_path)
    with pytest.raises(WeightsError, match="no such checkpoint folder"):
        find_weights(tmp_path / "absent")


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.99])
def test_truncated_safetensors(model, tmp_path, keep):
    write_model(tmp_path, model)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(WeightsError, match="model.safetensors: not a whole safetensors file"):
        read_state(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_truncated_pytorch_file(golden, tmp_path, keep):
    content = (golden / "checkpoint" / "pytorch_model.bin").read_bytes()
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(UserError, match="pytorch_model.bin"):
        read_state(tmp_path)


def test_code_in_a_weights_file_is_refused_by_name(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (print, ("executed",))

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"bert.x": Harmful()}))
    with pytest.raises(UserError, match="builtins.print"):
        read_state(tmp_path)


def test_a_weights_file_with_something_else_in_it(tmp_path):
    (tmp_path / "paddle_model.bin").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(WeightsError, match="expected a dictionary of tensors, found list"):
        read_state(tmp_path)
    (tmp_path / "paddle_model.bin").write_bytes(pickle.dumps({"bert.x": "text"}))
    with pytest.raises(WeightsError, match="'bert.x' is a str, expected a tensor"):
        read_state(tmp_path)
    (tmp_path / "paddle_model.bin").write_bytes(pickle.dumps({391895: np.zeros(2)}))  # region features, say
    with pytest.raises(WeightsError, match="the key 391895 is no parameter name"):
        read_state(tmp_path)


def write_safetensors(path, tensors):
    """A file of (type, shape, bytes) by name, of types that NumPy has not."""
    head, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        head[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def bits_of_bfloat16(value):
    return (np.ascontiguousarray(value, "<f4").view("<u4") >> 16).astype("<u2")


@pytest.mark.parametrize("kind", ["F16", "F64", "BF16", "paddle"])
def test_other_types_of_weights(model, tmp_path, kind):
    state = to_state(model)
    if kind in ("BF16", "paddle"):
        stored = {name: bits_of_bfloat16(value) for name, value in state.items()}
        expected = {name: from_bfloat16(value) for name, value in stored.items()}
    else:
        stored = {name: value.astype(f"<f{int(kind[1:]) // 8}") for name, value in state.items()}
        expected = {name: value.astype(np.float32) for name, value in stored.items()}
    if kind == "paddle":
        turned = {n: np.ascontiguousarray(v.T) if is_stored_transposed(n, v) else v for n, v in stored.items()}
        (tmp_path / "model_state.pdparams").write_bytes(pickle.dumps(turned, 4))
    else:
        tensors = {name: (kind, value.shape, value.tobytes()) for name, value in stored.items()}
        tensors["bert.embeddings.position_ids"] = ("I64", (1, 6), np.arange(6).tobytes())
        write_safetensors(tmp_path / "model.safetensors", tensors)
    other = fresh_model()
    load_into(other, read_state(tmp_path), tmp_path)
    assert_same(other, expected)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "I4", "F4", "E8M0"])
def test_types_of_weights_that_nobody_can_read(tmp_path, kind):
    good = ("F32", (2,), np.zeros(2, "<f4").tobytes())
    write_safetensors(tmp_path / "model.safetensors", {"bert.a": good, "bert.b": (kind, (4,), bytes(4))})
    with pytest.raises(
        WeightsError, match=rf"model\.safetensors: tensor 'bert\.b' has the type {kind}, .*expected F32"
    ):
        read_state(tmp_path)


def test_a_type_that_is_no_text(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"bert.a": (["F32"], (2,), bytes(8))})
    with pytest.raises(WeightsError, match=r"model\.safetensors: tensor 'bert\.a' has the type"):
        read_state(tmp_path)


def test_whole_numbers_are_no_weights(model, tmp_path):
    state = {**to_state(model), "classifier.bias": np.array([1, 2], np.int8)}
    with pytest.raises(WeightsError, match=r"do not fit the model; no floats: classifier\.bias int8"):
        load_into(model, state, tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "cannot be read as JSON"),
        ("[1]", "expected a JSON object, found list"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"hidden_size": "48"}', "hidden_size is '48', expected a whole number"),
        ('{"num_attention_heads": 0}', "num_attention_heads is 0, expected a whole number"),
        ('{"num_hidden_layers": null}', "num_hidden_layers is None, expected a whole number"),
        ('{"vocab_size": true}', "vocab_size is True, expected a whole number"),
        ('{"num_attention_heads": 5}', "hidden_size 768 is not a multiple"),
    ],
)
def test_damaged_config(tmp_path, content, expected):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=f"config.json: {expected}"):
        read_model_config(tmp_path)


def test_unusable_configs(tmp_path, golden):
    with pytest.raises(WeightsError, match="hidden_act 'relu' is not supported"):
        BertConfig(hidden_act="relu")
    with pytest.raises(WeightsError, match="hidden_size 10 is not a multiple of num_attention_heads 4"):
        BertConfig(hidden_size=10, num_attention_heads=4)
    with pytest.raises(WeightsError, match="classifier 'tree' is unknown, expected 'linear' or 'mlp'"):
        fresh_model(classifier="tree")
    with pytest.raises(WeightsError, match="dis_code"):
        fresh_model(img_feature_type="dis_code")
    shutil.copy(golden / "checkpoint" / "vocab.txt", tmp_path)
    with pytest.raises(WeightsError, match="config.json: not found"):
        read_model_config(tmp_path)


def test_mlp_head_has_the_upstream_names(tmp_path):
    model = fresh_model(classifier="mlp", cls_hidden_scale=3)
    state = to_state(model)
    assert state["classifier.0.weight"].shape == (24, 8)
    assert state["classifier.2.weight"].shape == (2, 24)
    write_model(tmp_path, model)
    other = fresh_model(classifier="mlp", cls_hidden_scale=3)
    load_into(other, read_state(tmp_path), tmp_path)
    assert_same(other, state)
