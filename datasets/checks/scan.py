"""Reads every row of a `.tsv` file once, in several processes, and finds the rows from the file itself.

No index is trusted here: `.lineidx` and `imageid2idx.json` are compared with what this finds (index.py). A file is cut
into ranges of bytes; a range takes the rows that start in it. Memory is bounded by a range and its longest row in every
process, whatever the file holds.
"""

import multiprocessing
import os
from array import array
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.findings import Findings
from oscar_paddle.datasets.regions.source import image_key

RANGE_BYTES = 16 << 20
LONGEST_ROW = 64 << 20  # bytes; 100 regions of 2054 values take 1.1 MB
_PARALLEL_FROM = 96 << 20  # bytes of work below which starting processes does not pay
_USUAL_ROW = 1 << 19  # bytes; a row of VinVL's has 0.4 MB


@dataclass
class Scan:
    """What is known about the rows of a file, or of a part of it, in their order.

    Attributes:
        figures: what the row checker has gathered.
        starts: array of int64, byte where each row starts.
        keys: list of image ids; None for an empty row, "" where the id cannot be read.
        findings: Findings; rows are counted from the first row of this scan.
    """

    figures: object
    starts: array = field(default_factory=lambda: array("q"))
    keys: list = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    def append(self, other):
        """Take over the scan of what follows in the file."""
        self.findings.merge(other.findings, len(self.starts))
        self.figures += other.figures
        self.starts += other.starts
        self.keys += other.keys


def scan_file(path, checker, processes=1):
    """Check every row of a file.

    Args:
        path: the `.tsv` file.
        checker: see `scan_range`; is sent to the processes.
        processes: how many to use.
    Returns:
        Scan.
    Raises:
        DataError: the file cannot be opened, or a process was killed.
    """
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    ranges = [(start, min(start + RANGE_BYTES, size)) for start in range(0, size, RANGE_BYTES)]
    whole = Scan(checker.new_figures())
    for part in _scan_ranges(path, ranges, checker, processes if size >= _PARALLEL_FROM else 1, "B"):
        whole.append(part)
    while whole.keys and whole.keys[-1] is None:  # blank lines at the end are no rows
        whole.keys.pop()
        whole.starts.pop()
    return whole


def scan_rows(path, starts, checker, processes=1):
    """Check single rows.

    Args:
        starts: list of bytes where the rows should start.
    Yields:
        a Scan for each: of one row, or of none where no row starts.
    """
    ranges = [(start, start + 1) for start in starts]
    pays = len(ranges) * _USUAL_ROW >= _PARALLEL_FROM
    # Single rows travel in bundles.
    return _scan_ranges(path, ranges, checker, processes if pays else 1, " rows", bundle=16)


def _scan_ranges(path, ranges, checker, processes, unit, bundle=1):
    """The scans of all ranges, in their order."""
    progress = tqdm(
        total=sum(end - start for start, end in ranges),
        desc=f"checking {os.path.basename(path)}",
        unit=unit,
        unit_scale=unit == "B",
        delay=1,
        mininterval=0.5,
        leave=False,
    )
    if processes < 2 or len(ranges) < 2:
        parts = (scan_range(path, *ends, checker) for ends in ranges)
    else:
        parts = _in_processes(path, ranges, checker, processes, bundle)
    with progress:
        for (start, end), part in zip(ranges, parts, strict=True):
            yield part
            progress.update(end - start)


def _in_processes(path, ranges, checker, processes, bundle):
    # Processes that start afresh: a fork of a process with threads (tqdm has one) may hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, _start_process, (str(path), checker)) as pool:
            try:
                yield from pool.map(_scan_task, ranges, chunksize=bundle)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise DataError(f"{path}: a checking process was killed (too little memory? try --processes 1)") from None


_task = None  # in a checking process: (path, checker), sent once


def _start_process(path, checker):
    global _task
    _task = path, checker


def _scan_task(bounds):
    path, checker = _task
    return scan_range(path, *bounds, checker)


def scan_range(path, start, end, checker):
    """Check the rows that start in bytes [start, end) of a file.

    Args:
        checker: a row checker. It has `wanted` (set of image ids to look into; None = all), `new_figures()` and
            `check(key, fields, where, figures, problem)`, where `fields` are the columns of a row and
            `problem(kind, text)` notes a finding; a DataError that it raises is one of the kind `damage`.
    Returns:
        Scan; a range that the disk cannot read is a finding.
    """
    scan = Scan(checker.new_figures())
    try:
        with open(path, "rb", buffering=1 << 20) as file:
            if start:
                file.seek(start - 1)
                _skip_line(file)
            while file.tell() < end:
                position = file.tell()
                line = file.readline(LONGEST_ROW)
                if not line:
                    break
                _take_row(path, scan, position, line, checker)
                if len(line) == LONGEST_ROW and line[-1:] != b"\n":
                    _skip_line(file)
    except OSError as error:
        scan.findings.add("unreadable", path, f"bytes {start} to {end}: {error.strerror or error}")
    return scan


def _skip_line(file):
    while True:
        data = file.readline(LONGEST_ROW)
        if not data or data[-1:] == b"\n":
            return


def _take_row(path, scan, position, line, checker):
    row = len(scan.starts)
    scan.starts.append(position)
    key, fault = _row_key(line, position)
    scan.keys.append(key)
    if fault:
        scan.findings.add("bad_row", path, fault, row)
    if key in (None, "") or not (checker.wanted is None or key in checker.wanted):
        return
    where = f"image {key}"

    def problem(kind, text):
        scan.findings.add(kind, path, f"{where}: {text}", row)

    try:
        checker.check(key, _columns(line), where, scan.figures, problem)
    except DataError as error:
        scan.findings.add(checker.damage, path, error, row)


def _columns(line):
    *fields, rest = line.split(b"\t", 2)  # without a limit, `split` looks for tabs in base64 a byte at a time
    fields += rest.split(b"\t") if b"\t" in rest else [rest]
    return [field.strip() for field in fields]


def _row_key(line, position):
    """(image id, None); (None, None) of an empty row, judged when it is known whether anything follows; ("", fault)."""
    if len(line) == LONGEST_ROW and line[-1:] != b"\n":
        return "", f"more than {LONGEST_ROW >> 20} MB without a line end at byte {position}"
    if line.isspace():
        return None, None
    tab = line.find(b"\t")
    start = (line if tab < 0 else line[:tab]).strip()
    try:
        key = image_key(start.decode()) if len(start) <= 200 else ""
    except UnicodeDecodeError:
        key = ""
    return key, f"the row starts with {start[:20]!r}; expected an image id" if key == "" else None
