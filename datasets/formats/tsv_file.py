"""Rows of a tab-separated file by number, as the published features and tags come: `X.tsv` with `X.lineidx`.

`X.lineidx` holds the byte offset of each row, one decimal number a line. A missing or stale one is rebuilt.
"""

import codecs
import logging
import os
import threading
from functools import partial

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.reading import RandomAccessFile
from oscar_paddle.datasets.formats.whole_files import whole_file

_LOG = logging.getLogger(__name__)
_CHUNK = 16 << 20  # bytes read at a time while looking for line ends
_PREFIX = 64  # bytes that usually hold the first field
_SAMPLED_ROWS = 64  # rows whose start is checked when the file is opened


class TsvFile:
    """Random access to the rows of a `.tsv` file.

    May be used by many threads, before and after a fork, and after pickling. Blank lines at the end are not rows.

    Args:
        path: the `.tsv` file; the index beside it has the same stem and ends with `.lineidx`.
    Raises:
        DataError: the file is missing or holds no rows.
    """

    def __init__(self, path):
        self.path = str(path)
        self._file, self._lock = RandomAccessFile(path), threading.Lock()
        self._offsets = self._read_index()
        if self._offsets is None:
            self._offsets = self._rebuild_index()

    def __getstate__(self):
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())

    def __len__(self):
        return len(self._offsets) - 1

    def row(self, number, count=None):
        """The fields of a row (0-based number), each without the blanks around it: list of bytes.

        Args:
            count: only so many, from the first on; of the file no more is read than they need.
        Raises:
            DataError: there is no such row.
        """
        line = self._mended(self._line if count is None else partial(self._start, count=count), number)
        line = line if number else line.removeprefix(codecs.BOM_UTF8)  # editors on Windows write it
        return [field.strip() for field in line.split(b"\t")[:count]]

    def spans(self, numbers):
        """Where rows (0-based numbers [n]) begin and how long they are with their line end: int64 [n] each."""
        return self._offsets[numbers], self._offsets[numbers + 1] - self._offsets[numbers]

    def first_fields(self):
        """The first field of every row as text, in order: list of str; reads only the start of each row."""
        name = f"reading ids of {os.path.basename(self.path)}"
        fields = []
        for number in tqdm(range(len(self)), desc=name, unit=" rows", delay=2, leave=False):
            (field,) = self.row(number, count=1)
            try:
                fields.append(field.decode())
            except UnicodeDecodeError:
                where = f"{self.path} row {number + 1}"
                raise DataError(f"{where}: the first field {field[:20]!r} is not UTF-8 text") from None
        return fields

    # ---- one row ----

    def _mended(self, read, number):
        """What `read` says about a row; where that is None, the index is wrong, although it was right at opening."""
        if not 0 <= number < len(self):
            raise DataError(f"{self.path}: row {number + 1} was asked for, the file has {len(self)} rows")
        found = read(number)
        if found is None:
            with self._lock:
                _LOG.warning("%s does not fit %s at row %d", self._index_path, self.path, number + 1)
                self._file.measure()
                self._offsets = self._rebuild_index()
            found = read(number) if number < len(self) else None
        if found is None:
            raise DataError(f"{self.path}: changed while it was being read (row {number + 1})")
        return found

    def _line(self, number):
        """The line, or None if the index is wrong: no line starts there, or it does not end where the next starts."""
        start, end = map(int, self._offsets[number : number + 2])
        before = min(start, 1)  # read the line end before the row too
        data = self._file.read(end - start + before, start - before)
        last = data.find(b"\n", before)
        ends_here = last == len(data) - 1 or (last < 0 and end == self._file.size)
        if not ends_here or data[:before] not in (b"", b"\n") or len(data) != end - start + before:
            return None
        return data[before : last if last >= 0 else None]

    def _start(self, number, count):
        """The line, at least as far as its first `count` fields reach, or None if no line starts there."""
        start, end = map(int, self._offsets[number : number + 2])
        before, length = min(start, 1), _PREFIX
        while True:
            data = self._file.read(min(length, end - start) + before, start - before)
            if data[:before] not in (b"", b"\n"):
                return None
            if data.count(b"\t") >= count or length >= end - start:
                return data[before:].split(b"\n", 1)[0]
            length *= 8

    # ---- the index ----

    @property
    def _index_path(self):
        return os.path.splitext(self.path)[0] + ".lineidx"

    def _read_index(self):
        """Row starts and, last, the end of the last row, as int64 [rows + 1]; None if there is no valid index."""
        try:
            with open(self._index_path, "rb") as file:
                starts = _numbers(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, OverflowError) as error:
            _LOG.warning("%s cannot be used (%s)", self._index_path, error)
            return None
        reason = self._why_stale(starts)
        if reason:
            _LOG.warning("%s is stale: %s", self._index_path, reason)
            return None
        return self._with_end(starts)

    def _why_stale(self, starts):
        """What in the index contradicts the file, or None. Judged by content: copying files changes their times."""
        if len(starts) == 0 or starts[0] != 0:
            return "it does not begin with offset 0"
        if np.any(starts[1:] <= starts[:-1]):
            return "its offsets do not increase"
        if starts[-1] >= self._file.size:
            return f"it reaches to byte {starts[-1]}, the file has {self._file.size} bytes"
        for number in np.unique(np.linspace(0, len(starts) - 1, _SAMPLED_ROWS).astype(int))[1:]:
            if self._file.read(1, int(starts[number]) - 1) != b"\n":
                return f"no line starts at the offset of row {number + 1}"
        rest = self._find_newline(int(starts[-1])) + 1
        if self._file.size - rest > _CHUNK or self._file.read(_CHUNK, rest).strip():
            return f"the file has more rows than {len(starts)}"
        return None

    def _find_newline(self, position):
        """Position of the first line end from here on, or of the end of the file."""
        while position < self._file.size:
            data = self._file.read(1 << 20, position)
            found = data.find(b"\n")
            if found >= 0:
                return position + found
            position += len(data)
        return self._file.size

    def _with_end(self, starts):
        """Drops blank lines at the end and appends the end of the last row."""
        for number in range(len(starts) - 1, -1, -1):
            start = int(starts[number])
            end = min(self._find_newline(start) + 1, self._file.size)
            if end - start > _PREFIX or self._file.read(end - start, start).strip():
                return np.append(starts[: number + 1], end)
        raise DataError(f"{self.path}: the file has no rows")

    def _rebuild_index(self):
        """Finds the line starts, writes them to the index file (if the folder allows) and returns them."""
        _LOG.info("building %s", self._index_path)
        starts, position = [np.zeros(1, np.int64)], 0
        name = f"indexing {os.path.basename(self.path)}"
        with tqdm(total=self._file.size, desc=name, unit="B", unit_scale=True, delay=2, leave=False) as progress:
            while position < self._file.size:
                data = np.frombuffer(self._file.read(_CHUNK, position), np.uint8)
                starts.append(np.flatnonzero(data == ord("\n")) + (position + 1))
                position += len(data)
                progress.update(len(data))
        starts = np.concatenate(starts)
        offsets = self._with_end(starts[starts < self._file.size])
        try:
            with whole_file(self._index_path) as unfinished:
                unfinished.write_text("".join(f"{start}\n" for start in offsets[:-1].tolist()))
        except OSError as error:
            _LOG.warning("%s cannot be written (%s): the index stays in memory", self._index_path, error.strerror)
        return offsets


def _numbers(file):
    """The whole numbers in a file, one a line, a part of them as text at a time: [n] int64."""
    parts, rest = [np.empty(0, np.int64)], b""
    while data := file.read(_CHUNK):
        lines, _, rest = (rest + data).rpartition(b"\n")
        parts.append(np.array(lines.split(), np.int64))
    return np.concatenate([*parts, np.array(rest.split(), np.int64)])
