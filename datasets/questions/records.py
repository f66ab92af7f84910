"""Records of the question tasks: JSON objects in a list, by key or on lines of their own, read one at a time.

The largest such file has 14 to 16 million records, too many to hold as Python objects.
"""

import codecs
import contextlib
import os

import ijson
import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.reading import reading

LIST, LINES, BY_KEY = "item", "", None  # where the records lie; "questions.item": in the list of that name
_BLOCK = 1 << 12  # bytes parsed at a time
_MAX_RECORD = 1 << 24  # bytes of one record; more is a damaged file
_MAX_NESTING = 500  # brackets open at once: the parser keeps the path to each of them, whose lengths add up
_STEPS = np.zeros(256, np.int8)  # byte -> whether it opens (1) or closes (-1) something; in text, brackets balance
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def read_records(path, origin, inside=LIST):
    """The records of a file of JSON objects.

    Args:
        path: the file.
        origin: where the file comes from and which setting looks for it, for the message when it is missing.
        inside: where the records lie: LIST, LINES (one after another), BY_KEY (the values of one object), or
            "<name>.item" (the list of that name in one object).
    Yields:
        (number of the record from 0, or its key; its dict).
    Raises:
        DataError: no such file, or no such records; names the record.
    """
    with reading(path, f"; {origin}"):
        file, size = open(path, "rb"), os.path.getsize(path)  # noqa: SIM115 (closed below)
    name = os.path.basename(path)
    with file, tqdm(total=size, desc=f"reading {name}", unit="B", unit_scale=True, delay=2, leave=False) as bar:
        first = first_byte(file)
        if first != (b"[" if inside == LIST else b"{"):
            found = repr((first + file.read(19)).decode(errors="replace")) if first else "the end of the file"
            kind = "list" if inside == LIST else "object"
            raise DataError(f"{path}: expected a JSON {kind} of records, found {found}")
        file.seek(0)
        _skip_mark(file)
        yield from _records(_Blocks(file, bar.update), path, inside)


def first_byte(file):
    """The first byte that is no white space of a binary file, b"" at its end."""
    _skip_mark(file)
    return next((byte for byte in iter(lambda: file.read(1), b"") if not byte.isspace()), b"")


def _skip_mark(file):
    """Pass over the byte order mark that editors on Windows put at the start of a file."""
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)


def _records(blocks, path, inside):
    options = {"use_float": True, "buf_size": _BLOCK}
    if inside is BY_KEY:
        found = ijson.kvitems(blocks, "", **options)
    else:
        found = enumerate(ijson.items(blocks, inside, multiple_values=inside == LINES, **options))
    number = None
    try:
        for number, record in found:
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise DataError(f"{path} record {number}: found {kind} {str(record)[:40]!r}; expected an object")
            blocks.start_record()
            yield number, record
    except ijson.JSONError as error:
        where = f"after record {number}" if inside is BY_KEY else f"record {_count_whole(path, inside)}"
        raise DataError(f"{path} {where}: malformed JSON ({_reason(error)})") from None
    if number is None and inside not in (LIST, LINES, BY_KEY):
        raise DataError(f"{path}: no records; expected an object with a list {inside.partition('.')[0]!r}")


class _Blocks:
    """A file for the parser to read; an error where a record nests too deeply, or has no end in sight."""

    def __init__(self, file, on_bytes=lambda count: None):
        self._file, self._on_bytes = file, on_bytes
        self._bytes = self._depth = self._left_open = 0
        self._is_too_deep = False

    def start_record(self):
        self._bytes, self._depth = 0, self._left_open

    def read(self, size):
        if self._is_too_deep:
            raise ijson.JSONError("nested too deeply")
        if self._bytes > _MAX_RECORD:
            raise ijson.JSONError("no end of the record in sight")
        block = self._file.read(size)
        self._on_bytes(len(block))
        self._bytes += len(block)
        opened, closed = (sum(map(block.count, brackets)) for brackets in (b"[{", b"]}"))
        before, self._depth, self._left_open = self._depth, max(0, self._depth + opened - closed), opened
        if before + opened > _MAX_NESTING // 2:  # at most so deep; seldom, so it is cheap to look closer
            depths = before + np.cumsum(_STEPS[np.frombuffer(block, np.uint8)], dtype=np.int64)
            self._left_open = int(depths[-1] - depths.min())
            if depths.max() > _MAX_NESTING:
                self._is_too_deep = True
                return block[: np.argmax(depths > _MAX_NESTING)]
        return block


def _count_whole(path, inside):
    """The number of records before the damage. The parser keeps those of the block where it fails to itself."""
    whole = ijson.sendable_list()
    number, parser = 0, ijson.items_coro(whole, inside, multiple_values=inside == LINES)
    with contextlib.suppress(ijson.JSONError), open(path, "rb") as file:
        _skip_mark(file)
        blocks = _Blocks(file)
        while block := blocks.read(_BLOCK):
            parser.send(block)
            if whole:
                number += len(whole)
                whole.clear()
                blocks.start_record()
        parser.close()
    return number + len(whole)


def _reason(error):
    """What the parser says in one line: the trouble, and the text before and after it."""
    text = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error.args[0])
    trouble, *near = (line.strip() for line in text.splitlines())
    return f"{trouble.partition(': ')[2] or trouble}" + (f" near {near[0][:80]!r}" if near and near[0] else "")


def field(record, name, kinds, where):
    """A field of a record, of one of these types.

    Args:
        record: dict. name: of the field. kinds: type or tuple of types. where: file and record, for the message.
    Raises:
        DataError: it is missing, or of another type.
    """
    value = record.get(name)
    if not isinstance(value, kinds) or isinstance(value, bool):
        expected = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        found = "nothing" if name not in record else f"{type(value).__name__} {str(value)[:40]!r}"
        raise DataError(f"{where}: the field {name!r} has {found}; expected {expected}")
    return value
