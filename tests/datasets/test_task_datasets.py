"""Which files VQA, GQA and NLVR2 read, what a wrong record says, and what becomes of awkward ones."""

import json
import pickle
import shutil

import numpy as np
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets import gqa_dataset, nlvr2_dataset, vqa_dataset
from oscar_paddle.datasets.nlvr2_dataset import sentence_keys
from oscar_paddle.datasets.questions.examples import Examples
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.solvers.tasks.gqa import GqaTask
from oscar_paddle.solvers.tasks.nlvr2 import Nlvr2Task
from oscar_paddle.solvers.tasks.vqa import VqaTask

BUILD = {"vqa": VqaTask.build_data, "gqa": GqaTask.build_data, "nlvr2": Nlvr2Task.build_data}
MODULES = {"vqa": vqa_dataset, "gqa": gqa_dataset, "nlvr2": nlvr2_dataset}


@pytest.fixture(scope="module")
def tokenizer(repository):
    return build_tokenizer(str(repository / "tests" / "golden" / "vqa" / "checkpoint"), True)


@pytest.fixture
def configure(tmp_path):
    """Function: --opts words -> config of a data set in tmp_path with four values a region."""
    (tmp_path / "run.yaml").write_text("{}")

    def configure(*opts):
        words = ("DATASET.DATA_DIR", tmp_path, "INPUT.IMG_FEATURE_DIM", 4, "INPUT.MAX_SEQ_LEN", 12, *opts)
        return load_config(tmp_path / "run.yaml", [str(word) for word in words])

    return configure


@pytest.fixture
def make(tmp_path, configure, tokenizer):
    """Function: task, records (and config words) -> the training split of them; images 1 and 2 have regions."""

    def make(task, records, *opts):
        if task == "vqa":
            (tmp_path / "cache").mkdir(exist_ok=True)
            folder, names, path = tmp_path / "cache", vqa_dataset.LABEL_FILES, tmp_path / "train2014_qla_mrcnn.json"
        else:
            folder, names = tmp_path, gqa_dataset.LABEL_FILES
            path = tmp_path / {"gqa": "gqa_all_qla_train.json", "nlvr2": "nlvr2_train.json"}[task]
        (folder / names[0]).write_bytes(pickle.dumps({"": 0, "two": 2, "one": 1}))
        path.write_text(json.dumps(records))
        features = tmp_path / {"vqa": "train", "gqa": "gqa", "nlvr2": "nlvr2"}[task]
        features = features.with_name(f"{features.name}_img_frcnn_feats")
        features.mkdir(exist_ok=True)
        for key, count in (("1", 2), ("2", 3)):
            np.save(features / f"{key}.npy", np.full((count, 4), int(key), np.float32))
        return BUILD[task](configure(*opts), tokenizer, "train")

    return make


VQA = {"q": "what", "o": "", "an": [2], "s": [1.0], "img_id": 1}
GQA = {"q": "what", "o": "", "an": [2], "img_id": "1", "q_id": "07"}
NLVR2 = {"q": "what", "label": 1, "img_id": {"left": "1", "right": "2"}, "o": {"left": "dog", "right": ""}}


