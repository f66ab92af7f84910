"""VQA v2 as published: `train2014_qla_mrcnn.json` and its like, answers, regions (docs/reference.md, vqa files)."""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.questions.answer_text import normalised, soft_scores
from oscar_paddle.datasets.questions.answers import read_answer_labels
from oscar_paddle.datasets.questions.examples import Layout, joined_or_halves
from oscar_paddle.datasets.questions.prepare import ORIGIN, Question, image_names, own_questions
from oscar_paddle.datasets.questions.records import field, first_byte, read_records
from oscar_paddle.datasets.tensorize import LongestFirstBuilder

LABEL_FILES = ("trainval_ans2label.pkl", "trainval_label2ans.pkl")
PICTURES = (".jpg", ".jpeg", ".png")  # VizWiz has one question a picture, named by it
TEST_SPLITS = ("test2015", "test-dev2015")


def vqa_layout(cfg, split):
    """Layout of one split of VQA, with soft targets; train and val without the questions that have no answer, as
    upstream.

    Args:
        cfg: the frozen config.
        split: train, val, train+val, test2015 or test-dev2015.
    """
    data, is_test = cfg.DATASET, split in TEST_SPLITS
    labels = read_answer_labels(data.DATA_DIR, LABEL_FILES, data.LABEL_FILE, data.LABEL2ANS_FILE)

    def add(examples, path, number, record, where):
        question = field(record, "q", str, where)
        tags = field(record, "o", str, where).replace(";", " ").strip() if cfg.INPUT.ADD_OD_LABEL else ""
        row = (field(record, "img_id", (int, str), where),), tags, bool(tags)
        answers = [] if is_test else _soft_answers(record, labels, where)
        if is_test or answers:
            examples.add(path, number, question, [row], answers, _question_id(record, where) if is_test else None)

    halves = ("train+val", "train", "val") if split == "train+val" else (split,)
    features, limit = ("train+val",) if data.USE_VG_DEV else halves, cfg.INPUT.MAX_REGION
    files = question_files(cfg, split)
    return Layout(f"vqa_{split}", files, add, features, limit, limit, LongestFirstBuilder, labels, not is_test)


def question_files(cfg, split):
    """[(path, where it comes from), ...] of a split's questions; train+val has two where there is no joined file."""
    if split != "train+val":
        return [_question_file(cfg, split)]
    return joined_or_halves(_question_file(cfg, split), [_question_file(cfg, half) for half in ("train", "val")])


def _question_file(cfg, split):
    """Names as upstream has them, the odd one included."""
    data, masked = cfg.DATASET, cfg.DATASET.DATA_LABEL_TYPE == "mask"
    key = "DATASET.DATA_LABEL_TYPE chooses its name"
    if split in TEST_SPLITS:  # not in the public downloads
        name = f"{split}_qla_mrcnn.json" if masked else "test2014_qla.json"  # Upstream: 2014
        made = "tools/prepare_questions.py makes it of the official questions and the tags"
        return os.path.join(data.DATA_DIR, name), f"it holds the test questions; {made}; {key}"
    name = {"train": "train2014", "val": "val2014", "train+val": "train+val2014"}[split]
    name += "_qla_mrcnn.json" if masked else "_qla.json"
    if masked and split == "train" and data.USE_VG:
        name, key = "train2014_vg_qla_mrcnn.json", "DATASET.USE_VG asks for it"
    if masked and split == "val" and data.USE_VG_DEV:
        name, key = "vg_qla_mrcnn.json", "DATASET.USE_VG_DEV asks for it"
    if split == "train+val":
        key += ", and without it the files of train and of val are read"
    folder, setting = (data.TXT_DATA_DIR, "TXT_DATA_DIR") if data.TXT_DATA_DIR else (data.DATA_DIR, "DATA_DIR")
    where = f"Oscar's VQA data, or from tools/prepare_questions.py; DATASET.{setting} is its folder, {key}"
    return os.path.join(folder, name), f"it holds the questions of {split} and comes with {where}"


def official_questions(paths):
    """Questions of VQA v2 (the questions file, and the annotations file where there are answers), of VizWiz (one list,
    `answers` in it), or a JSONL."""
    with reading(paths[0], f"; {ORIGIN}"), open(paths[0], "rb") as file:
        is_list = first_byte(file) == b"["
    if paths[0].endswith(".jsonl") or is_list:
        for path in paths:
            yield from _vizwiz(path) if is_list else own_questions(path)
        return
    if len(paths) > 2:
        raise DataError(f"{paths[2]}: expected two files of VQA v2 at most, the questions and the annotations")
    answers = _annotations(paths[1]) if len(paths) == 2 else None
    for number, record in read_records(paths[0], ORIGIN, "questions.item"):
        where = f"{paths[0]} record {number}"
        question_id, image_id = (field(record, name, (int, str), where) for name in ("question_id", "image_id"))
        found = None if answers is None else answers.pop(str(question_id), None)
        if answers is not None and found is None:
            raise DataError(f"{where}: question {question_id} has no answers in {paths[1]}, or is there twice")
        text = field(record, "question", str, where)
        yield Question(where, text, str(question_id), (image_names(image_id),), found)
    if answers:
        raise DataError(f"{paths[1]}: question {next(iter(answers))} is not in {paths[0]} ({len(answers)} are not)")


def _annotations(path):
    """{question id: {answer: soft score}}, the answer that counts for the list first."""
    found = {}
    for number, record in read_records(path, ORIGIN, "annotations.item"):
        where = f"{path} record {number}"
        question_id = str(field(record, "question_id", (int, str), where))
        if question_id in found:
            raise DataError(f"{where}: question {question_id} is there twice")
        scores = soft_scores(_texts(record, where))
        commonest = normalised(field(record, "multiple_choice_answer", str, where)) if scores else ""
        found[question_id] = {commonest: scores[commonest], **scores} if commonest in scores else scores
    return found


def _vizwiz(path):
    for number, record in read_records(path, ORIGIN):
        where, image = f"{path} record {number}", field(record, "image", str, f"{path} record {number}")
        answers = soft_scores(_texts(record, where)) if "answers" in record else None
        yield Question(where, field(record, "question", str, where), image, (image_names(image),), answers)


def _texts(record, where):
    """The answers of a list of {"answer": text}."""
    answers = field(record, "answers", list, where)
    if not all(isinstance(answer, dict) and isinstance(answer.get("answer"), str) for answer in answers):
        raise DataError(f"{where}: the field 'answers' is {str(answers)[:60]}; expected objects with an 'answer'")
    return [answer["answer"] for answer in answers]


def _soft_answers(record, labels, where):
    """[(class, soft score), ...] of a record, in its order; [] where it has no answer."""
    if not record.get("an"):
        return []
    numbers, scores = field(record, "an", list, where), field(record, "s", list, where)
    if len(numbers) != len(scores):
        raise DataError(f"{where}: {len(numbers)} answers ('an') but {len(scores)} scores ('s'); expected as many")
    if not all(type(score) in (int, float) and 0 <= score <= 1 for score in scores):
        raise DataError(f"{where}: the scores are {str(scores)[:60]}; expected numbers from 0 to 1")
    return [(labels.class_of(number, where), score) for number, score in zip(numbers, scores, strict=True)]


def _question_id(record, where):
    question_id = str(field(record, "q_id", (int, str), where))
    if not (question_id.isascii() and question_id.isdigit()) and not question_id.endswith(PICTURES):
        expected = f"a number, or the name of a picture ({', '.join(PICTURES)}: VizWiz)"
        raise DataError(f"{where}: the question id is {question_id[:40]!r}; expected {expected}")
    return question_id
