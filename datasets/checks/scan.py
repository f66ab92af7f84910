"""Reads every row of a `.tsv` file once, in several processes, and finds the rows from the file itself.

No index is trusted here: `.lineidx` and `imageid2idx.json` are compared with what this finds (check_index.py). A file
is cut into ranges of bytes; a range takes the rows that start in it. Memory is bounded by a range and its longest row
in every process, whatever the file holds.
"""

import multiprocessing
import os
from array import array
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.findings import Findings
from oscar_paddle.datasets.regions.source import image_key

RANGE_BYTES = 16 << 20
LONGEST_ROW = 64 << 20  # bytes; 100 regions of 2054 values take 1.1 MB
_PARALLEL_FROM = 96 << 20  # bytes of work below which starting processes does not pay


class Scan:
    """What is known about the rows of a file, or of a part of it, in their order.

    Attributes:
        starts: array of int64, byte where each row starts.
        keys: list of image ids; None for an empty row, "" where the id cannot be read.
        findings: Findings; rows are counted from the first row of this scan.
        summary: what the row checker has gathered.
        end: byte behind the last row.
    """

    def __init__(self, summary):
        self.starts, self.keys = array("q"), []
        self.findings, self.summary, self.end = Findings(), summary, 0

    def append(self, other):
        """Take over the scan of what follows in the file."""
        before = len(self.starts)
        self.findings.merge(other.findings, before)
        self.summary.merge(other.summary)
        self.starts.extend(other.starts)
        self.keys.extend(other.keys)
        self.end = max(self.end, other.end)


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
    whole = Scan(checker.new_summary())
    with _progress(path, size, "B") as progress:
        for (start, end), part in zip(ranges, _run(path, ranges, checker, processes, size), strict=True):
            whole.append(part)
            progress.update(end - start)
    return whole


def scan_rows(path, starts, checker, processes=1):
    """Check single rows.

    Args:
        starts: list of bytes where the rows should start.
    Yields:
        a Scan for each: of one row, or of none where no row starts.
    """
    ranges = [(start, start + 1) for start in starts]
    with _progress(path, len(ranges), " rows") as progress:
        for part in _run(path, ranges, checker, processes, len(ranges) << 19):  # a row of VinVL's has 0.4 MB
            yield part
            progress.update()


def _progress(path, total, unit):
    return tqdm(
        total=total,
        desc=f"checking {os.path.basename(path)}",
        unit=unit,
        unit_scale=unit == "B",
        delay=1,
        mininterval=0.5,
        leave=False,
    )


def _run(path, ranges, checker, processes, work):
    """The scans of all ranges, in their order; `work` is about how many bytes they are."""
    if processes < 2 or len(ranges) < 2 or work < _PARALLEL_FROM:
        for start, end in ranges:
            yield scan_range(path, start, end, checker)
        return
    # Processes that start afresh: a fork of a process with threads (tqdm has one) may hang.
    context = multiprocessing.get_context("spawn")
    single = ranges[0][1] - ranges[0][0] == 1  # single rows travel in bundles
    try:
        with ProcessPoolExecutor(processes, context, _start_process, (str(path), checker)) as pool:
            try:
                yield from pool.map(_scan_task, ranges, chunksize=16 if single else 1)
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
        checker: has `wanted` (set of image ids to look into; None = all), `new_summary()` and
            `check(key, line, row, summary, problem)`, where `line` is bytes without its end and `problem(kind, text)`
            notes a finding.
    Returns:
        Scan; a range that the disk cannot read is a finding.
    """
    scan = Scan(checker.new_summary())
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
                scan.end = file.tell()
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

    def problem(kind, text):
        scan.findings.add(kind, path, text if scan.keys[row] == "" else f"image {scan.keys[row]}: {text}", row)

    scan.keys.append("")
    if len(line) == LONGEST_ROW and line[-1:] != b"\n":
        problem("bad_row", f"more than {LONGEST_ROW >> 20} MB without a line end at byte {position}")
        return
    line = line.rstrip(b"\r\n")
    if not line.strip():
        scan.keys[row] = None  # judged when it is known whether anything follows
        return
    tab = line.find(b"\t")
    field = (line if tab < 0 else line[:tab]).strip()
    try:
        key = image_key(field.decode()) if len(field) <= 200 else None
    except UnicodeDecodeError:
        key = None
    if key is None or key == "":
        problem("bad_row", f"the row starts with {field[:20]!r}; expected an image id")
        return
    scan.keys[row] = key
    if checker.wanted is None or key in checker.wanted:
        checker.check(key, line, row, scan.summary, problem)
