"""What a row of a corpus TSV, of a label file or of an answer file says (docs/reference.md, corpus files).

    corpus.tsv            image key <tab> label key <tab> caption or question
    predictions_gt.tsv    image id <tab> {"objects": [{"class", ...}, ...], maybe "gt_objects": [...]}
    QA_fileB.tsv          answer id <tab> {"labels": [answer, ...]}

The functions raise DataError that does not name the file and the row; their callers know both.
"""

import functools
import json
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus.definition import IN_CHUNKS, OTHER_NAMES

NO_CHUNK = -1
_ANSWER = b"qa"  # a field of a label key that leads to an answer


class CorpusRow(NamedTuple):
    """One triple.

    Attributes:
        image_key: bytes, the whole first column. data_set: its name, "googlecc" for "cc", too.
        chunk: int, NO_CHUNK where the data set has none. image_id: bytes.
        is_answer: whether text_b is an answer. label_id: bytes, of the image or of the answer.
        text: bytes, not empty.
    """

    image_key: bytes
    data_set: str
    chunk: int
    image_id: bytes
    is_answer: bool
    label_id: bytes
    text: bytes


def parse_corpus_row(line, names):
    """The CorpusRow in a line (bytes without its end), or None where its data set is none of `names`."""
    columns = line.split(b"\t")
    if len(columns) < 3:
        raise DataError(
            f"{len(columns)} column{'s' * (len(columns) > 1)}; expected image key, label key and text with tabs between"
        )
    image_key, label_key, text = map(bytes.strip, columns[:3])
    before, _, image_id = image_key.rpartition(b"_")
    data_set, chunk = _place(before)
    if data_set not in names:
        data_set = first_name(line)  # a key without "_" has it after all
        if data_set not in names:
            return None
    has_chunks = data_set in IN_CHUNKS
    if chunk is None or not (before and image_id):
        form = f"{data_set}_<chunk>_<image id>, the chunk a number" if has_chunks else f"{data_set}_<image id>"
        raise DataError(f"the image key is {_shown(image_key)}; expected {form}")
    before, _, label_id = label_key.rpartition(b"_")
    fields = before.split(b"_")
    if _name(fields[0]) != data_set:
        raise DataError(
            f"the image key {_shown(image_key)} is of another data set than the label key {_shown(label_key)}"
        )
    is_answer = _ANSWER in fields
    if not label_id or (is_answer and fields[-1] == _ANSWER):
        form = f"{data_set}_<image id> or {data_set}_qa_<image id>_<answer id>"
        raise DataError(f"the label key is {_shown(label_key)}; expected {form}")
    if not text:
        raise DataError(f"the text of {_shown(image_key)} is empty; leave the row out")
    return CorpusRow(image_key, data_set, chunk, image_id, is_answer, label_id, text)


def first_name(line):
    """The data set that a row's image key begins with."""
    return _name(line.split(b"\t", 1)[0].strip().split(b"_", 1)[0])


@functools.lru_cache(maxsize=1 << 12)
def _name(field):
    name = field.decode("utf-8", "replace")
    return OTHER_NAMES.get(name, name)


@functools.lru_cache(maxsize=1 << 12)
def _place(before):
    """(data set, chunk) of what is before the image id in an image key; the chunk is None where there should be one."""
    fields = before.split(b"_")
    name = _name(fields[0])
    if name not in IN_CHUNKS:
        return name, NO_CHUNK
    number = int(fields[-1]) if len(fields) > 1 and fields[-1].isdigit() and len(fields[-1]) < 10 else NO_CHUNK
    return name, number if str(number).encode() == fields[-1] else None


def columns_at(file, start):
    """The columns of the row that begins at a byte of a RandomAccessFile: list of str."""
    line = b""
    while b"\n" not in line and (more := file.read(1 << 10, start + len(line))):
        line += more
    line = line.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf")
    return [column.strip().decode("utf-8", "replace") for column in line.split(b"\t")]


def parse_label_row(line, use_gtlabels=True):
    """(image id as bytes, the classes of an image joined by blanks) of a line of predictions_gt.tsv."""
    name, value = _name_and_json(line)
    key = "gt_objects" if use_gtlabels and "gt_objects" in value else "objects"
    objects = value.get(key)
    if not isinstance(objects, list):
        raise DataError(f"image {_shown(name)}: {key!r} is {_kind(objects)}; expected a list of objects with a 'class'")
    try:
        return name, " ".join([each["class"] for each in objects])
    except (TypeError, KeyError):
        raise DataError(f"image {_shown(name)}: an object of {key!r} has no 'class', which is a text") from None


def parse_answer_row(line):
    """(answer id as bytes, the answers joined by blanks) of a line of QA_fileB.tsv."""
    name, value = _name_and_json(line)
    answers = value.get("labels")
    if not isinstance(answers, list) or not all(isinstance(each, str) for each in answers):
        raise DataError(f"answer {_shown(name)}: 'labels' is {_kind(answers)}; expected a list of texts")
    return name, " ".join(answers)


def _name_and_json(line):
    name, tab, text = line.partition(b"\t")
    if not tab:
        raise DataError("one column; expected an id and JSON with a tab between")
    try:
        value = json.loads(text.partition(b"\t")[0])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_shown(name)}: malformed JSON ({str(error)[:80]})") from None
    if not isinstance(value, dict):
        raise DataError(f"{_shown(name)}: {_kind(value)}; expected a JSON object")
    return name.strip(), value


def _shown(name):
    return repr(name[:60].decode("utf-8", "replace"))


def _kind(value):
    return "missing" if value is None else f"a {type(value).__name__}"
