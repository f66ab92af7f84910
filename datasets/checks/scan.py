"""Reads every row of a `.tsv` file once, in several processes, and finds the rows from the file itself.

No index is trusted here: `.lineidx` and `imageid2idx.json` are compared with what this finds (published.py). A file is
cut into ranges of bytes; a range takes the rows that start in it. Memory is bounded by a range and its longest row in
every process, whatever the file holds.
"""

import codecs
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.checks.figures import Figures
from oscar_paddle.datasets.checks.findings import Findings
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.regions.source import image_key

RANGE_BYTES = 16 << 20
LONGEST_ROW = 64 << 20  # bytes; 100 regions of 2054 values take 1.1 MB
_PARALLEL_FROM = 96 << 20  # bytes of work below which starting processes does not pay
_USUAL_ROW = 1 << 19  # bytes; a row of VinVL's has 0.4 MB


class Scan(NamedTuple):
    """What is known about the rows of a file, or of a part of it, in their order: Figures of those that were looked
    into, Findings (rows are counted from the first of this scan), the byte where each row starts, and the image id of
    each (None of an empty row, "" where it cannot be read)."""

    figures: Figures
    findings: Findings
    starts: list
    keys: list


def scan_file(path, checker, processes=1):
    """Check every row of a `.tsv` file: Scan.

    Args:
        checker: see `scan_range`; is sent to the processes.
        processes: how many to use.
    Raises:
        DataError: the file cannot be opened, or a process was killed.
    """
    with reading(path):
        size = os.stat(path).st_size
    ranges = [(start, min(start + RANGE_BYTES, size)) for start in range(0, size, RANGE_BYTES)]
    figures, findings, starts, keys = Scan(Figures(), Findings(), [], [])
    for part in scan_ranges(path, ranges, checker, processes, "B"):
        findings.merge(part.findings, len(starts))
        figures += part.figures
        starts += part.starts
        keys += part.keys
    while keys and keys[-1] is None:  # blank lines at the end are no rows
        keys.pop()
        starts.pop()
    return Scan(figures, findings, starts, keys)


def scan_ranges(path, ranges, checker, processes, unit):
    """The Scans of ranges of bytes, in their order (`unit` of the progress: "B", or " rows" for a byte of each row)."""
    name, total = f"checking {os.path.basename(path)}", sum(end - start for start, end in ranges)
    options = {"unit_scale": unit == "B", "delay": 1, "mininterval": 0.5, "leave": False}
    scan, work = partial(scan_range, path, checker), sum(max(end - start, _USUAL_ROW) for start, end in ranges)
    if processes < 2 or len(ranges) < 2 or work < _PARALLEL_FROM:
        parts = map(scan, ranges)
    else:
        parts = _in_processes(path, scan, ranges, processes, bundle=1 if unit == "B" else 16)
    with tqdm(total=total, desc=name, unit=unit, **options) as progress:
        for (start, end), part in zip(ranges, parts, strict=True):
            yield part
            progress.update(end - start)


def _in_processes(path, scan, ranges, processes, bundle):
    # Processes that start afresh: a fork of a process with threads (tqdm has one) may hang.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(scan, ranges, chunksize=bundle)
    except BrokenProcessPool:
        raise DataError(f"{path}: a checking process was killed (too little memory? try --processes 1)") from None
    finally:
        pool.shutdown(cancel_futures=True)


def scan_range(path, checker, bounds):
    """Check the rows that start in a range of bytes, its end excluded.

    Args:
        checker: has `wanted` (set of image ids to look into; None = all), `ids` (first column -> image id, where that
            is not it), and `check(key, fields, figures)`, which takes
            the columns of a row, adds to Figures and yields findings (kind, text); a DataError that it raises is one
            of the kind `damage`.
    Returns:
        Scan; a range that the disk cannot read is a finding.
    """
    scan, (start, end) = Scan(Figures(), Findings(), [], []), bounds
    try:
        with open(path, "rb", buffering=1 << 20) as file:
            if start:
                file.seek(start - 1)
                _skip_line(file)
            while (position := file.tell()) < end and (line := file.readline(LONGEST_ROW)):
                _take_row(path, scan, position, line, checker)
                if not line.endswith(b"\n"):  # a row that is endless, or the last one
                    _skip_line(file)
    except OSError as error:
        scan.findings.add("unreadable", path, f"bytes {start} to {end}: {error.strerror or error}")
    return scan


def _skip_line(file):
    while (data := file.readline(LONGEST_ROW)) and not data.endswith(b"\n"):
        pass


def _take_row(path, scan, position, line, checker):
    line = line if position else line.removeprefix(codecs.BOM_UTF8)
    row, start = len(scan.starts), line.split(b"\t", 1)[0].strip()
    try:
        key, fault = image_key(start.decode()) if len(start) <= 200 else "", None
        key = checker.ids.get(key, key)
    except UnicodeDecodeError:
        key, fault = "", None
    if len(line) == LONGEST_ROW and not line.endswith(b"\n"):
        key, fault = "", f"more than {LONGEST_ROW >> 20} MB without a line end at byte {position}"
    elif line.isspace():
        key = None  # judged when it is known whether anything follows
    elif key == "":
        fault = f"the row starts with {start[:20]!r}; expected an image id"
    scan.starts.append(position)
    scan.keys.append(key)
    if fault:
        scan.findings.add("bad_row", path, fault, row)
    elif key is not None and (checker.wanted is None or key in checker.wanted):
        try:
            for kind, text in checker.check(key, _columns(line), scan.figures):
                scan.findings.add(kind, path, f"image {key}: {text}", row)
        except DataError as error:
            scan.findings.add(checker.damage, path, error, row)


def _columns(line):
    *fields, rest = line.split(b"\t", 2)  # without a limit, `split` looks for tabs in base64 a byte at a time
    return [field.strip() for field in (*fields, *(rest.split(b"\t") if b"\t" in rest else [rest]))]
