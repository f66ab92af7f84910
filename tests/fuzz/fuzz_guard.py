"""Runs a reader on one set of files and says whether it behaved: our own error or none, soon, in little memory."""

import contextlib
import io
import logging
import os
import resource
import shutil
import signal
import tempfile
import traceback
from pathlib import Path

from oscar_paddle.config.errors import UserError

SECONDS = float(os.environ.get("FUZZ_SECONDS", 10))  # for one set of small files, on a busy machine
MEGABYTES = int(os.environ.get("FUZZ_MEGABYTES", 400))  # beyond what was in use; the files have some kilobytes
_DISK_BYTES = 64 << 20


class Misbehaved(AssertionError):
    """A reader did what no file may make it do."""


class _TooLong(BaseException):
    """Not an Exception: no reader may catch it."""


def limit_process():
    """Limit what this process may take, after everything is imported."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_DISK_BYTES, _DISK_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (2 * MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _on_alarm)


def _on_alarm(*_):
    raise _TooLong


def run_case(read, files, accepts=False):
    """Read a set of files.

    Args:
        read: function (folder).
        files: {name: bytes}.
        accepts: whether the files are sound and must be read.
    Returns:
        "read" or "refused".
    Raises:
        Misbehaved: anything else happened; the message says what.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory_folder()) as name:
        folder = Path(name) / "case"
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        try:
            return _guarded(read, folder, accepts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _guarded(read, folder, accepts):
    before = _peak()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            read(folder)
        outcome = "read"
    except UserError as error:
        if accepts:
            raise Misbehaved(f"sound files were refused: {error}") from error
        if "\n" in str(error) or not str(error):
            raise Misbehaved(f"the message is not one line: {str(error)!r}") from error
        outcome = "refused"
    except _TooLong as error:
        raise Misbehaved(f"still reading after {SECONDS:g} s\n{traceback.format_exc(limit=-4)}") from error
    except Misbehaved:
        raise
    except Exception as error:
        raise Misbehaved(f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = _peak() - before
    if grown > MEGABYTES << 20:
        raise Misbehaved(f"took {grown >> 20} MB for files of {sum(map(os.path.getsize, _files(folder))) >> 10} KB")
    return outcome


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def _peak():
    """The most memory this process has had, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def memory_folder():
    """A folder in memory where there is one; None otherwise."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
