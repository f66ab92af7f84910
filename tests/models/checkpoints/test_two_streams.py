"""ViLBERT's checkpoints: vilbert_beta's, vilbert-multi-task's and the Paddle port's, in and out."""

import json
import shutil

import numpy as np
import paddle
import pytest

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.datasets.formats.torch_writer import write_torch_tensors
from oscar_paddle.models.checkpoints import conversion
from oscar_paddle.models.checkpoints.conversion import OURS, PYTORCH, VILBERT_PADDLE, VINVL_PADDLE
from oscar_paddle.models.checkpoints.two_streams import DECODER, WORDS
from oscar_paddle.models.checkpoints.weights import find_weights, load_into, read_state, to_state, write_model
from oscar_paddle.models.config import VilbertConfig, read_model_config
from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.solvers.build import load

UNREAD_HEADS = ("vil_prediction", "vil_logit", "linguisic_logit")


@pytest.fixture(scope="module")
def published(repository):
    """A checkpoint of vilbert_beta, every square layer and head with values of its own."""
    return repository / "tests" / "golden" / "vilbert_rec" / "checkpoint"


@pytest.fixture
def folder_with(published, tmp_path):
    """Function: state of a PyTorch file, and its name -> a checkpoint folder."""

    def make(state, name="pytorch_model.bin"):
        folder = tmp_path / "changed"
        shutil.copytree(published, folder, ignore=shutil.ignore_patterns("pytorch_model.bin"))
        write_torch_tensors(folder / name, state)
        return folder

    return make


def run(source, folder, target):
    conversion.convert(conversion.read_source(source), folder, target)
    return folder


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape and found[name].tobytes() == value.tobytes(), name


def test_every_form_gives_the_same_tensors_bit_for_bit(published, tmp_path):
    state, here = read_state(published), published
    for number, target in enumerate((VILBERT_PADDLE, OURS, VILBERT_PADDLE, PYTORCH)):
        here = run(here, tmp_path / str(number), target)
        assert_same(read_state(here), state)
        assert read_model_config(here).to_dict() == read_model_config(published).to_dict()
        assert "img_feature_dim" not in json.loads((here / "config.json").read_text())


def test_settings_go_along_and_none_are_made_up(published, tmp_path):
    """Upstream's programs keep none; those that one of our folders tells are still there after the way to PyTorch."""
    there = run(published, tmp_path / "there", PYTORCH)
    assert {path.name for path in there.iterdir()} == {"pytorch_model.bin", "config.json", "vocab.txt"}
    assert not any("input settings" in line for line in conversion.plan_lines(conversion.read_source(there), OURS))
    (there / "training_args.json").write_text(json.dumps({"max_seq_length": 20}))
    back = run(run(there, tmp_path / "ported", VILBERT_PADDLE), tmp_path / "back", PYTORCH)
    assert conversion.read_source(back).settings.max_seq_length == 20


def test_the_port_finds_every_matrix_turned_but_the_embedding_tables(published, tmp_path):
    state = read_state(published)
    ported = paddle.load(str(run(published, tmp_path / "port", VILBERT_PADDLE) / "paddle_model_0.pdparams"))
    assert set(ported) - set(state) == {"cls.predictions.decoder.bias"}
    assert set(state) - set(ported) == {"cls.predictions.bias"}
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    for name in set(state) & set(ported):
        turned = state[name].ndim == 2 and not any(table in name for table in tables)
        np.testing.assert_array_equal(ported[name].numpy(), state[name].T if turned else state[name], err_msg=name)
    assert ported["bert.v_embeddings.image_location_embeddings.weight"].shape == [5, 40]


def test_what_the_port_saved_itself_is_read(published, tmp_path):
    """As paddle.save writes a layer's state in Paddle 2.1: gains of weight norm are [1], the decoder is an old copy."""
    state = read_state(published)
    ported = paddle.load(str(run(published, tmp_path / "made", VILBERT_PADDLE) / "paddle_model_0.pdparams"))
    for name, tensor in ported.items():
        if name.endswith("weight_g"):
            ported[name] = tensor.reshape([1])
    ported[DECODER] = ported[DECODER] + 1
    folder = tmp_path / "port"
    folder.mkdir()
    paddle.save(ported, str(folder / "paddle_model_19.pdparams"))
    for name in ("config.json", "vocab.txt"):
        shutil.copy(published / name, folder)
    assert_same(to_state(load(folder, VilbertForReferring)), state)
    assert_same(read_state(run(folder, tmp_path / "pytorch", PYTORCH)), state)  # PyTorch reads the decoder last


def test_a_trained_model_is_read_again_and_has_all_that_upstream_asks_for(published, tmp_path):
    model = load(published, VilbertForReferring)
    write_model(tmp_path, model)
    assert_same(to_state(load(tmp_path, VilbertForReferring)), read_state(published))
    assert set(read_state(tmp_path)) == set(read_state(published))


