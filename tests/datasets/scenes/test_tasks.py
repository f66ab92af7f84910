"""The written question files: published layout, held out, byte for byte the same, complete or not there."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.questions.answers import read_answer_labels
from oscar_paddle.datasets.scenes import asking
from oscar_paddle.datasets.scenes.asking import guessing_scores, write_task
from oscar_paddle.datasets.scenes.build import read_truth, write_scenes
from oscar_paddle.datasets.scenes.captions import Words
from oscar_paddle.datasets.scenes.questions import ANSWERS, Question, ask
from oscar_paddle.datasets.scenes.tasks import TASKS
from oscar_paddle.datasets.scenes.world import object_set
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.solvers.tasks.gqa import GqaTask
from oscar_paddle.solvers.tasks.nlvr2 import Nlvr2Task
from oscar_paddle.solvers.tasks.vqa import VqaTask

FILES = {  # sha256, first 16 digits
    "vqa/cache/trainval_ans2label.pkl": "35dd67fa3061b1a6",
    "vqa/cache/trainval_label2ans.pkl": "072e025fb79c2ab5",
    "vqa/question_kinds.json": "8c026ae661b41299",
    "vqa/task.json": "b452b22c05913c85",
    "vqa/test2015_qla_mrcnn.json": "e330ce3c0d62200e",
    "vqa/train2014_qla_mrcnn.json": "0edb9e27ddf3aa1b",
    "vqa/val2014_qla_mrcnn.json": "f53375559a8d2818",
    "gqa/gqa_all_qla_submission.json": "efcf5d215481f0ae",
    "gqa/gqa_all_qla_testdev.json": "cd8381781ca49d25",
    "gqa/gqa_all_qla_train.json": "4624bb11f1c4f7b9",
    "gqa/gqa_all_qla_val.json": "59e8721155a2f6f7",
    "gqa/gqa_bal_qla_testdev.json": "a594476b48fd33b5",
    "gqa/gqa_bal_qla_train.json": "c678630794ca0e4c",
    "gqa/gqa_bal_qla_val.json": "6e76ecacd268fd04",
    "gqa/question_kinds.json": "cb23362e8f3b243d",
    "gqa/task.json": "d6721a273fdd409b",
    "gqa/trainval_testdev_all_ans2label.pkl": "f06e026ac77c539d",
    "gqa/trainval_testdev_all_label2ans.pkl": "9424424f25845bad",
    "nlvr2/nlvr2_dev.json": "7aa86f7f6f8b139c",
    "nlvr2/nlvr2_test1.json": "d8052c931fd65316",
    "nlvr2/nlvr2_train.json": "68c38eb82ecf88f2",
    "nlvr2/question_kinds.json": "4b49655bf1a1eab3",
    "nlvr2/task.json": "ddb91e7f93fd1f90",
}
SPLIT_OF = {  # which scenes a file asks about
    "vqa": {"train2014": "train", "val2014": "test", "test2015": "minival"},
    "gqa": {"train": "train", "_val": "minival", "testdev": "test", "submission": "test"},
    "nlvr2": {"train": "train", "dev": "minival", "test1": "test"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = write_scenes(tmp_path_factory.mktemp("scenes") / "data", 40, 8, 10, seed=1, workers=0)
    for name in TASKS:
        assert write_task(folder, name) == folder / name
    return folder


def digests(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}


def records(root, name):
    """{file name: its records} of a task."""
    paths = sorted((root / name).glob("*.json"))
    return {p.name: json.loads(p.read_text()) for p in paths if p.name not in ("task.json", "question_kinds.json")}


def labels(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def scene_ids(root, name, file):
    split = next(split for key, split in SPLIT_OF[name].items() if key in file)
    return {record["scene"].image_id: record for record in read_truth(root)[split]}


def test_the_bytes_never_change(root):
    assert {f"{name}/{file}": value for name in TASKS for file, value in digests(root / name).items()} == FILES


def test_vqa_records(root):
    files = records(root, "vqa")
    assert set(files) == {f"{name}_qla_mrcnn.json" for name in SPLIT_OF["vqa"]}
    numbers = labels(root / "vqa" / "cache" / "trainval_ans2label.pkl")
    for file, found in files.items():
        assert len(found) > 20
        for record in found:
            if "test" in file:
                assert list(record) == ["q", "o", "an", "s", "img_id", "q_id"] and record["q_id"].isdigit()
                assert record["an"] is record["s"] is None
            else:
                assert list(record) == ["q", "o", "an", "s", "img_id"]
                assert set(record["an"]) <= set(numbers.values()) and len(record["an"]) == len(record["s"]) in (1, 2)
                assert record["s"][0] == 1.0 and set(record["s"][1:]) <= {0.3, 0.6}
            assert type(record["img_id"]) is int
    hidden = files["test2015_qla_mrcnn.json"]
    assert len({record["q_id"] for record in hidden}) == len(hidden)


def test_gqa_records(root):
    files, ids = records(root, "gqa"), defaultdict(set)
    kinds = {f"gqa_{kind}_qla_{split}.json" for kind in ("bal", "all") for split in ("train", "val", "testdev")}
    assert set(files) == {*kinds, "gqa_all_qla_submission.json"}
    for file, found in files.items():
        hidden = "submission" in file
        for record in found:
            assert list(record) == ["q", "o", "an", "img_id", "q_id"]
            assert type(record["img_id"]) is type(record["q_id"]) is str and len(record["q_id"]) == 8
            assert record["an"] is None if hidden else [type(number) for number in record["an"]] == [int]
            assert (";" in record["o"]) == hidden
            ids[record["q_id"]].add((record["img_id"], record["q"]))
    assert all(len(questions) == 1 for questions in ids.values())  # one id, one question
    assert 0 < sum(question_id.startswith("0") for question_id in ids) < len(ids)
    for split in ("train", "val", "testdev"):
        balanced, all_ = files[f"gqa_bal_qla_{split}.json"], files[f"gqa_all_qla_{split}.json"]
        assert len(balanced) < len(all_) and all(record in all_ for record in balanced)


def test_nlvr2_records(root):
    files = records(root, "nlvr2")
    assert set(files) == {"nlvr2_train.json", "nlvr2_dev.json", "nlvr2_test1.json"}
    for file, found in files.items():
        truth, groups = scene_ids(root, "nlvr2", file), defaultdict(list)
        for record in found:
            assert list(record) == ["q", "label", "img_id", "o"]
            assert list(record["img_id"]) == list(record["o"]) == ["left", "right"]
            for side, image in record["img_id"].items():
                assert record["o"][side] == " ".join(region["tag"] for region in truth[int(image)]["regions"])
            groups[record["q"]].append(record["label"])
        assert all(sum(group) * 2 == len(group) in (2, 4) for group in groups.values())


@pytest.mark.parametrize("name", TASKS)
def test_every_file_asks_about_its_own_scenes(root, name):
    sets = {s: {object_set(r["scene"].objects) for r in found} for s, found in read_truth(root).items()}
    assert not sets["train"] & (sets["minival"] | sets["test"])
    for file, found in records(root, name).items():
        truth = scene_ids(root, name, file)
        for record in found:
            images = record["img_id"].values() if name == "nlvr2" else [record["img_id"]]
            assert {int(image) for image in images} <= set(truth)
            if name != "nlvr2":
                tags = [region["tag"] for region in truth[int(record["img_id"])]["regions"]]
                assert record["o"] == (";" if "submission" in file else " ").join(tags)


def test_answers_are_those_of_the_questions(root):
    label_of = labels(root / "vqa" / "cache" / "trainval_ans2label.pkl")
    for file in ("train2014_qla_mrcnn.json", "val2014_qla_mrcnn.json"):
        scenes = {i: record["scene"] for i, record in scene_ids(root, "vqa", file).items()}
        for record in records(root, "vqa")[file]:
            scene = scenes[record["img_id"]]
            asked = ask(Words(1, scene.image_id, "vqa"), scene, 5, "plain")
            (question,) = (q for q in asked if q.text == record["q"])
            told = {label_of[answer]: score for answer, score in question.answers}
            assert record["an"][0] == label_of[question.answers[0][0]]
            assert dict(zip(record["an"], record["s"], strict=True)).items() <= told.items()


def test_answer_pickles(root):
    for name in ("vqa", "gqa"):
        answers, pattern = ANSWERS[TASKS[name].form], TASKS[name].answer_file
        numbers = labels(root / name / pattern.format("ans2label"))
        assert labels(root / name / pattern.format("label2ans")) == list(answers)
        assert set(numbers) == set(answers) and all(answers[number] == answer for answer, number in numbers.items())
        in_order = list(numbers.values()) == sorted(numbers.values())
        assert in_order == (name == "gqa")  # the trap: VQA's classes are not its labels
    read = read_answer_labels(str(root / "vqa"), ("trainval_ans2label.pkl", "trainval_label2ans.pkl"))
    numbers = labels(root / "vqa" / "cache" / "trainval_ans2label.pkl")
    assert tuple(read.answers[read.class_of(numbers[answer], "")] for answer in ANSWERS["plain"]) == ANSWERS["plain"]


def test_no_answer_occurs_only_outside_training(root):
    for name, train in (("vqa", "train2014_qla_mrcnn.json"), ("gqa", "gqa_bal_qla_train.json")):
        files = records(root, name)
        known = {number for record in files[train] for number in record["an"]}
        assert len(known) < len(ANSWERS[TASKS[name].form])  # 40 scenes do not have all of them
        for found in files.values():
            assert {number for record in found for number in record["an"] or ()} <= known


def test_kinds_and_guesses(root):
    for name in TASKS:
        kinds = json.loads((root / name / "question_kinds.json").read_text())
        task = json.loads((root / name / "task.json").read_text())
        files = records(root, name)
        assert set(kinds) == set(files) == set(task["files"])
        for file, found in files.items():
            scores = task["files"][file]
            assert len(kinds[file]) == len(found) == scores["questions"]
            sizes = {kind: score["questions"] for kind, score in scores["by_kind"]["kinds"].items()}
            assert sizes == Counter(kinds[file])
    assert task["files"]["nlvr2_test1.json"]["majority"]["accuracy"] == 0.5


def test_guessing_by_hand():
    def entry(kind, *answers):
        return Question("", kind, answers)

    train = [
        entry("colour", ("red", 1.0)),
        entry("colour", ("red", 1.0), ("crimson", 0.3)),
        entry("size", ("big", 1.0)),
        entry("colour", ("blue", 1.0)),
    ]
    asked = [
        entry("colour", ("blue", 1.0)),
        entry("colour", ("pink", 1.0), ("red", 0.6)),
        entry("size", ("big", 1.0)),
        entry("new", ("red", 1.0)),
    ]
    scores = guessing_scores(train, asked)
    assert scores["majority"] == {"answer": "red", "accuracy": 0.4}
    assert scores["by_kind"]["accuracy"] == 0.65
    assert scores["by_kind"]["kinds"]["colour"] == {"questions": 2, "answer": "red", "accuracy": 0.3}
    assert scores["by_kind"]["kinds"]["new"]["answer"] == "red"
    assert guessing_scores(train, [])["majority"] == {"answer": "red", "accuracy": None}


@pytest.mark.parametrize(
    ("name", "build", "split", "held_out"),
    [
        ("vqa", VqaTask.build_data, "val", "val2014_qla_mrcnn.json"),
        ("gqa", GqaTask.build_data, "test-dev", "gqa_bal_qla_testdev.json"),
        ("nlvr2", Nlvr2Task.build_data, "test1", "nlvr2_test1.json"),
    ],
)
def test_the_projects_own_readers_take_them(root, tmp_path, repository, name, build, split, held_out):
    folder = shutil.copytree(root / name, tmp_path / name)  # the readers add their cache
    features = str(root / "model_0060000" / "features.tsv")
    opts = ["DATASET.DATA_DIR", str(folder), "DATASET.FEAT_FILE", features]
    opts += ["DATASET.DATA_LABEL_TYPE", {"vqa": "mask", "gqa": "bal", "nlvr2": "all"}[name]]
    cfg = load_config(repository / "configs" / "scenes_train.yaml", opts)
    data = build(cfg, build_tokenizer(str(root / "init"), True), split)
    found = records(root, name)[held_out]
    assert data.num_examples == len(found) and data.num_classes == {"vqa": 61, "gqa": 36, "nlvr2": 2}[name]
    assert {int(image) for image in data.image_ids()} <= set(scene_ids(root, name, held_out))
    if name == "nlvr2":
        assert data.all_labels().tolist() == [record["label"] for record in found]


def test_what_is_there_is_kept(root, monkeypatch):
    before = digests(root)
    monkeypatch.setattr(asking, "read_truth", lambda *args: pytest.fail("written again"))
    for name in TASKS:
        write_task(root, name)
    assert digests(root) == before


def test_other_settings_need_permission(tmp_path, monkeypatch):
    root = write_scenes(tmp_path / "data", 4, 4, 4, seed=1, workers=0)
    write_task(root, "vqa")
    monkeypatch.setattr(asking, "VERSION", 99)
    with pytest.raises(DataError, match=r"vqa: holds vqa questions with other settings: version 1 \(asked 99\)"):
        write_task(root, "vqa")
    write_task(root, "vqa", overwrite=True)
    assert json.loads((root / "vqa" / "task.json").read_text())["version"] == 99


def test_a_foreign_folder_is_left_alone(root, tmp_path):
    (tmp_path / "vqa").mkdir()
    (tmp_path / "vqa" / "thesis.txt").write_text("do not delete")
    (tmp_path / "scenes.json").write_bytes((root / "scenes.json").read_bytes())
    with pytest.raises(DataError, match="not a vqa questions data set"):
        write_task(tmp_path, "vqa", overwrite=True)
    assert (tmp_path / "vqa" / "thesis.txt").read_text() == "do not delete"


@pytest.mark.parametrize("name", TASKS)
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, name):
    root = write_scenes(tmp_path / "data", 4, 4, 4, seed=1, workers=0)
    before = digests(root)
    monkeypatch.setattr(asking, "guessing_scores", lambda *args: 1 / 0)  # when the records are on disk
    with pytest.raises(ZeroDivisionError):
        write_task(root, name)
    assert digests(root) == before and not [path for path in root.iterdir() if name in path.name]


def test_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="no task 'vcr'; expected one of vqa, gqa, nlvr2"):
        write_task(tmp_path, "vcr")
    with pytest.raises(DataError, match="scenes.json: not there or not readable"):
        write_task(tmp_path, "vqa")
    root = write_scenes(tmp_path / "data", 0, 0, 2, seed=1, workers=0)
    with pytest.raises(DataError, match="no training scenes"):
        write_task(root, "vqa")


def test_the_command_line(tmp_path, repository, root):
    command = [sys.executable, str(repository / "tools" / "make_scenes.py"), "--root", str(tmp_path / "s")]
    command += ["--train", "40", "--dev", "8", "--test", "10", "--tasks"]
    done = subprocess.run([*command, "gqa", "nlvr2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "questions of gqa" in done.stdout and "questions of nlvr2" in done.stdout
    assert not (tmp_path / "s" / "vqa").exists()
    assert all(digests(tmp_path / "s" / name) == digests(root / name) for name in ("gqa", "nlvr2"))
    refused = subprocess.run([*command, "vcr"], capture_output=True, text=True)
    assert refused.returncode == 2 and "vcr" in refused.stderr


def test_help_brings_no_numpy(repository):
    command = [sys.executable, "-X", "importtime", str(repository / "tools" / "make_scenes.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and all(name in done.stdout for name in (*TASKS, "--hidden_size"))
    assert "argparse" in done.stderr and "numpy" not in done.stderr and "tqdm" not in done.stderr
