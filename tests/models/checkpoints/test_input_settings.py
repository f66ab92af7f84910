"""Settings of a checkpoint's training: where they are looked for, and what is refused."""

import argparse
import json

import pytest

from oscar_paddle.config.errors import DataError, WeightsError
from oscar_paddle.datasets.formats.torch_writer import write_torch_file
from oscar_paddle.models.checkpoints.input_settings import (
    check_meaning,
    read_input_settings,
    stored_settings,
    vocabulary_digest,
)


def test_published_settings_where_the_folder_says_nothing(tmp_path):
    vinvl = read_input_settings(tmp_path, {"use_img_layernorm": 1, "max_position_embeddings": 512})
    assert (vinvl.max_seq_length, vinvl.max_img_seq_length, vinvl.source) == (70, 70, "")
    assert vinvl.do_lower_case and vinvl.add_od_labels and vinvl.att_mask_type == "CLR"
    oscar = read_input_settings(tmp_path, {"max_position_embeddings": 60})
    assert (oscar.max_seq_length, oscar.max_img_seq_length) == (60, 50)


def test_the_golden_checkpoint(golden):
    settings = read_input_settings(golden / "checkpoint", {})
    assert (settings.max_seq_length, settings.max_img_seq_length) == (40, 12)
    assert settings.source == "training_args.bin"
    assert settings.others == {"use_img_layernorm": 1, "img_layer_norm_eps": 1e-12}


