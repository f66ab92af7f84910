"""Records of VQA, GQA and NLVR2: JSON lists of objects, read one object at a time.

GQA's file of all training questions has 14 to 16 million records, too many to hold as Python objects.
"""

import json
import os

from tqdm import tqdm

from oscar_paddle.config.errors import DataError

_CHUNK = 1 << 20  # characters read at a time
_MAX_RECORD = 1 << 24  # characters of one record; more is a damaged file
_BLANK = " \t\r\n"


def read_records(path, origin):
    """The records of a JSON list of objects.

    Args:
        path: the file.
        origin: where the file comes from and which setting looks for it, for the message when it is missing.
    Yields:
        (number of the record from 0, its dict).
    Raises:
        DataError: no such file, or not such a list; names the record.
    """
    try:
        file = open(path, encoding="utf-8")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {origin}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    with (
        file,
        tqdm(
            total=os.path.getsize(path),
            desc=f"reading {os.path.basename(path)}",
            unit="B",
            unit_scale=True,
            delay=2,
            leave=False,
        ) as bar,
    ):
        try:
            yield from _records(file, path, bar)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text: {error.reason}") from None


def _records(file, path, bar):
    decoder, text = json.JSONDecoder(), _Text(file, bar)
    if text.next() != "[":
        raise DataError(f"{path}: expected a JSON list of records, found {text.shown()}")
    number = 0
    text.skip(1)
    while text.next() != "]":
        if number and text.next() != ",":
            raise DataError(f"{path}: expected a comma after record {number}, found {text.shown()}")
        if number:
            text.skip(1)
        record = text.decode(decoder, f"{path} record {number}")
        if not isinstance(record, dict):
            kind = type(record).__name__
            raise DataError(f"{path} record {number}: found {kind} {str(record)[:40]!r}; expected an object")
        yield number, record
        number += 1
    text.skip(1)
    if text.next():
        raise DataError(f"{path}: after the list of records comes {text.shown()}; expected the end")


class _Text:
    """A window that moves over a file of text."""

    def __init__(self, file, bar):
        self.file, self.bar, self.text, self.at = file, bar, "", 0

    def next(self):
        """The next character that is not blank, "" at the end; the window then begins there."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANK:
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def skip(self, count):
        self.at += count

    def shown(self):
        return repr(self.text[self.at : self.at + 20]) if self.next() else "the end of the file"

    def decode(self, decoder, where):
        """The JSON value that begins here."""
        self.next()
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                # Perhaps only the window ends too early.
                if len(self.text) - self.at < _MAX_RECORD and not isinstance(error, RecursionError) and self._more():
                    continue
                raise DataError(f"{where}: malformed JSON ({getattr(error, 'msg', error)})") from None
            self.at = end
            return value

    def _more(self):
        data = self.file.read(_CHUNK)
        self.text, self.at = self.text[self.at :] + data, 0
        self.bar.update(len(data))
        return bool(data)


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
