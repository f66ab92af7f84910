"""The data set checks of the question tasks: each kind of damage is found, and named by file and record."""

import json
import shutil

import numpy as np
import pytest
from official import FORMS, write_regions

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.checks.questions import check_questions
from oscar_paddle.datasets.formats.torch_writer import write_torch_file
from oscar_paddle.datasets.questions.prepare import prepare, tag_finder
from oscar_paddle.tools.shell.command_line import task_class

FILES = {"vqa": "train2014_qla_mrcnn.json", "gqa": "gqa_all_qla_train.json", "nlvr2": "nlvr2_train.json"}


@pytest.fixture
def made(tmp_path):
    """Function: form -> a sound data set of its questions, in tmp_path/made."""

    def made(form):
        (tmp_path / "source").mkdir()
        name, write = FORMS[form]
        splits, images = write(tmp_path / "source")
        write_regions(tmp_path / "made" / "features", images)
        splits = {split: [str(path) for path in paths] for split, paths in splits.items()}
        features = [str(tmp_path / "made" / "features")]
        prepare(task_class(name), splits, tmp_path / "made", lambda split: tag_finder(features, split, "vg"))
        return tmp_path / "made"

    return made


@pytest.fixture
def check(tmp_path, repository):
    """Function: task, --opts words -> {kind: [(file name, text of an example), ...]} of what tmp_path/made holds."""

    def check(task, *opts, splits=None, words=False, **options):
        (tmp_path / "run.yaml").write_text("{}")
        tests = {"vqa": "test2015", "gqa": "test", "nlvr2": "test1"}
        model = repository / "tests" / "golden" / task / "checkpoint" if words else tmp_path / "no model"
        pairs = ["DATASET.DATA_DIR", tmp_path / "made", "DATASET.DEV", "val", "DATASET.TEST", tests[task]]
        pairs += ["DATASET.EVAL_DATA_TYPE", "all", "PRETRAINED.DIR", model, "EVAL.CHECKPOINT_DIR", model, *opts]
        cfg = load_config(tmp_path / "run.yaml", [str(word) for word in pairs])
        result = check_questions(cfg, task_class(task), splits, **options)
        found = {}
        for (kind, path), examples in result.findings.examples.items():
            if not path.endswith("no model"):
                found.setdefault(kind, []).extend((path.rpartition("/")[2], example.text) for example in examples)
        return found

    return check


def change(path, number, **fields):
    records = json.loads(path.read_text())
    records[number].update(fields)
    path.write_text(json.dumps(records))


@pytest.mark.parametrize("form", FORMS)
def test_sound_data_have_no_findings(made, check, form):
    made(form)
    assert check(FORMS[form][0]) == {}


@pytest.mark.parametrize(
    ("form", "fields", "kind", "text"),
    [
        ("vqa", {"an": [7]}, "bad_question", "record 2: the label 7 is not in"),
        ("vqa", {"s": [1.5]}, "bad_question", "record 2: the scores are [1.5]; expected numbers from 0 to 1"),
        ("vqa", {"s": []}, "bad_question", "record 2: 1 answers ('an') but 0 scores"),
        ("vqa", {"an": []}, "unanswered", "1 of 8 questions of split 'train'"),
        ("vqa", {"q": " "}, "blank_question", "record 2"),
        ("vqa", {"q_id": "1000"}, "repeated_question", "record 2: its question id is also that of record 0"),
        ("vqa", {"o": ""}, "no_question_tags", "1 of 8 rows of split 'train'"),
        ("vqa", {"img_id": 9}, "leak_id", "image 9 is in train and in val"),
        ("vqa", {"img_id": 77}, "no_features", "image 77, which"),
        ("gqa", {"an": ["yes"]}, "bad_question", "record 2: the answer is 'yes'"),
        ("gqa", {"an": []}, "unanswered", "1 of 8 questions of split 'train'"),
        ("gqa", {"img_id": "n77"}, "no_features", "image n77, which"),
        ("nlvr2", {"label": 2}, "bad_question", "record 2: the label is 2; expected 0 or 1"),
        ("nlvr2", {"img_id": {"left": "x"}}, "bad_question", "record 2: the field 'img_id' is"),
        ("nlvr2", {"img_id": {"left": "train-0-0-img0", "right": "y"}}, "no_features", "image y, which"),
        ("nlvr2", {"img_id": {"left": "y", "right": "train-0-0-img0"}}, "no_features", "image y, which"),
        (
            "nlvr2",
            {"img_id": {side: "train-0-0-img0" for side in ("left", "right")}},
            "same_pictures",
            "record 2: image",
        ),
        ("nlvr2", {"o": {"left": "", "right": "dog"}}, "no_question_tags", "1 of 16 rows"),
    ],
)
def test_what_is_wrong_in_a_record(made, check, form, fields, kind, text):
    task = FORMS[form][0]
    folder = made(form)
    change(folder / FILES[task], 2, **fields)
    found = check(task)
    assert set(found) == {kind}, found
    assert any(text in example for _, example in found[kind])
    if kind == "no_features":
        assert f"{folder / FILES[task]} record 2 asks for" in found[kind][0][1]


