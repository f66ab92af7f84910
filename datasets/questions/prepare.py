"""Writes question files, answer lists and submission templates of questions as their authors publish them, or of one's
own, in the layout that the tasks read; tools/prepare_questions.py asks for it.

One's own questions are a JSONL, an object on each line:

    {"image": "dog.jpg", "question": "What is it?", "answers": ["dog", "puppy", "dog"], "question_id": 7}

`answers` are those of all annotators, or {"dog": 1.0, "puppy": 0.3}; `answer` is one that is right; without both it is
a question of a test split. `question_id` is a whole number; without it, the number of the line. Images are numbers or
names; a name without its ending is tried first.
"""

import functools
import json
import os
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.pickle_writer import write_pickle
from oscar_paddle.datasets.formats.reading import MissingFile
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.datasets.questions.answer_text import normalised, soft_scores
from oscar_paddle.datasets.questions.answers import read_answer_labels
from oscar_paddle.datasets.questions.records import LINES, field, read_records
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.oscar_v1 import Labels, open_labels
from oscar_paddle.datasets.regions.source import stem
from oscar_paddle.datasets.regions.vinvl import ObjectTags

ORIGIN = "the command line names it"


class Question(NamedTuple):
    """A question, or a statement about two images.

    Attributes:
        where: file and record. text: what is asked. question_id: str.
        images: a tuple of the names that an image may have in the files of regions and tags, for each image.
        answers: {answer: soft score}, the one that counts for the list of answers first; None where they are not known.
        is_balanced: whether it is one of a balanced selection.
    """

    where: str
    text: str
    question_id: str
    images: tuple
    answers: dict | None
    is_balanced: bool = True


@dataclass
class Prepared:
    """What was made of a split: its files, questions, those with answers, those of them with one in the list."""

    split: str
    files: list
    questions: int = 0
    answered: int = 0
    kept: int = 0


def image_names(image):
    """The names that an image may have elsewhere: a file's name without its ending, and with it."""
    return (image,) if isinstance(image, int) else tuple(dict.fromkeys((stem(image), image)))


def own_questions(path):
    """Questions of a JSONL of one's own (see the top of the file)."""
    for number, record in read_records(path, ORIGIN, LINES):
        where = f"{path} record {number}"
        question_id = field({"question_id": number, **record}, "question_id", (int, str), where)
        images = (image_names(field(record, "image", (int, str), where)),)
        text, answers = field(record, "question", str, where), _own(record, where)
        if not text.strip() or "" in (answers or ()):
            raise DataError(f"{where}: the question or an answer is empty; leave it out")
        yield Question(where, text, str(question_id), images, answers)


def _own(record, where):
    if "answer" in record:
        return {normalised(field(record, "answer", str, where)): 1.0}
    if "answers" not in record:
        return None
    answers = field(record, "answers", (list, dict), where)
    if not all(isinstance(answer, str) for answer in answers):
        raise DataError(f"{where}: the field 'answers' is {str(answers)[:60]}; expected texts")
    if isinstance(answers, list):
        return soft_scores(answers)
    if not all(type(score) in (int, float) and 0 <= score <= 1 for score in answers.values()):
        raise DataError(f"{where}: the scores are {str(list(answers.values()))[:60]}; expected numbers from 0 to 1")
    scores = Counter()
    for answer, score in answers.items():  # "two" and "2" are one answer, as they are when people are counted
        scores[normalised(answer)] = min(1.0, scores[normalised(answer)] + score)
    return dict(scores.most_common())


def prepare(task, splits, folder, tags, *, min_count=1, answer_list="", as_json=False, overwrite=False):
    """Write the files of some splits, all of them or none.

    Args:
        task: QuestionTask class: `official` reads its published files, `made_files` says which to write.
        splits: {split: list of paths}.
        folder: where to write, DATASET.DATA_DIR of the runs to come.
        tags: function split -> what `tag_finder` gives for it.
        min_count: of how many questions an answer must be the commonest one to be in the list.
        answer_list: answer -> label, pickle or JSON, to use in place of counting.
        as_json: write the answer list as JSON rather than pickles.
        overwrite: replace files that are there.
    Returns:
        (list of Prepared, {answer: label}, {} where there is no list).
    Raises:
        DataError: a file is none of the published ones, an image has no tags, nothing is left, files are there already;
            names file and record.
    """
    made = [
        Prepared(split, _useful(task, paths, task.made_files(str(folder), split))) for split, paths in splits.items()
    ]
    tests = [split for split, paths in splits.items() if _first(task, paths).answers is None]
    templates = {split: os.path.join(folder, f"{split}_template.json") for split in tests}
    has_list, ending = task.label_files and len(tests) < len(splits), ".json" if as_json else ".pkl"
    lists = [os.path.join(folder, os.path.splitext(name)[0] + ending) for name in task.label_files if has_list]
    lists = [] if answer_list and os.path.dirname(answer_list) == str(folder) else lists  # they stay as they are
    _refuse([*(path for split in made for path, _ in split.files), *lists, *templates.values()], overwrite)
    labels = {}
    if has_list and answer_list:
        read = read_answer_labels("", task.label_files, answer_list)
        labels = dict(zip(read.answers, read.labels, strict=True))
    elif has_list:
        labels = _count(task, [splits[split] for split in splits if split not in tests], min_count)
    try:
        with ExitStack() as stack:

            def new(path):
                return stack.enter_context(open(stack.enter_context(whole_file(path)), "wb"))

            for split in made:
                files = [(new(path), balanced_only) for path, balanced_only in split.files]
                is_test = split.split in tests
                questions = task.official(splits[split.split])
                ids = _write_split(questions, split, files, tags(split.split), labels, is_test)
                template = _template(task, ids, splits[split.split]) if is_test else None
                if template is not None:
                    new(templates[split.split]).write(json.dumps(template).encode())
            in_order, by_label = sorted(labels, key=labels.get), {label: answer for answer, label in labels.items()}
            is_list = sorted(by_label) == list(range(len(labels)))
            for path, value in zip(lists, (labels, in_order if is_list else by_label), strict=False):
                if as_json:
                    new(path).write(json.dumps(value).encode())
                else:
                    write_pickle(new(path), value, protocol=2)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return made, labels


