"""The answers of the question tasks and the classes they are: `trainval_ans2label.pkl`, `trainval_label2ans.pkl`, or
the same as `.json`.

Class c is the c-th entry of the dictionary, not the label number in it: a published dictionary is not in numeric order.
"""

import logging
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import restricted_pickle
from oscar_paddle.datasets.formats.reading import first_file, read_json, reading

log = logging.getLogger(__name__)


class AnswerLabels:
    """Answers by class.

    Args:
        labels: list of C int, the label of each class.
        answers: list of C str, the answer of each class (attributes, as `path` is).
        path: file of the labels, for messages.
    """

    def __init__(self, labels, answers, path):
        self.labels, self.answers, self.path = labels, answers, path
        self._class_of = {}
        for number, label in enumerate(labels):
            self._class_of.setdefault(label, number)  # Upstream: list.index finds the first

    def __len__(self):
        return len(self.answers)

    def class_of(self, label, where):
        """The class of a label.

        Raises:
            DataError: there is no such label; `where` names the record.
        """
        try:
            return self._class_of[label]
        except (KeyError, TypeError):
            raise DataError(f"{where}: the label {label!r} is not in {self.path} ({len(self)} answers)") from None


def read_answer_labels(data_dir, names, label_file="", answers_file=""):
    """Read the answer dictionaries of a task.

    Args:
        data_dir: DATASET.DATA_DIR.
        names: published names of the two pickles; each is also looked for as `.json`.
        label_file, answers_file: DATASET.LABEL_FILE and DATASET.LABEL2ANS_FILE; "" looks for the published names in
            data_dir and its folder `cache`.
    Returns:
        AnswerLabels.
    Raises:
        DataError: no such file, not a dictionary answer -> label, or two files that do not belong together.
    """
    folders = data_dir, os.path.join(data_dir, "cache")
    places = [os.path.join(folder, name) for name in _both(names[0]) for folder in folders]
    hint = "; it numbers the answers and comes with the question files or from tools/prepare_questions.py"
    hint += " (DATASET.LABEL_FILE)"
    path = label_file or first_file(places, hint)
    table = _load(path, "DATASET.LABEL_FILE")
    right = (
        isinstance(table, dict)
        and table
        and all(type(k) is str and type(v) is int and v >= 0 for k, v in table.items())
    )
    if not right:
        raise DataError(f"{path}: expected a dictionary answer -> label (text -> integer from 0)")
    labels, answers = list(table.values()), list(table)
    places = [answers_file] if answers_file else [os.path.join(os.path.dirname(path), name) for name in _both(names[1])]
    beside = next((place for place in places if answers_file or os.path.isfile(place)), None)
    if beside:
        by_label = _load(beside, "DATASET.LABEL2ANS_FILE")
        answers = [_answer(by_label, label, beside) for label in labels]
        if answers != list(table):
            log.warning("%s and %s name some answers differently; results use the second", path, beside)
    return AnswerLabels(labels, answers, str(path))


def _both(name):
    return name, os.path.splitext(name)[0] + ".json"


def _load(path, key):
    if str(path).endswith(".json"):
        return read_json(path, f" ({key})")
    with reading(path, f" ({key})"), open(path, "rb") as file:
        return restricted_pickle.load(file, path)


def _answer(by_label, label, path):
    try:
        answer = by_label[str(label) if str(path).endswith(".json") and isinstance(by_label, dict) else label]
    except (LookupError, TypeError):
        answer = None
    if not isinstance(answer, str):
        raise DataError(f"{path}: no answer for label {label}; expected a list of answers by label")
    return answer