def test_files_that_are_missing_or_damaged(made, check):
    folder = made("vqa")
    (folder / "val2014_qla_mrcnn.json").write_text('[{"q": "wh')
    (folder / "test2015_qla_mrcnn.json").unlink()
    found = check("vqa")
    assert "split 'val': " in found["unreadable"][0][1] and "malformed JSON" in found["unreadable"][0][1]
    assert found["missing_file"][0][0] == "test2015_qla_mrcnn.json"
    assert "missing_file" not in check("vqa", "EVAL.CHECKPOINT_DIR", "")  # the test split is not needed then
    (folder / "trainval_ans2label.pkl").write_bytes(b"no pickle")
    assert set(check("vqa")) == {"bad_labels"}
    (folder / "trainval_ans2label.pkl").unlink()
    assert set(check("vqa")) == {"missing_file"}


def test_no_question_is_left(made, check):
    folder = made("vqa")
    records = json.loads((folder / FILES["vqa"]).read_text())
    (folder / FILES["vqa"]).write_text(json.dumps([{**record, "an": [], "s": []} for record in records]))
    assert {"no_questions", "unanswered"} == set(check("vqa"))


def test_regions(made, check):
    """The checks of regions that retrieval has, in words of this task's own."""
    folder = made("nlvr2")
    bad = {
        "features": np.full((2, 2048), np.nan, np.float32),
        "boxes": [[0, 0, 9, 9]] * 2,
        "image_w": 10,
        "image_h": 10,
    }
    np.savez(folder / "features" / "dev-0-0-img1.npz", **bad)
    found = check("nlvr2")
    assert set(found) == {"not_finite"} and "dev-0-0-img1" in found["not_finite"][0][1]
    assert check("nlvr2", max_images=1, seed=1) == {}
    assert set(check("nlvr2", "INPUT.MAX_REGION", 1)) == {"not_finite", "regions_cut"}


def test_train_and_val_of_one_split(made, check):
    """train+val is read as its halves; val is a part of it, which is no leak to be mended."""
    made("vqa")
    found = check("vqa", "DATASET.TRAIN", "train+val")
    assert set(found) == {"shared_id"} and len(found["shared_id"]) == 4


def test_halves_of_the_features(made, check):
    """Without a file for train+val, each picture is looked for in the file of train and then in that of val."""
    folder = made("vqa")
    for split, numbers in (("train", range(1, 9)), ("val", range(9, 12)), ("test2015", range(13, 16))):
        (folder / f"{split}_img_frcnn_feats").mkdir()
        for number in numbers:  # none of picture 12
            regions = np.full((2, 2054), number, np.float32)
            regions[:, 2048:] = [0, 0, 0.5, 0.5, 0.5, 0.5]
            np.save(folder / f"{split}_img_frcnn_feats" / f"{number}.npy", regions)
    shutil.rmtree(folder / "features")
    found = check("vqa", "DATASET.TRAIN", "train+val")
    assert set(found) == {"shared_id", "no_features"}
    assert found["no_features"][0] == (
        "val_img_frcnn_feats",
        f"image 12, which {folder / 'val2014_qla_mrcnn.json'} record 3 asks for",
    )


def test_regions_that_no_question_asks_for(made, check):
    """Oscar's files have the pictures of all splits: those that are not asked about here are no finding."""
    folder = made("nlvr2")
    random = np.random.default_rng(0)
    features = {path.stem: random.random((2, 2054), np.float32) for path in folder.glob("features/*.npz")}
    for regions in features.values():
        regions[:, 2048:] = [0, 0, 0.5, 0.5, 0.5, 0.5]
    write_torch_file(folder / "nlvr2_img_frcnn_feats.pt", {**features, "one more": regions})
    shutil.rmtree(folder / "features")
    assert check("nlvr2") == {}


def test_words(made, check):
    folder = made("gqa")
    change(folder / FILES["gqa"], 0, q="what " * 30)
    change(folder / FILES["gqa"], 1, o="\u4e00 " * 40)
    found = check("gqa", "INPUT.MAX_SEQ_LEN", 12, words=True)
    assert {"unknown_pieces", "question_cut", "question_tags_cut"} <= set(found)
    assert "record 0: 30 word pieces, " in found["question_cut"][0][1]


def test_splits_that_the_task_lacks(made, check):
    made("gqa")
    with pytest.raises(ConfigError, match="--splits minival: GQA has train, val, test-dev, test"):
        check("gqa", splits=["minival"])
    with pytest.raises(ConfigError, match="DATASET.DEV is 'minival'; GQA has val"):
        check("gqa", "DATASET.DEV", "minival")
    assert set(check("gqa", splits=["test-dev"])) == {"missing_file"}
