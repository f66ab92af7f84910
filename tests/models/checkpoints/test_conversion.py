"""Checkpoints between PyTorch, VinVL-Paddle and our own: bit for bit, with every head, and what is refused.

Files written here were loaded by PyTorch 2.13 (weights_only=True), pytorch-transformers 1.1.0, Paddle 3.3.1 and Paddle
2.6.2 with NumPy 1.26 when the writers were made; paddle.load is here, so it is asked again.
"""

import argparse
import json
import shutil

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from oscar_paddle.config.errors import ConfigError, DataError, UserError, WeightsError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.torch_writer import write_torch_file, write_torch_tensors
from oscar_paddle.models.checkpoints import conversion
from oscar_paddle.models.checkpoints.conversion import (
    FORMATS,
    OURS,
    PYTORCH,
    VILBERT_PADDLE,
    VINVL_PADDLE,
    VINVL_PADDLE_PRETRAINED,
)
from oscar_paddle.models.checkpoints.input_settings import check_meaning, read_input_settings, vocabulary_digest
from oscar_paddle.models.checkpoints.weights import read_state

H, WORDS = 4, 7  # width and vocabulary of the states made here
VOCAB = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ndog\ncat\n"


def trunk(layer_norm=True):
    """A one-layer model as PyTorch has it: every kind of name that the encoder has."""
    rng = np.random.default_rng(3)
    shapes = {"bert.embeddings.word_embeddings.weight": (WORDS, H), "bert.embeddings.LayerNorm.bias": (H,)}
    for part in ("attention.self.query", "attention.output.dense"):  # square: shapes do not show a transpose
        shapes[f"bert.encoder.layer.0.{part}.weight"] = (H, H)
    shapes["bert.encoder.layer.0.intermediate.dense.weight"] = (6, H)
    shapes["bert.encoder.layer.0.intermediate.dense.bias"] = (6,)
    shapes["bert.pooler.dense.weight"] = (H, H)
    shapes["bert.img_embedding.weight"] = (H, 9)
    if layer_norm:
        shapes["bert.LayerNorm.weight"] = (H,)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def head(shapes):
    rng = np.random.default_rng(4)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def linear(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


CAPTIONING = {
    "cls.predictions.bias": (WORDS,),
    "cls.predictions.decoder.weight": (WORDS, H),
    "cls.predictions.transform.dense.weight": (H, H),
    "cls.seq_relationship.weight": (3, H),
}
HEADS = {
    "retrieval": head(linear("classifier", 2, H)),
    "vqa_mlp": head(linear("classifier.0", 8, H) | linear("classifier.2", 5, 8)),
    "vqa_mlp_square": head(linear("classifier.0", H, H) | linear("classifier.2", 5, H)),
    "nlvr2_vinvl": head(linear("classifier.0", 8, 2 * H) | linear("classifier.2", 8) | linear("classifier.3", 2, 8)),
    "captioning": head(CAPTIONING),
    "captioning_oscar_v1": head({"transform.dense.weight": (H, H), "decoder.weight": (WORDS, H)}),
}


def pytorch_folder(folder, state, config=None, vocab=True):
    folder.mkdir()
    write_torch_tensors(folder / "pytorch_model.bin", state)
    (folder / "config.json").write_text(json.dumps({"hidden_size": H, "num_attention_heads": 2, **(config or {})}))
    if vocab:
        (folder / "vocab.txt").write_text(VOCAB)
    return folder


def run(source, folder, target, vocab=""):
    conversion.convert(conversion.read_source(source, vocab), folder, target)
    return folder


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("name", HEADS)
def test_round_trips_are_bit_exact_for_every_head(tmp_path, name):
    state = {**trunk(), **HEADS[name], "bert.embeddings.position_ids": np.arange(3)[None]}
    state["bert.encoder.layer.0.output.dense.weight"] = np.full((H, 6), np.nan, np.float16)  # any bits, any type
    here = pytorch_folder(tmp_path / "start", state)
    for number, target in enumerate((OURS, VINVL_PADDLE, PYTORCH, VINVL_PADDLE_PRETRAINED, OURS, PYTORCH)):
        here = run(here, tmp_path / f"{number}", target)
        assert_same(read_state(here), state)
    assert_same(torch_files.load(here / "pytorch_model.bin"), state)


@pytest.mark.parametrize("target", [VINVL_PADDLE, VINVL_PADDLE_PRETRAINED])
def test_paddle_load_reads_what_vinvl_paddle_expects(tmp_path, target):
    state = {**trunk(), **HEADS["vqa_mlp"], **HEADS["captioning"]}
    folder = run(pytorch_folder(tmp_path / "start", state), tmp_path / "new", target)
    loaded = paddle.load(str(folder / "paddle_model.bin"))
    if target == VINVL_PADDLE:
        assert loaded["epoch"] == 0
        loaded = loaded["model"]
    assert set(loaded) == set(state) and all(isinstance(value, paddle.Tensor) for value in loaded.values())
    # VinVL-Paddle's own converter transposes what its layers hold, and leaves the rest.
    for name, value in state.items():
        linear = value.ndim == 2 and "embeddings." not in name and name.startswith(("bert.", "classifier."))
        np.testing.assert_array_equal(loaded[name].numpy(), value.T if linear else value, err_msg=name)


def test_a_model_of_the_same_layers_takes_the_paddle_file(tmp_path):
    state = {"bert.pooler.dense.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    folder = run(pytorch_folder(tmp_path / "start", state), tmp_path / "new", VINVL_PADDLE_PRETRAINED)
    layer = paddle.nn.Linear(3, 2, bias_attr=False)
    layer.set_state_dict({"weight": paddle.load(str(folder / "paddle_model.bin"))["bert.pooler.dense.weight"]})
    np.testing.assert_array_equal(layer(paddle.eye(3)).numpy(), state["bert.pooler.dense.weight"].T)


def test_files_of_vinvl_paddles_own_converter(tmp_path):
    """It does not transpose an MLP classifier, as a model trained in the port has it; the bias tells which is which."""
    state = {**trunk(), **HEADS["vqa_mlp"], **HEADS["captioning"]}
    listed = {name for name in state if name.startswith("bert.") and state[name].ndim == 2 and "embeddings" not in name}
    for folder, also in (("converted", set()), ("trained", {"classifier.0.weight", "classifier.2.weight"})):
        (tmp_path / folder).mkdir()
        turned = {
            name: paddle.to_tensor(np.ascontiguousarray(value.T) if name in listed | also else value)
            for name, value in state.items()
        }
        paddle.save(turned, str(tmp_path / folder / "paddle_model.bin"))
        assert_same(read_state(tmp_path / folder), state)


def test_the_golden_checkpoint_comes_back_as_it_was(golden, tmp_path):
    start = golden / "checkpoint"
    there = run(run(start, tmp_path / "paddle", VINVL_PADDLE), tmp_path / "back", PYTORCH)
    assert_same(torch_files.load(there / "pytorch_model.bin"), torch_files.load(start / "pytorch_model.bin"))
    for name in ("config.json", "vocab.txt"):
        assert (there / name).read_bytes() == (start / name).read_bytes()
    assert torch_files.load(there / "training_args.bin") == torch_files.load(start / "training_args.bin")
    assert json.loads((there / "special_tokens_map.json").read_text())["cls_token"] == "[CLS]"
    assert json.loads((there / "added_tokens.json").read_text()) == {}


def test_linear_weights_of_the_pytorch_file_are_out_by_in(tmp_path):
    state = {**trunk(), **HEADS["retrieval"]}
    (tmp_path / "ours").mkdir()
    save_file(state, tmp_path / "ours" / "model.safetensors")
    (tmp_path / "ours" / "config.json").write_text("{}")
    (tmp_path / "ours" / "vocab.txt").write_text(VOCAB)
    folder = run(tmp_path / "ours", tmp_path / "new", PYTORCH)
    found = torch_files.load(folder / "pytorch_model.bin")
    assert found["bert.encoder.layer.0.intermediate.dense.weight"].shape == (6, H)
    assert found["classifier.weight"].shape == (2, H)


def test_config_gets_what_the_others_cannot_do_without(tmp_path):
    folder = run(pytorch_folder(tmp_path / "start", {**trunk(), **HEADS["retrieval"]}), tmp_path / "new", VINVL_PADDLE)
    config = json.loads((folder / "config.json").read_text())
    assert config["img_feat_dim"] == config["img_feature_dim"] == 9  # as the weights have it
    assert config["num_labels"] == 2 and config["output_attentions"] is False and config["loss_type"] == "sfmx"
    text = (run(folder, tmp_path / "back", PYTORCH) / "config.json").read_text()
    config = json.loads(text)
    assert "img_feat_dim" not in config and list(config) == sorted(config)


def test_a_layer_norm_that_config_and_weights_disagree_on_is_said(tmp_path, caplog):
    conversion.read_source(pytorch_folder(tmp_path / "start", trunk(layer_norm=False), {"use_img_layernorm": 1}))
    assert "use_img_layernorm is 1, but the weights have no bert.LayerNorm" in caplog.text


def test_old_names_and_prefixes_show_in_the_table(tmp_path):
    state = {"embeddings.LayerNorm.gamma": np.ones(H, np.float32), "pooler.dense.weight": np.ones((H, H), np.float32)}
    source = conversion.read_source(pytorch_folder(tmp_path / "start", state))
    assert conversion.plan_rows(source, VINVL_PADDLE) == [
        ("bert.embeddings.LayerNorm.weight", "[4]", "float32", "rename from embeddings.LayerNorm.gamma"),
        ("bert.pooler.dense.weight", "[4, 4]", "float32", "rename from pooler.dense.weight, transpose"),
    ]
    assert {row[3] for row in conversion.plan_rows(source, OURS)} == {
        "rename from embeddings.LayerNorm.gamma",
        "rename from pooler.dense.weight",
    }
    lines = conversion.plan_lines(source, OURS)
    assert lines[0].split() == ["name", "shape", "type", "action"]
    assert lines[-3] == "2 tensors, 0.00 million values, 0.0 MB: 12 layers of width 4, text only, no head"


def test_two_tensors_of_one_name(tmp_path):
    state = {"bert.LayerNorm.gamma": np.ones(H, np.float32), "bert.LayerNorm.weight": np.ones(H, np.float32)}
    with pytest.raises(WeightsError, match="'bert.LayerNorm.gamma' and 'bert.LayerNorm.weight' are both"):
        conversion.read_source(pytorch_folder(tmp_path / "start", state))


def test_settings_of_our_own_training_reach_the_reference(tmp_path):
    start = pytorch_folder(tmp_path / "start", {**trunk(), **HEADS["retrieval"]}, {"use_img_layernorm": 1})
    inputs = {"MAX_SEQ_LEN": 40, "MAX_REGION": 16, "DO_LOWER_CASE": False, "ADD_OD_LABEL": False}
    (start / "trainer_state.json").write_text(json.dumps({"epoch": 6, "config": {"INPUT": inputs}}))
    args = torch_files.load(run(start, tmp_path / "pt", PYTORCH) / "training_args.bin")
    assert args == argparse.Namespace(
        max_seq_length=40,
        max_img_seq_length=16,
        do_lower_case=False,
        add_od_labels=False,
        img_feature_type="frcnn",
        od_label_type="vg",
        use_img_layernorm=1,
        img_layer_norm_eps=1e-12,
    )
    paddle_folder = run(start, tmp_path / "vp", VINVL_PADDLE)
    assert torch_files.load(paddle_folder / "paddle_model.bin")["epoch"] == 5  # the last one, counted from 0
    assert json.loads((paddle_folder / "tokenizer_config.json").read_text())["do_lower_case"] is False
    assert torch_files.load(run(paddle_folder, tmp_path / "pt2", PYTORCH) / "training_args.bin") == args


def test_nothing_is_overwritten(tmp_path):
    start = pytorch_folder(tmp_path / "start", trunk())
    with pytest.raises(ConfigError, match="is there already"):
        run(start, start, OURS)
    (tmp_path / "empty").mkdir()
    assert (run(start, tmp_path / "empty", OURS) / "model.safetensors").is_file()


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    start = pytorch_folder(tmp_path / "start", trunk())

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full_disk)  # the last thing that is written
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        run(start, tmp_path / "new", OURS)
    assert [path.name for path in tmp_path.iterdir()] == ["start"]


def test_vocabulary(tmp_path, caplog):
    start = pytorch_folder(tmp_path / "start", trunk(), vocab=False)
    with pytest.raises(WeightsError, match="no vocab.txt, and the reference needs one; name it with --vocab"):
        run(start, tmp_path / "a", PYTORCH)
    with pytest.raises(DataError, match="nowhere: no such file"):
        conversion.read_source(start, tmp_path / "nowhere")
    assert not (run(start, tmp_path / "b", OURS) / "vocab.txt").exists()
    assert "no vocab.txt" in caplog.text
    (tmp_path / "words.txt").write_text(VOCAB)
    for target in set(FORMATS) - {VILBERT_PADDLE}:
        folder = run(start, tmp_path / target, target, tmp_path / "words.txt")
        assert (folder / "vocab.txt").read_text() == VOCAB
    (tmp_path / "words.txt").write_text("dog\n")
    with pytest.raises(DataError, match="not a BERT vocabulary"):
        run(start, tmp_path / "c", OURS, tmp_path / "words.txt")


def test_what_is_no_checkpoint(tmp_path):
    start = pytorch_folder(tmp_path / "start", trunk())
    write_torch_file(start / "training_args.bin", {"max_seq_length": 70})
    with pytest.raises(WeightsError, match="training_args.bin: holds a dict; expected an argparse.Namespace"):
        conversion.read_source(start)
    (start / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="config.json: expected a JSON object"):
        conversion.read_source(start)
    (start / "pytorch_model.bin").write_bytes(b"<html>")
    (start / "config.json").write_text("{}")
    with pytest.raises(UserError, match="an HTML page"):
        conversion.read_source(start)


def test_our_file_is_what_a_pytorch_program_expects(tmp_path):
    state = {**trunk(), **HEADS["retrieval"]}
    folder = run(pytorch_folder(tmp_path / "start", state), tmp_path / "new", OURS)
    assert_same(load_file(folder / "model.safetensors"), state)


@pytest.mark.parametrize("way", [(PYTORCH, VINVL_PADDLE, OURS), (VINVL_PADDLE_PRETRAINED, OURS, PYTORCH)])
def test_what_classes_words_and_settings_mean_goes_along(tmp_path, way):
    here = pytorch_folder(tmp_path / "start", {**trunk(), **HEADS["retrieval"]})
    inputs = {"MAX_SEQ_LEN": 31, "MAX_REGION": 9, "DO_LOWER_CASE": False, "ADD_OD_LABEL": False, "ATT_MASK_TYPE": "CL"}
    inputs["USE_PAIR"] = False
    config = {"INPUT": inputs, "DATASET": {"OD_LABEL_TYPE": "oid"}}
    state = {"config": config, "answers": ["two", "no"], "vocabulary": vocabulary_digest(VOCAB.split())}
    (here / "trainer_state.json").write_text(json.dumps(state))
    start = read_input_settings(here, {})
    assert start.use_pair is False
    for number, target in enumerate(way):
        here = run(here, tmp_path / f"{number}", target)
        found = read_input_settings(here, {})
        fields = ("answers", "vocabulary", "att_mask_type", "max_seq_length", "do_lower_case", "od_label_type")
        fields += ("use_pair",)
        assert [getattr(found, field) for field in fields] == [getattr(start, field) for field in fields]
        assert set(found.told_by) >= {*fields, "max_img_seq_length", "add_od_labels"}
        check_meaning(here, words=VOCAB.split(), answers=["two", "no"])


def test_settings_that_cannot_be_read_are_refused_without_a_warning(tmp_path, caplog):
    here = pytorch_folder(tmp_path / "start", {**trunk(), **HEADS["retrieval"]})
    (here / "trainer_state.json").write_text('{"config": ')
    with pytest.raises(WeightsError, match=r"trainer_state\.json: cannot be read as JSON"):
        conversion.read_source(here)
    assert "is not compared" not in caplog.text


def test_a_vocabulary_of_another_training_is_refused(tmp_path):
    here = pytorch_folder(tmp_path / "start", {**trunk(), **HEADS["retrieval"]})
    (here / "training_args.json").write_text(json.dumps({"vocabulary": vocabulary_digest(["other"])}))
    with pytest.raises(DataError, match="trained with another vocabulary"):
        conversion.read_source(here)
