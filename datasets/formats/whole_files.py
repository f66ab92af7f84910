"""Files and folders that appear complete or not at all, whatever happens while they are written."""

import glob
import hashlib
import json
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from oscar_paddle.config.errors import DataError

_STALE_SECONDS = 3600  # a file that nobody wrote to for so long was left by a killed process


@contextmanager
def whole_file(path):
    """Context that yields the path of a file to write, which takes the place of `path` when everything went well.

    Its folder is made when missing. Several processes may write the same file at once: each has a temporary one of its
    own, `.tmp-<name>-<process>-<random>` beside it, and the last one stays.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    temporary = _place_beside(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder, replace=True):
    """Context that yields an empty folder beside `folder`, which takes its place when everything went well.

    Args:
        replace: delete what is there first. Otherwise only an empty folder gives way, and anything else is an OSError.
    Raises:
        OSError: it cannot be written.
    """
    temporary = _place_beside(folder)
    try:
        temporary.mkdir()
        yield temporary
        if replace and os.path.exists(folder):
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush(path):
    """Make the content of a file, or the entries of a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder, names):
    """Delete what killed processes left half-written of files and folders whose names fit a `glob` pattern."""
    for leftover in Path(folder).glob(f".tmp-{names}-*-????????"):
        with suppress(OSError):
            if leftover.is_dir():  # its time does not change while its files grow: is the process in its name there?
                with suppress(ValueError):
                    try:
                        os.kill(int(leftover.name.split("-")[-2]), 0)  # signal 0 only asks
                    except ProcessLookupError:
                        shutil.rmtree(leftover, ignore_errors=True)
            elif time.time() - leftover.stat().st_mtime > _STALE_SECONDS:  # the writer may be on another machine
                leftover.unlink()


def _place_beside(path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, glob.escape(path.name))
    return path.with_name(f".tmp-{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def user_cache(kind, folder):
    """The user's own place for what belongs into `folder` but cannot be written there: Path below $XDG_CACHE_HOME, or
    ~/.cache, one for every kind (such as "tokens") and folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    place = hashlib.blake2b(os.fsencode(os.path.abspath(folder)), digest_size=8).hexdigest()
    return Path(base) / "oscar_paddle" / kind / place


def is_kept(folder, settings_file, settings, what, overwrite=False):
    """Whether a folder of generated files can stay as it is.

    Args:
        settings_file: JSON file in it; its keys that `settings` (a JSON-ready dict) has are compared.
        what: what the folder holds, for messages.
        overwrite: a folder with other settings may be replaced.
    Returns:
        True if it was made with these settings; False if the place is free or may be replaced.
    Raises:
        DataError: it holds something else, or other settings without `overwrite`.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = dict(json.loads((folder / settings_file).read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{folder}: exists and is not a {what} data set (no readable {settings_file}); choose another folder"
        ) from None
    differ = [f"{k} {found.get(k)} (asked {v})" for k, v in settings.items() if found.get(k) != v]
    if not differ or overwrite:
        return not differ
    raise DataError(
        f"{folder}: holds {what} with other settings: {', '.join(differ)}; choose another folder or allow overwriting"
    )
