"""The rows of a text file turned into arrays, block by block, each kept on disk as soon as it is done.

A block are the lines that begin within so many bytes. A process that is killed loses the block it was at, and the next
one goes on from there. A block's file is a `.npz` of the arrays that the reader gives, and what is said here:

    row      int32 [n]: the line number of each kept row, from 1 within the block; `lines` int64: lines of the block
    start    int64 [n]: the byte at which it begins
    span     int64 [2]: the first byte of the block, and the size of blocks
    crc      uint32: of the block's bytes
"""

import logging
import os
import time
import zipfile
import zlib

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.reading import RandomAccessFile
from oscar_paddle.datasets.formats.whole_files import whole_file

log = logging.getLogger(__name__)
BLOCK_BYTES = 16 << 20
_MORE = 1 << 20  # bytes read at a time behind a block, for the end of its last line


def read_blocks(path, read_row, folder, block_bytes=None):
    """All blocks of a file, those from `folder` that are there.

    Args:
        path: the file.
        read_row: function of an iterable of lines (bytes) -> dict of arrays, one of them `kept`, bool [lines], which
            lines are rows of the corpus. A DataError that it raises is given the file and the row it was at.
        folder: where the blocks are kept, a Path.
    Returns:
        list of paths of `.npz` files, in order.
    Raises:
        DataError: the file cannot be read, a row is damaged. OSError: the folder cannot be written.
    """
    file, done, rows_before, block_bytes = RandomAccessFile(path), [], 0, block_bytes or BLOCK_BYTES
    name, began, fresh = os.path.basename(path), time.monotonic(), 0
    end = _end_of_rows(file)
    with tqdm(total=end, desc=f"tokenising {name}", unit="B", unit_scale=True, delay=1) as progress:
        for number, start in enumerate(range(0, end, block_bytes)):
            place = folder / f"{number:06d}.npz"
            lines = _lines_of(place, (start, block_bytes))
            if lines is None:
                lines = _make(file, (start, block_bytes), end, read_row, place, rows_before)
                fresh += lines
            rows_before += lines
            done.append(place)
            progress.update(min(block_bytes, end - start))
            progress.set_postfix_str(f"{rows_before:,} rows", refresh=False)
    if not rows_before:
        raise DataError(f"{path}: the file has no rows")
    if fresh:
        seconds = time.monotonic() - began
        there = f" ({rows_before - fresh:,} were there)" if fresh < rows_before else ""
        log.info("%s: %s rows%s in %.0f s, %s rows/s", path, f"{fresh:,}", there, seconds, f"{fresh / seconds:,.0f}")
    return done


def content_digest(path):
    """The checksums of a file's blocks: list of int, as they are in what `read_blocks` made of it."""
    file, sums = RandomAccessFile(path), []
    name = f"checking {os.path.basename(path)}, which has a new date"
    end = _end_of_rows(file)
    for start in tqdm(range(0, end, BLOCK_BYTES), desc=name, unit=" blocks", delay=2, leave=False):
        sums.append(zlib.crc32(file.read(min(BLOCK_BYTES, end - start), start)))
    return sums


def load(place, *names):
    """Arrays of a block by name."""
    with np.load(place, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]


def _lines_of(place, span):
    """How many lines a block has, or None where it is not there or cannot be used."""
    try:
        lines, found = load(place, "lines", "span")
        return int(lines) if tuple(found) == span else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be used (%s); it is made again", place, error)
        return None


def _end_of_rows(file):
    """Where the last line that is not blank ends: lines behind it are no rows."""
    position, found = file.size, b""
    while position and not found:
        start = max(0, position - _MORE)
        found = file.read(position - start, start).rstrip()
        position = start
    place = position + len(found)
    while found and place < file.size:
        data = file.read(_MORE, place)
        if b"\n" in data:
            return place + data.index(b"\n") + 1
        place += len(data)
    return file.size if found else 0


def _make(file, span, end, read_row, place, rows_before):
    data, lines, starts = _read(file, *span, end)
    number = 0

    def numbered():
        nonlocal number
        for line in lines:
            number += 1
            yield line

    try:
        arrays = read_row(numbered())
    except DataError as error:
        raise DataError(f"{file.path} row {rows_before + number}: {error}") from None
    kept = np.flatnonzero(arrays.pop("kept"))
    with whole_file(place) as unfinished, open(unfinished, "wb") as out:
        np.savez(
            out,
            **arrays,
            row=(kept + 1).astype(np.int32),
            start=starts[kept],
            lines=np.int64(len(lines)),
            span=np.array(span),
            crc=np.uint32(zlib.crc32(data)),
        )
    return len(lines)


def _read(file, start, block_bytes, end):
    """(the block's bytes, the lines that begin in it, where they begin); `end`: that of the last row."""
    before = min(start, 1)
    parts = [file.read(min(block_bytes, end - start) + before, start - before)]
    own, place = parts[0][before:], start + block_bytes
    while not parts[-1].endswith(b"\n") and place < end:  # the rest of the last line
        more = file.read(min(_MORE, end - place), place)
        parts.append(more[: more.find(b"\n") + 1] or more)
        place += len(more)
    data = b"".join(parts)
    first = data.find(b"\n") + 1 if start else 0
    if start and not 0 < first <= len(own):  # one line reaches over the whole block
        return own, [], np.empty(0, np.int64)
    lines = data[first:].split(b"\n")
    if not lines[-1]:
        lines.pop()
    lengths = np.fromiter(map(len, lines), np.int64, len(lines)) + 1
    starts = start - before + first + np.cumsum(lengths) - lengths
    if not start and lines:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")  # editors on Windows write it
    return own, lines, starts