def test_files_named_by_epoch_are_found_and_several_are_refused(folder_with, published):
    state = read_state(published)
    folder = folder_with({f"module.{name}": value for name, value in state.items()}, "pytorch_model_8.bin")
    assert find_weights(folder).name == "pytorch_model_8.bin"
    assert_same(read_state(folder), state)
    shutil.copy(folder / "pytorch_model_8.bin", folder / "pytorch_model_9.bin")
    with pytest.raises(WeightsError, match=r"several epochs, pytorch_model_8.bin, pytorch_model_9.bin; put one into"):
        find_weights(folder)


def test_the_heads_of_multi_task_are_no_error_and_nothing_reads_them(folder_with, published):
    state = {name: value for name, value in read_state(published).items() if not name.startswith("vil_prediction.")}
    for name in ("vil_prediction.logit_fc.0", "vil_prediction_gqa.logit_fc.3", "vil_tri_prediction"):
        state[f"{name}.weight"] = np.zeros((3, 4), np.float32)
    state["vil_logit.weight"] = np.zeros((3, 48), np.float32)  # of another number of classes
    model = load(folder_with(state, "pretrained_model.bin"), VilbertForReferring)
    unread = VilbertForReferring.unread
    assert_same(
        {n: v for n, v in to_state(model).items() if not n.startswith(unread)},
        {n: v for n, v in state.items() if not n.startswith(unread)},
    )


@pytest.mark.parametrize(
    "lost", ["vision_logit.bias", "bert.encoder.c_layer.1.biOutput.q_dense1.weight", "bert.t_pooler.dense.bias"]
)
def test_what_belongs_to_the_model_must_be_there(lost, folder_with, published):
    state = read_state(published)
    del state[lost]
    with pytest.raises(WeightsError, match=f"missing: {lost}"):
        load(folder_with(state), VilbertForReferring)


def test_a_start_from_pretraining_lacks_the_score_only(published):
    state = {n: v for n, v in read_state(published).items() if n.startswith(("bert.", "cls."))}
    model = VilbertForReferring(read_model_config(published))
    started = load_into(model, model.upstream(state), published, model.head_parts)
    assert {name.split(".")[0] for name in started} == {"vision_logit", *UNREAD_HEADS}


def test_an_unexpected_or_misshaped_tensor_is_refused(folder_with, published):
    state = {**read_state(published), "bert.encoder.c_layer.2.biattention.query1.bias": np.zeros(48, np.float32)}
    state["vision_logit.weight"] = np.zeros((1, 41), np.float32)
    with pytest.raises(WeightsError, match=r"unexpected: bert.encoder.c_layer.2.*misshaped: vision_logit.weight"):
        load(folder_with(state), VilbertForReferring)


def test_a_form_of_another_model_is_refused(published, repository, tmp_path):
    with pytest.raises(WeightsError, match="is a ViLBERT, which VinVL-Paddle has not; expected --to vilbert-paddle"):
        run(published, tmp_path / "new", VINVL_PADDLE)
    with pytest.raises(WeightsError, match="is no ViLBERT; --to vilbert-paddle is for those"):
        run(repository / "tests" / "golden" / "retrieval" / "checkpoint", tmp_path / "new", VILBERT_PADDLE)
    assert not (tmp_path / "new").exists()


def test_the_plan_says_what_is_done(published):
    rows = conversion.plan_rows(conversion.read_source(published), VILBERT_PADDLE)
    plan = {name: (shape, action) for name, shape, _, action in rows}
    assert plan["bert.v_embeddings.image_embeddings.weight"] == ("[2048, 40]", "transpose")
    assert plan["bert.embeddings.word_embeddings.weight"] == ("[171, 32]", "keep")
    assert plan["cls.predictions.decoder.bias"] == ("[171]", "rename from cls.predictions.bias")
    assert DECODER in plan and WORDS in plan


@pytest.mark.parametrize(
    "values, message",
    [
        ({"v_biattention_id": [0, 6]}, "v_biattention_id is"),
        ({"t_biattention_id": [1, 0]}, "t_biattention_id is"),
        ({"v_biattention_id": [0], "t_biattention_id": [6, 7]}, "different lengths"),
        ({"v_biattention_id": []}, "v_biattention_id is"),
        ({"v_hidden_size": 1023}, "v_hidden_size 1023 is not a multiple of v_num_attention_heads 8"),
        ({"bi_hidden_size": 0}, "bi_hidden_size is 0"),
        ({"v_hidden_act": "relu"}, "v_hidden_act 'relu'"),
    ],
)
def test_a_config_that_upstream_would_take_in_silence_is_refused(values, message):
    with pytest.raises(WeightsError, match=message):
        VilbertConfig(**values)
