"""Opening what a user names, with one wording for what can go wrong."""

import json
import os
from contextlib import contextmanager

from oscar_paddle.config.errors import DataError


class MissingFile(DataError):
    """There is no such file."""


@contextmanager
def reading(path, hint=""):
    """Context in which a file or folder is opened: what the system says becomes a DataError that names it.

    `hint` follows "no such file", such as what it is for or which setting names it.
    """
    try:
        yield
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file{hint}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from None
    except (OSError, ValueError) as error:  # open: ValueError for a path with a zero byte
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_text(path, hint=""):
    """The text of a UTF-8 file, without a byte-order mark (arguments and errors as for `reading`)."""
    with reading(path, hint), open(path, encoding="utf-8-sig") as file:
        return file.read()


def read_json(path, hint=""):
    """The value in a JSON file (arguments and errors as for `reading`; DataError also for malformed JSON)."""
    text = read_text(path, hint)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: malformed JSON ({error})") from None


def first_file(places, hint):
    """The first path that is a file; if none is, MissingFile lists them, followed by "no such file" and the hint."""
    for place in places:
        if os.path.isfile(place):
            return place
    raise MissingFile(f"{' and '.join(map(str, places))}: no such file{hint}")


class RandomAccessFile:
    """Bytes of a file (`path`; `size` when it was opened) by place, without a file position to share.

    May be used by many threads, before and after a fork, and after pickling (it is opened again).
    """

    def __init__(self, path):
        self.path = str(path)
        with reading(path):
            self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self.size = os.fstat(self._descriptor).st_size

    def __del__(self):
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def __reduce__(self):
        return RandomAccessFile, (self.path,)

    def read(self, count, start):
        """At most `count` bytes from byte `start` on."""
        return os.pread(self._descriptor, count, start)

    def measure(self):
        """Find out the size again, in case the file has grown."""
        self.size = os.fstat(self._descriptor).st_size