@pytest.mark.parametrize(
    ("task", "split", "opts", "name"),
    [
        ("vqa", "train", (), "train2014_qla_mrcnn.json"),
        ("vqa", "train", ("DATASET.USE_VG", True), "train2014_vg_qla_mrcnn.json"),
        ("vqa", "train", ("DATASET.DATA_LABEL_TYPE", "all", "DATASET.USE_VG", True), "train2014_qla.json"),
        ("vqa", "val", (), "val2014_qla_mrcnn.json"),
        ("vqa", "val", ("DATASET.USE_VG_DEV", True), "vg_qla_mrcnn.json"),
        ("vqa", "train+val", (), "train+val2014_qla_mrcnn.json"),
        ("vqa", "test2015", (), "test2015_qla_mrcnn.json"),
        ("vqa", "test-dev2015", (), "test-dev2015_qla_mrcnn.json"),
        ("vqa", "test-dev2015", ("DATASET.DATA_LABEL_TYPE", "all"), "test2014_qla.json"),
        ("gqa", "train", (), "gqa_all_qla_train.json"),
        ("gqa", "train", ("DATASET.TRAIN_DATA_TYPE", "bal"), "gqa_bal_qla_train.json"),
        ("gqa", "val", (), "gqa_bal_qla_val.json"),
        ("gqa", "val", ("DATASET.EVAL_DATA_TYPE", "all"), "gqa_all_qla_val.json"),
        ("gqa", "test-dev", ("DATASET.EVAL_DATA_TYPE", "bal"), "gqa_all_qla_testdev.json"),
        ("gqa", "test-dev", ("DATASET.DATA_LABEL_TYPE", "bal"), "gqa_bal_qla_testdev.json"),
        ("gqa", "test", ("DATASET.DATA_LABEL_TYPE", "bal"), "gqa_all_qla_submission.json"),
        ("nlvr2", "train", (), "nlvr2_train.json"),
        ("nlvr2", "val", ("DATASET.EVAL_DATA_TYPE", "all"), "nlvr2_dev.json"),
        ("nlvr2", "val", ("DATASET.EVAL_DATA_TYPE", "bal"), "nlvr2_balanced_dev.json"),
        ("nlvr2", "val", ("DATASET.EVAL_DATA_TYPE", "unbal"), "nlvr2_unbalanced_dev.json"),
        ("nlvr2", "test1", ("DATASET.EVAL_DATA_TYPE", "all"), "nlvr2_test1.json"),
        ("nlvr2", "test1", ("DATASET.EVAL_DATA_TYPE", "bal"), "nlvr2_test1.json"),
        ("nlvr2", "test1", ("DATASET.DATA_LABEL_TYPE", "bal"), "nlvr2_balanced_test1.json"),
        ("nlvr2", "test1", ("DATASET.EVAL_DATA_TYPE", "unbal"), "nlvr2_unbalanced_test1.json"),
        ("nlvr2", "val+test1", ("DATASET.EVAL_DATA_TYPE", "all"), "nlvr2_dev_test1.json"),
        ("nlvr2", "val+test1", ("DATASET.EVAL_DATA_TYPE", "bal"), "nlvr2_balanced_dev.json"),
    ],
)
def test_settings_choose_the_file(configure, tmp_path, task, split, opts, name):
    ((path, origin),) = MODULES[task].question_files(configure(*opts), split)
    assert path == str(tmp_path / name)
    assert "DATASET." in origin and "tools/prepare_questions.py" in origin
    # The public downloads lack VQA's test files: no message may promise them.
    assert ("comes with Oscar's" in origin) == (not split.startswith("test") or task != "vqa")


def test_vqa_text_folder_is_for_train_and_val_only(configure, tmp_path):
    cfg = configure("DATASET.TXT_DATA_DIR", tmp_path / "text")
    assert vqa_dataset.question_files(cfg, "val")[0][0] == str(tmp_path / "text" / "val2014_qla_mrcnn.json")
    assert vqa_dataset.question_files(cfg, "test2015")[0][0] == str(tmp_path / "test2015_qla_mrcnn.json")


def test_a_missing_file_names_file_origin_and_setting(make, configure, tokenizer, tmp_path):
    make("vqa", [VQA])
    with pytest.raises(DataError, match=r"val2014_qla_mrcnn.json: no such file; it holds the questions of .*DATA_DIR"):
        VqaTask.build_data(configure(), tokenizer, "val")
    shutil.rmtree(tmp_path / "train_img_frcnn_feats")
    with pytest.raises(DataError, match=r"no such file; expected the region features: .*train_img_frcnn_feats.pt"):
        VqaTask.build_data(configure(), tokenizer, "train")


