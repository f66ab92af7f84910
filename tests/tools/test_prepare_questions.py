"""tools/prepare_questions.py: the authors' files and one's own to what the tasks read, train on and hand in."""

import json
import pickle
from functools import partial

import pytest
from official import FORMS, write_regions
from starting import said_in_process

TRAINING = {
    "vqa": ("OPTIMIZATION.LOSS_TYPE", "bce"),
    "gqa": ("OPTIMIZATION.LOSS_TYPE", "xe"),
    "nlvr2": ("OUTPUT.CLASSIFIER", "mlp"),
}


@pytest.fixture
def tool(capfd):
    """Function: run a tool in this process -> (exit code, stdout, stderr)."""

    return partial(said_in_process, capfd)


@pytest.fixture
def prepare(tool, tmp_path):
    """Function: form, further words -> what the tool says of all its splits, with tags of tmp_path/made/features."""

    def prepare(form, *words, splits=None, damage=None):
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        task, write = FORMS[form]
        found, images = write(source)
        write_regions(tmp_path / "made" / "features", images)
        if damage:
            file, before, after = damage
            text = (source / file).read_text()
            assert before in text
            (source / file).write_text(text.replace(before, after, 1))
        parts = [word for split, files in (splits or found).items() for word in ("--split", split, *files)]
        tags = [] if "--no_tags" in words else ["--tags", tmp_path / "made" / "features"]
        place = ("--task", task, "--output_dir", tmp_path / "made")
        return tool("prepare_questions", *place, *parts, *tags, "--min_count", 1, *words)

    return prepare


def made(tmp_path, name):
    return json.loads((tmp_path / "made" / name).read_text())


def test_vqa_records_list_and_template(prepare, tmp_path):
    code, out, err = prepare("vqa")
    assert code == 0, err
    assert "train: 8 questions, 8 with an answer\n" in out and "3 answers in the list" in out
    labels = pickle.loads((tmp_path / "made" / "trainval_ans2label.pkl").read_bytes())
    assert list(labels.items()) == [("blue", 0), ("green", 1), ("red", 2)]  # four each: by the alphabet
    assert pickle.loads((tmp_path / "made" / "trainval_label2ans.pkl").read_bytes()) == ["blue", "green", "red"]
    first = made(tmp_path, "train2014_qla_mrcnn.json")[0]
    record = {"q": "What colour is thing 1?", "q_id": "1000", "img_id": 1, "o": "dog red", "an": [0], "s": [1.0]}
    assert first == record
    assert made(tmp_path, "test2015_qla_mrcnn.json")[0]["an"] is None
    assert made(tmp_path, "test2015_template.json") == [{"question_id": 1000 * n, "answer": ""} for n in (13, 14, 15)]


def test_rare_answers_leave_the_list(prepare, tmp_path):
    """An answer is in the list by how many questions it is the commonest of; soft scores of all that are in it."""
    answers = {"dogs": 1, "thing": 2, "red": 0}
    (tmp_path / "list.json").write_text(json.dumps(answers))
    code, out, err = prepare("vqa", "--answer_list", tmp_path / "list.json", "--json")
    assert code == 0, err
    assert made(tmp_path, "train2014_qla_mrcnn.json")[0]["an"] == [1, 2]  # without "blue"
    assert made(tmp_path, "train2014_qla_mrcnn.json")[0]["s"] == [0.6, 0.3]
    assert made(tmp_path, "trainval_ans2label.json") == answers  # the numbers as they were
    assert made(tmp_path, "trainval_label2ans.json") == ["red", "dogs", "thing"]
    code, _, err = prepare("vqa", "--overwrite", "--min_count", 9)
    assert code == 1 and "no answer is that of 9 questions (at most of 4): --min_count" in err


