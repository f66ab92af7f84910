"""Folders of generated files that appear complete or not at all, and are kept while their settings stay the same."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from oscar_paddle.config.errors import DataError


def is_kept(folder, settings_file, settings, what, overwrite=False):
    """Whether a folder can stay as it is.

    Args:
        folder: path.
        settings_file: JSON file in it; its keys that `settings` has are compared, further ones are ignored.
        settings: JSON-ready dict that is asked for.
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


@contextmanager
def whole_folder(folder):
    """Context that yields an empty folder beside `folder`, which takes its place when everything went well."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    temporary = folder.parent / f".{folder.name}.building-{os.getpid()}"
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(folder):
    """Delete what killed runs have left beside `folder`; a name ends with the process that writes it."""
    for leftover in folder.parent.glob(f".{folder.name}.building-*"):
        try:
            os.kill(int(leftover.name.rpartition("-")[2]), 0)  # signal 0 only asks whether the process is there
        except ProcessLookupError:
            shutil.rmtree(leftover, ignore_errors=True)
        except (ValueError, PermissionError):
            continue