def test_the_order_of_the_files(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_input_settings(tmp_path, {}).do_lower_case is False
    (tmp_path / "trainer_state.json").write_text(
        json.dumps({"config": {"INPUT": {"MAX_SEQ_LEN": 30, "ATT_MASK_TYPE": "CL"}}})
    )
    settings = read_input_settings(tmp_path, {})
    assert (settings.max_seq_length, settings.att_mask_type, settings.do_lower_case) == (30, "CL", False)
    (tmp_path / "training_args.json").write_text('{"max_seq_length": 31, "seed": 88}')
    settings = read_input_settings(tmp_path, {})
    assert (settings.max_seq_length, settings.others) == (31, {"seed": 88})
    write_torch_file(tmp_path / "training_args.bin", argparse.Namespace(max_seq_length=32, dtype={1, 2}))
    settings = read_input_settings(tmp_path, {})
    assert (settings.max_seq_length, settings.others) == (32, {})  # a set is nothing for JSON


def test_settings_without_an_end_are_left_out_or_refused(tmp_path):
    endless = 1
    for _ in range(60):  # 60 lists in memory; written out, 2 to the power of 60 numbers
        endless = [endless, endless]
    write_torch_file(tmp_path / "training_args.bin", argparse.Namespace(other=endless, seed=88))
    assert read_input_settings(tmp_path, {}).others == {"seed": 88}
    write_torch_file(tmp_path / "training_args.bin", argparse.Namespace(max_seq_length=endless))
    with pytest.raises(WeightsError, match="max_seq_length is an object of type list; expected int"):
        read_input_settings(tmp_path, {})


def test_the_mask_is_passed_on_only_where_it_is_special(tmp_path):
    assert "att_mask_type" not in read_input_settings(tmp_path, {}).to_args()
    (tmp_path / "training_args.json").write_text('{"att_mask_type": "LR"}')
    assert read_input_settings(tmp_path, {}).to_args()["att_mask_type"] == "LR"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"max_seq_length": "70"}', "max_seq_length is '70'; expected int"),
        ('{"max_seq_length": true}', "max_seq_length is True; expected int"),
        ('{"max_seq_length": 2}', "max_seq_length is 2; expected at least 3"),
        ('{"max_img_seq_length": 0}', "max_img_seq_length is 0; expected at least 1"),
        ('{"do_lower_case": 1}', "do_lower_case is 1; expected bool"),
        ('{"att_mask_type": "XY"}', "att_mask_type is 'XY'; expected CLR, CL, CR, LR"),
        ('{"answers": "no"}', "answers is 'no'; expected list"),
        ('{"answers": ["no", 1]}', "answers holds what is no text"),
        ("[]", "expected a JSON object, found list"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_damaged_settings(tmp_path, content, expected):
    (tmp_path / "training_args.json").write_text(content)
    with pytest.raises(WeightsError, match=f"training_args.json: {expected}"):
        read_input_settings(tmp_path, {})
    (tmp_path / "training_args.json").unlink()
    (tmp_path / "trainer_state.json").write_text('{"config": []}')
    with pytest.raises(WeightsError, match="trainer_state.json: no settings in it"):
        read_input_settings(tmp_path, {})


def test_what_the_folder_says_is_told_apart_from_what_is_published(tmp_path):
    assert not read_input_settings(tmp_path, {}).told_by
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert read_input_settings(tmp_path, {}).told_by == {"do_lower_case": "tokenizer_config.json"}
    (tmp_path / "training_args.json").write_text('{"max_seq_length": 70, "od_label_type": "oid"}')
    told = dict.fromkeys(("max_seq_length", "od_label_type", "att_mask_type"), "training_args.json")
    assert read_input_settings(tmp_path, {}).told_by == {"do_lower_case": "tokenizer_config.json", **told}


def test_settings_that_cannot_be_read_are_said_and_not_compared(tmp_path, caplog):
    """As in a folder of another program that uses the same file name."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "trainer_state.json").write_text('{"log_history": []}')
    assert not stored_settings(tmp_path).told_by
    assert "trainer_state.json: no settings in it" in caplog.text


@pytest.mark.parametrize("name", ["trainer_state.json", "training_args.bin", "training_args.json"])
@pytest.mark.parametrize("damage", ["cut", "folder", "dead link"])
def test_damaged_settings_are_said_once(tmp_path, caplog, name, damage):
    (tmp_path / "config.json").write_text("{}")
    if damage == "cut":
        (tmp_path / name).write_text('{"config": ')
    elif damage == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to("nowhere")
    assert not stored_settings(tmp_path).told_by
    check_meaning(tmp_path, words=["any"], answers=["two"])
    assert caplog.text.count("what the checkpoint was trained with is not compared") == 1 and name in caplog.text


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["no", "two"], 'class 0 was "two", is "no" (2 answers were, 2 are)'),
        (["two"], 'class 1 was "no", is none (2 answers were, 1 are)'),
        (["two", "no", "red"], 'class 2 was none, is "red" (2 answers were, 3 are)'),
    ],
)
def test_other_answers_are_refused(tmp_path, answers, words):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "training_args.json").write_text('{"answers": ["two", "no"]}')
    assert check_meaning(tmp_path, answers=["two", "no"]).answers == ["two", "no"]
    check_meaning(tmp_path)
    with pytest.raises(DataError) as refusal:
        check_meaning(tmp_path, answers=answers)
    assert f"{tmp_path}: the classes of this checkpoint are other answers: {words}" in str(refusal.value)


def test_another_vocabulary_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    check_meaning(tmp_path, words=["any"])
    (tmp_path / "training_args.json").write_text(json.dumps({"vocabulary": vocabulary_digest(["a", "b"])}))
    check_meaning(tmp_path, words={"a": 0, "b": 1})
    with pytest.raises(DataError, match="trained with another vocabulary"):
        check_meaning(tmp_path, words=["b", "a"])


def test_the_caption_slot_and_what_self_critical_training_saved(tmp_path):
    """The reference saves other lengths after self-critical training; what they mean is the same."""
    assert "max_seq_a_length" not in read_input_settings(tmp_path, {}).to_args()
    args = {"max_seq_length": 70, "max_seq_a_length": 38, "max_gen_length": 20, "scst": False}
    (tmp_path / "training_args.json").write_text(json.dumps(args))
    settings = read_input_settings(tmp_path, {})
    assert (settings.max_seq_length, settings.max_seq_a_length) == (70, 38) and settings.to_args()["scst"] is False
    (tmp_path / "training_args.json").write_text(json.dumps({**args, "max_seq_length": 52, "scst": True}))
    after = read_input_settings(tmp_path, {})
    assert (after.max_seq_length, after.max_seq_a_length) == (70, 38)
    (tmp_path / "training_args.json").write_text(json.dumps(after.to_args()))  # as a conversion keeps them
    assert read_input_settings(tmp_path, {}).max_seq_length == 70