def test_the_commonest_answer_is_the_published_one(tool, tmp_path):
    """Of two that are as frequent, the list counts `multiple_choice_answer`."""
    answers = [{"answer": text} for text in ["no"] * 5 + ["The Yes."] * 5]
    ids = [{"question_id": n, "image_id": n} for n in range(3)]
    for name, more in (("questions", {"question": "?"}), ("annotations", {"answers": answers})):
        more = more | ({"multiple_choice_answer": "yes"} if name == "annotations" else {})
        (tmp_path / f"{name}.json").write_text(json.dumps({name: [{**record, **more} for record in ids]}))
    files = tmp_path / "questions.json", tmp_path / "annotations.json"
    place = ("--task", "vqa", "--output_dir", tmp_path / "made", "--no_tags", "--split", "train", *files)
    code, _, err = tool("prepare_questions", *place, "--min_count", 3, "--json")
    assert code == 0, err
    assert made(tmp_path, "trainval_ans2label.json") == {"yes": 0}


def test_vizwiz_names_pictures(prepare, tmp_path):
    code, _, err = prepare("vizwiz")
    assert code == 0, err
    record = made(tmp_path, "val2014_qla_mrcnn.json")[1]
    assert record["img_id"] == "VizWiz_val_00000001" and record["s"] == [1.0]
    assert made(tmp_path, "test2015_template.json")[0] == {"image": "VizWiz_test_00000000.jpg", "answer": ""}


def test_gqa_has_both_selections(prepare, tmp_path):
    code, _, err = prepare("gqa")
    assert code == 0, err
    both = made(tmp_path, "gqa_all_qla_train.json"), made(tmp_path, "gqa_bal_qla_train.json")
    assert [len(records) for records in both] == [8, 4] and {r["q_id"] for r in both[1]} < {r["q_id"] for r in both[0]}
    assert both[1][0]["img_id"] == "2002" and both[1][0]["o"] == "dog blue" and both[1][0]["q_id"] == "00000002"
    assert made(tmp_path, "test_template.json")[0] == {"questionId": "00000013", "prediction": ""}
    balanced = {key: record for key, record in json.loads((tmp_path / "source" / "val_all_0.json").read_text()).items()}
    (tmp_path / "balanced.json").write_text(json.dumps({k: {**r, "isBalanced": True} for k, r in balanced.items()}))
    (tmp_path / "made" / "gqa_all_qla_val.json").unlink()
    code, out, err = prepare("gqa", "--overwrite", splits={"val": [tmp_path / "balanced.json"]})
    assert code == 0 and "gqa_bal_qla_val.json" in out
    assert not (tmp_path / "made" / "gqa_all_qla_val.json").exists()  # a selection is not called all


def test_statements(prepare, tmp_path):
    code, _, err = prepare("nlvr2")
    assert code == 0, err
    record = made(tmp_path, "nlvr2_dev.json")[1]
    assert record["img_id"] == {"left": "dev-1-0-img0", "right": "dev-1-0-img1"} and record["label"] == 0
    assert record["o"] == {"left": "dog red", "right": "dog blue"} and record["q"] == "There are 1 dogs."
    code, _, err = prepare("nlvr2", "--no_tags", "--overwrite")
    assert made(tmp_path, "nlvr2_dev.json")[1]["img_id"]["left"] == "nlvr2_dev-1-0-img0"  # the published names


def test_tasks_without_questions_are_no_choice(tool, tmp_path):
    code, _, err = tool(
        "prepare_questions", "--task", "captioning", "--output_dir", tmp_path / "made", "--split", "a", "b"
    )
    choices = err.partition("choose from ")[2].partition(")")[0]
    assert code == 2 and choices.replace("'", "") == "gqa, nlvr2, vqa"