@pytest.mark.parametrize(
    ("task", "record", "message"),
    [
        ("vqa", {**VQA, "q": None}, "record 1: the field 'q' has NoneType"),
        ("vqa", {**VQA, "an": [9]}, r"record 1: the label 9 is not in .*trainval_ans2label.pkl \(3 answers\)"),
        ("vqa", {**VQA, "s": []}, "record 1: 1 answers ('an') but 0 scores ('s')"),
        ("vqa", {**VQA, "s": [1.5]}, r"record 1: the scores are \[1.5\]; expected numbers from 0 to 1"),
        ("vqa", {**VQA, "s": None}, "record 1: the field 's' has NoneType"),
        ("vqa", {**VQA, "img_id": 3}, r"train_img_frcnn_feats: image 3 is missing, which .* record 1 asks for"),
        ("gqa", {**GQA, "an": ["yes"]}, "record 1: the answer is 'yes'; expected the number of a label"),
        ("gqa", {**GQA, "an": 5}, "record 1: the field 'an' has int '5'; expected list"),
        ("gqa", {**GQA, "o": 7}, "record 1: the field 'o' has int"),
        ("nlvr2", {**NLVR2, "label": 2}, "record 1: the label is 2; expected 0 or 1"),
        ("nlvr2", {**NLVR2, "label": "1"}, "record 1: the field 'label' has str '1'; expected int"),
        ("nlvr2", {**NLVR2, "img_id": {"left": "1"}}, "record 1: the field 'img_id' is .*; expected left and right"),
        ("nlvr2", {**NLVR2, "o": {"left": "", "right": 3}}, "record 1: the field 'o' is .*; expected left and right"),
        ("nlvr2", {**NLVR2, "img_id": {"left": "1", "right": "9"}}, "image 9 is missing, which .* record 1 asks for"),
    ],
)
def test_a_wrong_record_is_named(make, task, record, message):
    good = {"vqa": VQA, "gqa": GQA, "nlvr2": NLVR2}[task]
    with pytest.raises(DataError, match=message.replace("('an')", r"\('an'\)").replace("('s')", r"\('s'\)")):
        make(task, [good, record])


@pytest.mark.parametrize("task", ["vqa", "gqa"])
def test_questions_without_answer_are_dropped(make, task):
    good = {"vqa": VQA, "gqa": GQA}[task]
    data = make(task, [good, {**good, "an": [], "s": []}, {**good, "an": None, "s": None}, good])
    assert data.num_examples == 2 and data.examples.where(1).endswith("record 3")
    with pytest.raises(DataError, match=f"{task}_train: no examples"):
        make(task, [{**good, "an": []}])


def test_targets(make):
    data = make("vqa", [{**VQA, "an": [2, 1, 2], "s": [0.3, 1, 0.9]}, VQA])
    np.testing.assert_array_equal(data.soft_targets([0, 1]), np.float32([[0, 0.9, 1], [0, 1, 0]]))
    assert data.labels([1, 0]).tolist() == [1, 1] and data.all_labels().tolist() == [1, 1]
    assert data.soft_answers() == [{1: pytest.approx(0.9), 2: 1.0}, {1: 1.0}]


def test_questions_share_an_image(make):
    """The regions of an image stand once in a batch, whatever rows show it; the pair's rows follow the file's order."""
    data = make("vqa", [VQA, {**VQA, "img_id": 2}, VQA])
    batch = data.batch([0, 1, 2])
    assert len(batch["img_feats"]) == 2 + 3 and batch["region_start"].tolist() == [0, 2, 0]
    swapped = {**NLVR2, "img_id": {"right": "2", "left": "1"}}
    batch = make("nlvr2", [NLVR2, swapped]).batch([0, 1])
    assert batch["region_start"].tolist() == [0, 2, 2, 0] and len(batch["img_feats"]) == 2 + 3


def test_one_row_for_both_images(make):
    """Left first by its name, and only the joined regions are cut, to twice MAX_REGION."""
    record = {**NLVR2, "img_id": {"right": "1", "left": "2"}}
    batch = make("nlvr2", [record], "INPUT.USE_PAIR", False, "INPUT.MAX_REGION", 2).batch([0])
    np.testing.assert_array_equal(batch["img_feats"][:, 0], [2, 2, 2, 1])  # three of the left, one of the right


def test_pairs_are_cut_one_by_one(make):
    batch = make("nlvr2", [NLVR2], "INPUT.MAX_REGION", 1).batch([0])
    np.testing.assert_array_equal(batch["img_feats"][:, 0], [1, 2])


