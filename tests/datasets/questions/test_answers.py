"""Answer pickles: class numbers are places in the dictionary, not the labels in it."""

import json
import pickle

import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.questions.answers import read_answer_labels

NAMES = ("ans2label.pkl", "label2ans.pkl")


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


@pytest.fixture
def write(tmp_path):
    def write(labels, answers=None, folder=tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / NAMES[0]).write_bytes(pickle.dumps(labels))
        if answers is not None:
            (folder / NAMES[1]).write_bytes(pickle.dumps(answers))
        return folder / NAMES[0]

    return write


@pytest.mark.parametrize("folder", ["", "cache"])
def test_classes_are_places(write, tmp_path, folder):
    path = write({"": 0, "boats": 2, "no": 1}, folder=tmp_path / folder)
    labels = read_answer_labels(tmp_path, NAMES)
    assert (len(labels), labels.answers, labels.path) == (3, ["", "boats", "no"], str(path))
    assert [labels.class_of(label, "") for label in (0, 1, 2)] == [0, 2, 1]


def test_labels_below_zero_are_refused(write, tmp_path):
    write({"no": -1, "yes": 0}, ["yes", "no"])  # a list would give its last answer
    with pytest.raises(DataError, match="expected a dictionary answer -> label"):
        read_answer_labels(tmp_path, NAMES)


def test_answers_by_label_win(write, tmp_path):
    write({"": 0, "boats": 2, "no": 1}, ["nothing", "no", "boats"])
    assert read_answer_labels(tmp_path, NAMES).answers == ["nothing", "boats", "no"]


def test_json_in_place_of_pickles(tmp_path):
    """Two JSON files, their order kept; what JSON makes of label numbers that are keys is undone."""
    (tmp_path / "ans2label.json").write_text('{"": 0, "boats": 2, "no": 1}')
    assert read_answer_labels(tmp_path, NAMES).answers == ["", "boats", "no"]
    for by_label in (["nothing", "no", "boats"], {"0": "nothing", "1": "no", "2": "boats"}):
        (tmp_path / "label2ans.json").write_text(json.dumps(by_label))
        labels = read_answer_labels(tmp_path, NAMES)
        assert labels.answers == ["nothing", "boats", "no"] and labels.class_of(2, "") == 1
    named = [str(tmp_path / name) for name in ("ans2label.json", "label2ans.json")]
    assert read_answer_labels("", NAMES, *named).answers == ["nothing", "boats", "no"]
    (tmp_path / "ans2label.json").write_text('["no"]')
    with pytest.raises(DataError, match="ans2label.json: expected a dictionary answer -> label"):
        read_answer_labels(tmp_path, NAMES)


def test_a_label_that_is_not_there(write, tmp_path):
    labels = read_answer_labels("", NAMES, label_file=str(write({"no": 1})))
    for label in (7, [1], None):
        with pytest.raises(DataError, match=r"here: the label .* is not in .*ans2label.pkl \(1 answers\)"):
            labels.class_of(label, "here")


@pytest.mark.parametrize("labels", [[], {}, {"a": "b"}, {1: 2}, {"a": True}, "text"])
def test_what_is_no_dictionary_of_labels(write, tmp_path, labels):
    write(labels)
    with pytest.raises(DataError, match="expected a dictionary answer -> label"):
        read_answer_labels(tmp_path, NAMES)


def test_answers_that_do_not_cover_the_labels(write, tmp_path):
    write({"no": 5}, ["no"])
    with pytest.raises(DataError, match="label2ans.pkl: no answer for label 5"):
        read_answer_labels(tmp_path, NAMES)


def test_a_missing_file_names_places_and_setting(tmp_path):
    with pytest.raises(DataError, match=r"ans2label.pkl and .*cache/ans2label.json: no such file.*DATASET.LABEL_FILE"):
        read_answer_labels(tmp_path, NAMES)
    with pytest.raises(DataError, match=r"other.pkl: no such file.*DATASET.LABEL_FILE"):
        read_answer_labels(tmp_path, NAMES, label_file=str(tmp_path / "other.pkl"))


def test_code_in_a_pickle_is_refused(write, tmp_path, capsys):
    write({"no": Evil()})
    with pytest.raises(DataError, match="print"):
        read_answer_labels(tmp_path, NAMES)
    assert "owned" not in capsys.readouterr().out