def test_own_questions(tool, tmp_path):
    lines = [
        {"image": "a.jpg", "question": "What?", "answer": "Dog."},
        {"image": 7, "question": "Who?", "answers": ["a cat", "cat", "dog"], "question_id": 5},
        {"image": "b", "question": "Which?", "answers": {"dog": 0.5, "Cat": 1}},
        {"image": "b", "question": "How many?", "answers": {"two": 0.5, "cat": 0.6, "2": 0.3, "3": 0.1}},
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    place = ("--split", "train", tmp_path / "mine.jsonl", "--output_dir", tmp_path / "made", "--no_tags")
    code, _, err = tool("prepare_questions", "--task", "vqa", *place, "--min_count", 1)
    assert code == 0, err
    records = made(tmp_path, "train2014_qla_mrcnn.json")
    assert [record["img_id"] for record in records] == ["a", 7, "b", "b"]
    # "two" and "2" are one answer, whose scores add up; the list is made of the best answer of each question
    answers = {"cat": 0, "2": 1, "dog": 2}
    assert list(pickle.loads((tmp_path / "made" / "trainval_ans2label.pkl").read_bytes())) == list(answers)
    assert [dict(zip(r["an"], r["s"], strict=True)) for r in records] == [
        {2: 1.0},
        {0: 1.0, 2: 1.0},
        {0: 1, 2: 0.5},
        {1: 0.8, 0: 0.6},
    ]
    assert [record["q_id"] for record in records] == ["0", "5", "2", "3"]


@pytest.mark.parametrize("empty", [{"question": " "}, {"answer": "."}, {"answers": ["a", ""]}])
def test_own_empty_texts(tool, tmp_path, empty):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"image": "a", "question": "What?", **empty}))
    place = ("--split", "train", tmp_path / "mine.jsonl", "--output_dir", tmp_path / "made", "--no_tags")
    code, _, err = tool("prepare_questions", "--task", "vqa", *place)
    assert code == 1 and "mine.jsonl record 0: the question or an answer is empty" in err


def test_own_test_questions_with_one_id(tool, tmp_path):
    lines = [{"image": "a", "question": "What?", "question_id": number} for number in (1, 2, 1)]
    (tmp_path / "mine.jsonl").write_text("\r\n".join(map(json.dumps, lines)), encoding="utf-8-sig")
    place = ("--split", "test2015", tmp_path / "mine.jsonl", "--output_dir", tmp_path / "made", "--no_tags")
    code, _, err = tool("prepare_questions", "--task", "vqa", *place)
    assert code == 1 and "mine.jsonl: question 1 is there twice" in err
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())