def test_what_makes_a_sentence_unique(make):
    names = ({"left": f"dev-{s}-{p}-img0", "right": "1"} for s, p in ((850, 0), (850, 1), (7, 0)))
    examples = Examples()
    for number, name in enumerate(names):
        examples.add("f", number, "same words", [((name["left"],), "", False), ((name["right"],), "", False)])
    assert sentence_keys(examples) == [("dev-850", "same words")] * 2 + [("dev-7", "same words")]
    plain = make("nlvr2", [NLVR2, {**NLVR2, "img_id": {"left": "2", "right": "1"}}]).examples
    assert len(set(sentence_keys(plain))) == 1


def test_train_and_val_are_joined(make, configure, tokenizer, tmp_path):
    """Without the joined files, that no download has, the two halves give what the joined ones give."""
    make("vqa", [VQA, {**VQA, "img_id": 2}])
    (tmp_path / "val2014_qla_mrcnn.json").write_text(json.dumps([{**VQA, "q": "who", "img_id": 3}]))
    folders = [tmp_path / f"{split}_img_frcnn_feats" for split in ("val", "train", "train+val")]
    folders[0].mkdir()
    np.save(folders[0] / "3.npy", np.full((5, 4), 3, np.float32))
    halves = VqaTask.build_data(configure("INPUT.MAX_REGION", 4), tokenizer, "train+val")
    assert halves.examples.where(2) == f"{tmp_path / 'val2014_qla_mrcnn.json'} record 0"
    batch = halves.batch([0, 1, 2])
    assert batch["num_regions"].tolist() == [2, 3, 4] and set(batch["img_feats"][:, 0]) == {1, 2, 3}
    records = [json.loads((tmp_path / f"{half}2014_qla_mrcnn.json").read_text()) for half in ("train", "val")]
    (tmp_path / "train+val2014_qla_mrcnn.json").write_text(json.dumps(records[0] + records[1]))
    shutil.copytree(folders[1], folders[2])
    shutil.copy(folders[0] / "3.npy", folders[2])
    joined = VqaTask.build_data(configure("INPUT.MAX_REGION", 4), tokenizer, "train+val")
    assert joined.fingerprint() == halves.fingerprint() and "train+val" in joined.regions.path
    assert joined.regions.fingerprint([1, 2, 3]) == halves.regions.fingerprint([1, 2, 3])
    for name, array in joined.batch([0, 1, 2]).items():
        np.testing.assert_array_equal(array, batch[name])


def test_a_missing_half_is_named(make, configure, tokenizer, tmp_path):
    make("vqa", [VQA])
    with pytest.raises(DataError, match=r"/val2014_qla_mrcnn.json: no such file"):
        VqaTask.build_data(configure(), tokenizer, "train+val")
    shutil.copy(tmp_path / "train2014_qla_mrcnn.json", tmp_path / "val2014_qla_mrcnn.json")
    with pytest.raises(DataError, match=r"expected the region features: .* val_img_frcnn_feats.pt"):
        VqaTask.build_data(configure(), tokenizer, "train+val")


def test_dev_and_test1_are_joined(make, configure, tokenizer, tmp_path):
    make("nlvr2", [NLVR2])
    for half, text in (("dev", "one"), ("test1", "two")):
        (tmp_path / f"nlvr2_{half}.json").write_text(json.dumps([{**NLVR2, "q": text}]))
    data = Nlvr2Task.build_data(configure("DATASET.EVAL_DATA_TYPE", "all"), tokenizer, "val+test1")
    assert data.examples.sentences == ["one", "two"]


def test_the_fingerprint_tells_data_apart(make):
    records = [VQA, {**VQA, "img_id": 2}]
    first = make("vqa", records).fingerprint()
    assert make("vqa", records).fingerprint() == first
    for change in ({"q": "who"}, {"o": "dog"}, {"an": [1]}, {"s": [0.9]}, {"img_id": 1}):
        assert make("vqa", [VQA, {**records[1], **change}]).fingerprint() != first, change
