"""What classes, words and settings of a checkpoint mean travels with it: taken, compared, or refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
from starting import in_process, words_of

from oscar_paddle.datasets.questions.answers import read_answer_labels
from oscar_paddle.datasets.vqa_dataset import LABEL_FILES
from oscar_paddle.models.checkpoints.input_settings import vocabulary_digest

INPUT = {"MAX_SEQ_LEN": 24, "MAX_REGION": 6, "ADD_OD_LABEL": True, "DO_LOWER_CASE": True, "ATT_MASK_TYPE": "CLR"}


@pytest.fixture
def vqa(repository, tmp_path, monkeypatch):
    """A copy of the golden folder whose checkpoint remembers its training."""
    shutil.copytree(repository / "tests" / "golden" / "vqa", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    remember(tmp_path)
    return tmp_path


def remember(root, **changes):
    answers = read_answer_labels(root / "vqa", LABEL_FILES).answers
    words = (root / "checkpoint" / "vocab.txt").read_text().split()
    state = {"config": {"INPUT": INPUT}, "answers": answers, "vocabulary": vocabulary_digest(words), **changes}
    (root / "checkpoint" / "trainer_state.json").write_text(json.dumps(state))
    return answers


def tool(name, out="out", **settings):
    """Exit code; settings that are not given are not set anywhere."""
    with open("run.yaml", "w", encoding="utf-8") as file:
        file.write("{}")
    words = {"DATASET.DATA_DIR": "vqa", "MISC.DEVICE": "cpu", "EVAL.BACKEND": "eager"}
    words |= {key.replace("__", "."): value for key, value in settings.items()}
    place = ("--output_dir", out) if name.startswith("eval") else ()
    return in_process(name, "--cfg_file", "run.yaml", *place, "--opts", *words_of(words))


def evaluate(split="val", out="out", **settings):
    return tool("eval_vqa", out, DATASET__TEST=split, EVAL__CHECKPOINT_DIR="checkpoint", **settings)


def train(**settings):
    checkpoint = {"PRETRAINED__DIR": "checkpoint", "OPTIMIZATION__MAX_STEPS": 1, "MISC__NUM_WORKERS": 0}
    lengths = {"INPUT__MAX_SEQ_LEN": 24, "INPUT__MAX_REGION": 6, "MONITOR__EVAL_FREQ": 0, "OUTPUT__SAVE_NAME": "run"}
    return tool("train_vqa", **{**checkpoint, **lengths, **settings})


def turned_labels(answers):
    """The label file with its first two answers exchanged, and other names for none."""
    table = {answer: number for number, answer in enumerate([answers[1], answers[0], *answers[2:]])}
    with open("turned.pkl", "wb") as file:
        pickle.dump(table, file)
    shutil.copy("turned.pkl", "label2ans.pkl")
    with open("label2ans.pkl", "wb") as file:
        pickle.dump(list(table), file)
    return {"DATASET__LABEL_FILE": "turned.pkl", "DATASET__LABEL2ANS_FILE": "label2ans.pkl"}


@pytest.mark.parametrize("split", ["val", "test2015"])
def test_answers_in_another_order_are_refused(vqa, capfd, split):
    """Also where results are there that could be used again, of a split without answers."""
    answers = remember(vqa)
    assert evaluate(split) == 0
    before = {path.name: path.read_bytes() for path in (vqa / "out").iterdir()}
    assert evaluate(split, **turned_labels(answers)) == 1
    expected = f'are other answers: class 0 was "{answers[0]}", is "{answers[1]}" ({len(answers)} answers were'
    assert expected in capfd.readouterr().err
    assert {path.name: path.read_bytes() for path in (vqa / "out").iterdir()} == before


def test_another_number_of_answers_is_refused(vqa, capfd):
    answers = remember(vqa)
    remember(vqa, answers=answers[:-1])
    assert evaluate() == 1
    assert f'class {len(answers) - 1} was none, is "{answers[-1]}"' in capfd.readouterr().err


def test_unknown_answers_are_no_longer_reused(vqa, capfd):
    """A checkpoint that keeps none: names of results must follow the label file all the same."""
    answers = remember(vqa, answers=None)
    assert evaluate("test2015") == 0
    assert f"keeps no answers; its classes are taken for those of DATASET.LABEL_FILE: 0 = {answers[0]!r}" in (
        capfd.readouterr().err
    )
    assert evaluate("test2015", **turned_labels(answers)) == 0
    assert "differing: data" in capfd.readouterr().err


def test_training_refuses_other_answers_unless_the_head_is_new(vqa, capfd):
    turned = turned_labels(remember(vqa))
    assert train(**turned) == 1
    assert "are other answers: class 0 was" in capfd.readouterr().err
    assert train(**turned, PRETRAINED__FRESH_HEAD=True, OUTPUT__SAVE_NAME="fresh") == 0
    state = json.loads((vqa / "exp" / "fresh" / "last" / "trainer_state.json").read_text())
    assert state["answers"] == pickle.loads((vqa / "label2ans.pkl").read_bytes())
    assert state["vocabulary"] == vocabulary_digest((vqa / "checkpoint" / "vocab.txt").read_text().split())
    capfd.readouterr()
    remember(vqa, answers=None)  # the start has any answers, the run has those of fresh
    resumed = {"PRETRAINED__RESUME": "exp/fresh/last", "PRETRAINED__RESUME_INEXACT": True}
    assert train(**resumed, OUTPUT__SAVE_NAME="other") == 1
    assert "are other answers" in capfd.readouterr().err


@pytest.mark.parametrize("start", [evaluate, train])
def test_another_vocabulary_is_refused(vqa, capfd, start):
    path = vqa / "checkpoint" / "vocab.txt"
    words = path.read_text().splitlines()
    path.write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    assert start() == 1
    assert "trained with another vocabulary" in capfd.readouterr().err


def test_stored_settings_where_the_yaml_is_silent(vqa, capfd):
    explicit = {"INPUT__MAX_SEQ_LEN": 9, "INPUT__MAX_REGION": 2, "INPUT__ADD_OD_LABEL": False}
    assert evaluate(out="explicit", **explicit) == 0
    errors = capfd.readouterr().err
    assert (
        "INPUT.MAX_SEQ_LEN is 9 (--opts), but the checkpoint was trained with 24 (checkpoint/trainer_state.json)"
        in (errors)
    )
    assert "INPUT.ADD_OD_LABEL is False (--opts), but the checkpoint was trained with True" in errors
    remember(vqa, config={"INPUT": {**INPUT, "MAX_SEQ_LEN": 9, "MAX_REGION": 2, "ADD_OD_LABEL": False}})
    assert evaluate(out="silent") == 0
    errors = capfd.readouterr().err
    assert "WARNING INPUT" not in errors and "INPUT.MAX_SEQ_LEN is 9, as the checkpoint was trained" in errors
    found = [np.load(vqa / out / "predictions.npy") for out in ("explicit", "silent")]
    assert np.array_equal(*found)
    settings = [json.loads((vqa / out / "provenance.json").read_text())["settings"] for out in ("explicit", "silent")]
    assert settings[0] == settings[1]


def test_a_score_below_the_commonest_answer_is_named(vqa, capfd):
    assert evaluate(INPUT__ADD_OD_LABEL=False) == 0  # scores 0 %
    assert "VQA val: 0.00 % is less than always saying" in capfd.readouterr().err
    assert evaluate(out="right") == 0
    assert "less than always saying" not in capfd.readouterr().err


def test_search_takes_stored_settings_too(golden, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(golden / "checkpoint", "checkpoint")
    (tmp_path / "run.yaml").write_text("")
    words = {
        "DATASET.DATA_DIR": golden / "coco_ir",
        "DATASET.CACHE_DIR": tmp_path / "cache",
        "EVAL.EVAL_CROSS_IMAGE": 1,
    }
    words |= {"EVAL.EVAL_CROSS_IMAGE": True, "EVAL.CHECKPOINT_DIR": "checkpoint"}

    def search(**more):
        query = ("--cfg_file", "run.yaml", "--query_txt", "a dog", "--opts")
        assert in_process("inference_retrieval", *query, *words_of({**words, **more})) == 0
        return capfd.readouterr()

    silent = search().out
    assert silent == search(**{"INPUT.MAX_SEQ_LEN": 40, "INPUT.MAX_REGION": 12}).out
    assert silent != search(**{"INPUT.MAX_REGION": 2}).out