@pytest.mark.parametrize(
    ("form", "file", "before", "after", "message"),
    [
        (
            "vqa",
            "train_questions.json",
            '"question_id": 2000',
            '"question_id": 1000',
            "record 1: question 1000 has no an",
        ),
        (
            "vqa",
            "train_annotations.json",
            '"question_id": 2000',
            '"question_id": 9',
            "record 1: question 2000 has no answers",
        ),
        (
            "vqa",
            "train_annotations.json",
            '"question_id": 2000',
            '"question_id": 1000',
            "record 1: question 1000 is there twice",
        ),
        ("vqa", "train_annotations.json", '"annotations"', '"records"', "expected an object with a list 'annotations'"),
        ("vqa", "train_annotations.json", '"answer": "red"', '"answer": 3', "record 2: the field 'answers' is"),
        ("vqa", "val_questions.json", '"image_id": 9', '"image_id": 99', "record 0: no tags for image 99 in"),
        ("vizwiz", "val.json", '"question": "What', '"questions": "What', "record 0: the field 'question' has nothing"),
        (
            "gqa",
            "val_all_0.json",
            '"imageId": "2009"',
            '"image": "2009"',
            "question 00000009: the field 'imageId' has not",
        ),
        (
            "gqa",
            "val_all_0.json",
            '"answer": "blue"',
            '"answers": "blue"',
            "question 00000010: no answer, unlike the first",
        ),
        (
            "nlvr2",
            "dev.json",
            '"label": "False"',
            '"label": "maybe"',
            "record 1: the label is 'maybe'; expected true or",
        ),
        ("nlvr2", "dev.json", "There are 3 dogs.", 'There" x', "record 3: malformed JSON"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(prepare, tmp_path, form, file, before, after, message):
    code, out, err = prepare(form, damage=(file, before, after))
    assert code == 1 and not out and message in err, err
    assert str(tmp_path / "source" / file) in err
    assert [entry.name for entry in (tmp_path / "made").iterdir()] == ["features"]


def test_what_is_there_is_kept(prepare, tmp_path):
    prepare("vqa")
    before = (tmp_path / "made" / "train2014_qla_mrcnn.json").read_bytes()
    code, _, err = prepare("vqa", "--no_tags")
    assert code == 1 and "is already there" in err and "--overwrite" in err and "--answer_list" in err
    assert (tmp_path / "made" / "train2014_qla_mrcnn.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "dev", "x.json"), "--split 'dev x.json': expected one of train, val, test2015"),
        (("--split", "train"), "--split 'train': expected one of"),
        (
            ("--split", "train", "x.json", "--tags", "y"),
            "say where the object tags are (--tags), or that there are none",
        ),
        (("--split", "train", "none.json"), "none.json: no such file; the command line names it"),
    ],
)
def test_bad_arguments(tool, tmp_path, words, message):
    code, _, err = tool("prepare_questions", "--task", "vqa", "--output_dir", tmp_path / "made", "--no_tags", *words)
    assert code in (1, 2) and message in err


@pytest.mark.parametrize("form", FORMS)
def test_from_the_authors_files_to_the_server(prepare, run, tool, repository, tmp_path, form):
    """Prepare, check, train two steps, evaluate, and the file for the server has the template's ids."""
    code, _, err = prepare(form)
    assert code == 0, err
    task, _ = FORMS[form]
    golden = repository / "tests" / "golden" / task / "checkpoint"
    (tmp_path / "run.yaml").write_text("{}")
    words = {
        "INPUT.MAX_SEQ_LEN": 24,
        "INPUT.MAX_REGION": 6,
        "DATASET.DATA_DIR": tmp_path / "made",
        "DATASET.DEV": "val",
        "DATASET.TEST": {"vqa": "test2015", "gqa": "test", "nlvr2": "test1"}[task],
        "DATASET.EVAL_DATA_TYPE": "all",
        "OPTIMIZATION.BATCH_SIZE": 4,
        "OPTIMIZATION.MAX_STEPS": 2,
        "OUTPUT.CHECKPOINT_DIR": tmp_path,
        "OUTPUT.SAVE_NAME": "trained",
        "PRETRAINED.DIR": golden,
        "PRETRAINED.FROM_SCRATCH": True,
        "EVAL.CHECKPOINT_DIR": tmp_path / "trained" / "last",
    }
    opts = ["--cfg_file", str(tmp_path / "run.yaml"), "--opts", *(str(w) for item in words.items() for w in item)]
    code, out, err = tool("check_dataset", *opts[:2], "--html", tmp_path / "page.html", *opts[2:])
    assert code == 0 and "No problems" in out and "caption" not in out, out + err
    assert (tmp_path / "page.html").stat().st_size > 1000
    done = run([f"tools/train_{task}.py", *opts, *TRAINING[task]])
    assert done.returncode == 0 and "training is complete at step 2 of 2" in done.stderr, done.stderr
    done = run([f"tools/eval_{task}.py", "--output_dir", str(tmp_path / "eval"), *opts])
    assert done.returncode == 0, done.stderr
    if task == "nlvr2":
        assert done.stdout.startswith("NLVR2 test1: accuracy")
        return
    split = words["DATASET.TEST"]
    results, template = (
        json.loads(path.read_text())
        for path in (tmp_path / "eval" / f"{split}_results.json", tmp_path / "made" / f"{split}_template.json")
    )
    answer = {"vqa": "answer", "gqa": "prediction"}[task]
    assert [{**result, answer: ""} for result in results] == template
    assert all(result[answer] for result in results)
