"""GQA as published: `gqa_bal_qla_train.json` and its like, answers, regions (docs/reference.md, gqa files)."""

import os

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.questions.answers import read_answer_labels
from oscar_paddle.datasets.questions.examples import Layout
from oscar_paddle.datasets.questions.prepare import ORIGIN, Question, image_names, own_questions
from oscar_paddle.datasets.questions.records import BY_KEY, field, read_records
from oscar_paddle.datasets.tensorize import LongestFirstBuilder

LABEL_FILES = ("trainval_testdev_all_ans2label.pkl", "trainval_testdev_all_label2ans.pkl")
# Upstream: three settings choose the files, and test-dev follows the one that is called after labels.
_CHOSEN_BY = {"train": "TRAIN_DATA_TYPE", "val": "EVAL_DATA_TYPE", "test-dev": "DATA_LABEL_TYPE"}


def gqa_layout(cfg, split):
    """Layout of one split of GQA, with one label an example; all but the submission split without the questions that
    have no answer.

    Args:
        cfg: the frozen config.
        split: train, val, test-dev, or test (the submission file, without answers).
    """
    data, is_test = cfg.DATASET, split == "test"
    labels = read_answer_labels(data.DATA_DIR, LABEL_FILES, data.LABEL_FILE, data.LABEL2ANS_FILE)

    def add(examples, path, number, record, where):
        question = field(record, "q", str, where)
        tags = field(record, "o", str, where) if cfg.INPUT.ADD_OD_LABEL else ""
        # Upstream: not stripped, so that " ; ;" counts as a second sentence, if one without a word.
        row = (str(field(record, "img_id", (int, str), where)),), tags.replace(";", " ").strip(), bool(tags)
        answers = [] if is_test or not record.get("an") else _answer(record, labels, where)
        if is_test or answers:
            question_id = str(field(record, "q_id", (int, str), where)) if split != "train" else None
            examples.add(path, number, question, [row], answers, question_id)

    files, limit = question_files(cfg, split), cfg.INPUT.MAX_REGION
    return Layout(f"gqa_{split}", files, add, ("gqa",), limit, limit, LongestFirstBuilder, labels, not is_test)


def question_files(cfg, split):
    """[(path, where it comes from)] of a split's questions."""
    if split == "test":
        name, key = "gqa_all_qla_submission.json", "DATASET.TEST asks for it"
    else:
        key = f"DATASET.{_CHOSEN_BY[split]}"
        kind = "bal" if cfg.DATASET[_CHOSEN_BY[split]] == "bal" else "all"
        name, key = f"gqa_{kind}_qla_{split.replace('-', '')}.json", f"{key} chooses between bal and all"
    where = "Oscar's GQA data, or from tools/prepare_questions.py; DATASET.DATA_DIR is its folder"
    origin = f"it holds the questions of {split} and comes with {where}, {key}"
    return [(os.path.join(cfg.DATASET.DATA_DIR, name), origin)]


def _answer(record, labels, where):
    numbers = field(record, "an", list, where)
    if type(numbers[0]) is not int:
        raise DataError(f"{where}: the answer is {str(numbers[0])[:40]!r}; expected the number of a label")
    return [(labels.class_of(numbers[0], where), 1.0)]  # Upstream: the first one counts


def official_questions(paths):
    """GQA's questions as its authors publish them, an object by question id, in one or several files; or a JSONL."""
    for path in paths:
        if path.endswith(".jsonl"):
            yield from own_questions(path)
            continue
        for question_id, record in read_records(path, ORIGIN, BY_KEY):
            where = f"{path} question {question_id}"
            answers = {field(record, "answer", str, where): 1.0} if "answer" in record else None
            images = (image_names(str(field(record, "imageId", (int, str), where))),)
            text, is_balanced = field(record, "question", str, where), record.get("isBalanced", True) is True
            yield Question(where, text, question_id, images, answers, is_balanced)


def made_files(folder, split):
    """[(path, whether it holds the balanced questions only), ...] of a split's question files."""
    files = {}
    for kind in ("all", "bal"):
        cfg = get_cfg_defaults()
        cfg.DATASET.DATA_DIR = folder
        for key in _CHOSEN_BY.values():
            cfg.DATASET[key] = kind
        files.setdefault(question_files(cfg, split)[0][0], kind == "bal")
    return list(files.items())
