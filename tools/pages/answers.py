"""The report of an evaluation with questions: picture, question, answer, prediction; beside it what guessing reaches.

Nothing here needs Paddle.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.page import fair_sample, read_result, write_evaluation_page

_KEYS = {"record", "question", "images", "predicted", "logit", "expected"}
_TOOL = "tools/eval_<task>.py"


class Answers:
    """What the evaluation of a task with questions or statements has left in its folder.

    Attributes:
        entries: list of dicts, see solvers/tasks/questions.py.
        scores: list of float, the score of every prediction.
    Raises:
        DataError: a file is missing or damaged, or the split has no answers to compare with.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "predictions.json"
        self.entries = read_result(path, list, _TOOL)
        read_result(self.folder / "metrics.json", dict, _TOOL)  # what is not finished has none
        if not self.entries:
            raise DataError(f"{path}: holds an empty list; expected one entry for each question")
        for number, entry in enumerate(self.entries):
            if not isinstance(entry, dict) or not entry.keys() >= _KEYS or not isinstance(entry["expected"], dict):
                what = "its answers are not known" if isinstance(entry, dict) else "it is no object"
                raise DataError(f"{path} entry {number}: {what}; expected question, images, predicted, expected")
        self.scores = [entry["expected"].get(entry["predicted"], 0.0) for entry in self.entries]


class Guessing(NamedTuple):
    """How far one gets without looking at the picture."""

    score: float  # of the commonest answer of the training questions
    kinds: dict  # kind of question -> score of the commonest answer to it
    kind_of: list  # the kind of every record of the file


def write_answers(answers, images, output, *, guessing=None, facts=(), num_random=24, num_wrong=12, seed=0, **page):
    """Write the report page of Answers.

    Args:
        images, output, page: see `write_evaluation_page`, which also says what is returned and raised.
        guessing: Guessing or None.
        facts: [(name, text), ...] about the run.
        num_random, num_wrong: how many questions of each sort.
    """
    wrong = [i for i, score in enumerate(answers.scores) if score == 0]
    wrong.sort(key=lambda i: -answers.entries[i]["logit"])
    sections = [("result", "Result"), ("questions", "Questions")]
    return write_evaluation_page(
        "answers.html",
        images=images,
        eval_dir=answers.folder,
        output=output,
        sections=[*sections, ("wrong", "Where it fails")] if wrong else sections,
        answers=answers,
        guessing=guessing,
        rows=score_rows(answers, guessing),
        facts=facts,
        seed=seed,
        chosen=fair_sample(len(answers.entries), num_random, seed),
        wrong=wrong[:num_wrong],
        **page,
    )


def score_rows(answers, guessing=None):
    """Rows (name, number of questions, score, what guessing reaches or None): all questions, then kind by kind."""
    rows = [("all questions", len(answers.scores), fmean(answers.scores), guessing and guessing.score)]
    for kind in sorted(guessing.kinds) if guessing else ():
        pairs = zip(answers.scores, answers.entries, strict=True)
        own = [score for score, entry in pairs if guessing.kind_of[entry["record"]] == kind]
        if own:
            rows.append((kind, len(own), fmean(own), guessing.kinds[kind]))
    return rows


def read_guessing(folder, eval_dir):
    """What the folder of a scenes task ("": None) says of the evaluated question file, as Guessing.

    Raises:
        DataError: no such folder, no such file in it, or the evaluation does not say which file it was.
    """
    if not folder:
        return None
    folder, path = Path(folder), Path(eval_dir) / "provenance.json"
    try:
        question_file = json.loads(path.read_text(encoding="utf-8"))["data"]["files"][0]
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(f"{path}: does not say which question file was evaluated; evaluate again") from None
    try:
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))["files"][question_file]
        kind_of = json.loads((folder / "question_kinds.json").read_text(encoding="utf-8"))[question_file]
        kinds = {kind: found["accuracy"] for kind, found in task["by_kind"]["kinds"].items()}
        return Guessing(task["majority"]["accuracy"], kinds, kind_of)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder}: no scenes task with {question_file} here ({error}); --guessing") from None