def _useful(task, paths, files):
    """The files that are to be written: of a balanced selection no file of all, and where nothing is said to be
    balanced no file of those."""
    kinds = set()
    for question in task.official(paths) if len(files) > 1 else ():
        kinds.add(question.is_balanced)
        if len(kinds) == 2:
            return files
    return [(path, balanced_only) for path, balanced_only in files if not kinds or kinds == {balanced_only}]


def _first(task, paths):
    for question in task.official(paths):
        return question
    raise DataError(f"{paths[0]}: no questions")


def _refuse(paths, overwrite):
    there = [path for path in paths if os.path.exists(path)]
    if there and not overwrite:
        raise DataError(
            f"{there[0]}: is already there (with {len(there) - 1} others); choose another --output_dir, or say "
            "--overwrite; --answer_list keeps the answers that other splits were made with"
        )


def _count(task, splits, min_count):
    """{answer: label} of the answers that are often enough the commonest of a question, the most frequent first."""
    counts = Counter()
    for paths in splits:
        counts.update(next(iter(question.answers)) for question in task.official(paths) if question.answers)
    in_order = sorted(counts, key=lambda answer: (-counts[answer], answer))
    kept = [answer for answer in in_order if counts[answer] >= min_count]
    if not kept:
        most = max(counts.values(), default=0)
        raise DataError(f"{splits[0][0]}: no answer is that of {min_count} questions (at most of {most}): --min_count")
    return {answer: label for label, answer in enumerate(kept)}


def _write_split(questions, split, files, find, labels, is_test):
    """Write the records of a split to [(file, whether it holds the balanced ones only), ...]: list of question ids."""
    ids, begun = [], [False] * len(files)
    for question in questions:
        if (question.answers is None) != is_test:
            raise DataError(f"{question.where}: {'an' if is_test else 'no'} answer, unlike the first question's")
        images, tags = zip(*(find(names, question.where) for names in question.images), strict=True)
        record = {"q": question.text, "q_id": question.question_id}
        if len(images) > 1:  # a statement: its one answer is the label
            sides = [dict(zip(("left", "right"), both, strict=True)) for both in (images, tags)]
            record.update(img_id=sides[0], o=sides[1], label=next(iter(question.answers or ()), None))
        else:
            known = {labels[answer]: score for answer, score in (question.answers or {}).items() if answer in labels}
            record.update(img_id=images[0], o=tags[0], an=list(known), s=list(known.values()))
            if is_test:
                record.update(an=None, s=None)
        for number, (file, balanced_only) in enumerate(files):
            if question.is_balanced or not balanced_only:
                file.write((b",\n" if begun[number] else b"[") + json.dumps(record).encode())
                begun[number] = True
        split.questions += 1
        split.answered += bool(question.answers)
        split.kept += len(images) > 1 or bool(record["an"])
        ids.append(question.question_id)
    for (file, _), has_records in zip(files, begun, strict=True):
        file.write(b"]\n" if has_records else b"[]\n")
    return ids


def _template(task, ids, paths):
    """What the evaluation server takes, without the answers; None where there is no server."""
    try:
        return task.results(ids, [""] * len(ids))
    except DataError as error:
        raise DataError(
            f"{', '.join(map(str, paths))}: {error} (question_id, or else the number of the line)"
        ) from None


def tag_finder(paths, split, label_type):
    """Function (names of an image, where) -> (the name that the files have, its tags), see `open_tags`.

    Args:
        paths: list of paths as for `open_tags`; [] = no tags, and the first name.
    """
    sources = [open_tags(path, split, label_type) for path in paths]

    @functools.lru_cache(maxsize=1 << 16)
    def find(names):
        for source in sources:
            for name in names:
                if name in source:
                    return name, source[name]
        return None

    def find_or_name(names, where):
        found = find(names) if sources else (names[0], "")
        if found is None:
            places = " and ".join(str(source.path) for source in sources)
            raise DataError(f"{where}: no tags for image {' or '.join(map(str, names))} in {places} (--tags)")
        return found

    return find_or_name


def open_tags(path, split, label_type):
    """A mapping image id -> tags.

    Args:
        path: predictions.tsv, {split}_xx_labels.pt, a folder with one of them, or region features with tags of theirs.
        split: such as "train". label_type: the xx.
    Raises:
        DataError: none of them.
    """
    folder, name = (path, "predictions.tsv") if os.path.isdir(path) else os.path.split(path)
    if name.startswith("predictions") and os.path.isfile(os.path.join(folder, name)):
        return ObjectTags(os.path.join(folder, name))
    if "_labels." in name:
        return Labels(path)
    with suppress(MissingFile):
        return open_labels([folder], split, label_type)
    return open_regions(folder, split, path, packed="off").open_tags(folder, split, label_type)
