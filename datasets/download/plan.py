"""Which official files a download brings, from where, to where, whether they fit, and what their sums must be.

Standard library only, so that the downloader runs before anything is installed.
"""

import fnmatch
import os
import pathlib
import re
import shutil
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import url2pathname

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.download.official_files import FILES, PARTS, STORAGE, OfficialFile
from oscar_paddle.datasets.download.progress import show_size


class UsageError(UserError):
    """An argument of the command is wrong."""

    exit_code = 2


@dataclass
class Item:
    """One file of a download.

    Attributes:
        file: its row in the table of official files.
        address: where it comes from.
        path: where it goes.
        sha256: what it must have; None = not known.
        size: bytes as the server says; None = not known (yet).
        problem: the DownloadError that came instead of a size; None = none.
    """

    file: OfficialFile
    address: str
    path: str
    sha256: str | None = None
    size: int | None = None
    problem: UserError | None = None


def make_plan(parts, target, mirror=None, only=(), checksums=None, files=FILES):
    """The files of some parts.

    Args:
        parts: keys of PARTS.
        target: folder they go to.
        mirror: what replaces STORAGE in every address: http(s)://..., file:///... or a folder; None = STORAGE.
        only: shell patterns; keep files of which one matches the place (or, for an archive, the folder it fills).
        checksums: path of a file as `sha256sum` writes it, names relative to the target or to the storage.
    Returns:
        list of Item, in the table's order.
    Raises:
        UsageError: an unknown part, a mirror or checksum file that cannot be used, nothing left to fetch.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise UsageError(f"--what {unknown[0]}: no such part; expected one or more of {', '.join(PARTS)}")
    if os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"--target {target}: is a file; expected a folder")
    prefix = mirror_prefix(mirror) if mirror else STORAGE
    chosen = [file for file in files if file.part in parts and (not only or _matches(file, only))]
    if not chosen:
        raise UsageError(f"--only {' '.join(only)}: matches none of the files of --what {' '.join(parts)}")
    items = [Item(file, f"{prefix}/{file.address}", os.path.join(target, file.place)) for file in chosen]
    if checksums:
        _add_checksums(items, checksums)
    return items


def mirror_prefix(mirror):
    """A mirror as an address without a slash at its end; a folder becomes a file: address."""
    scheme = urlsplit(mirror).scheme
    if scheme in ("http", "https") and urlsplit(mirror).hostname:
        return mirror.rstrip("/")
    folder = pathlib.Path(url2pathname(urlsplit(mirror).path) if scheme == "file" else mirror)
    if scheme in ("", "file"):
        if not folder.is_dir():
            raise UsageError(f"--mirror {mirror}: no such folder; expected http(s)://..., file:///... or a folder")
        return mirror.rstrip("/") if scheme else folder.resolve().as_uri()
    raise UsageError(f"--mirror {mirror}: expected http(s)://..., file:///... or a folder")


def _matches(file, patterns):
    places = [file.place, file.address, *(folder for _, folder in file.routes), *file.expects]
    return any(fnmatch.fnmatchcase(place, pattern) for place in places for pattern in patterns)


def read_checksums(path):
    """A file as `sha256sum` writes it -> {name: 64 hex digits}.

    Raises:
        UsageError: it cannot be read; or a line (named, from 1) is not `<64 hex digits>  <name>`, or contradicts
            an earlier one.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--checksums {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    sums = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"([0-9a-fA-F]{64})[ \t][ \t*]?(.+?)\s*", line)
        if not found:
            raise UsageError(f"--checksums {path} line {number}: {line[:80]!r}; expected 64 hex digits and a name")
        name = re.sub(r"^(\./)+", "", found[2])
        if sums.setdefault(name, found[1].lower()) != found[1].lower():
            raise UsageError(f"--checksums {path} line {number}: a second, different sum of {name}")
    return sums


def _add_checksums(items, path):
    sums = read_checksums(path)
    for item in items:
        item.sha256 = sums.get(item.file.place) or sums.get(item.file.address)
    if not any(item.sha256 for item in items):
        first = items[0].file
        raise UsageError(
            f"--checksums {path}: names none of the files to fetch; expected names like {first.place} "
            f"(below the target folder) or {first.address}"
        )


def check_room(items, target):
    """Whether what is still to come fits on the disk; archives count twice, for what comes out of them.

    Returns:
        (bytes needed at least, bytes free, number of files of unknown size).
    Raises:
        UserError: it does not fit.
    """
    folder = os.path.abspath(target)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    sizes = [(item, item.size or item.file.about) for item in items]
    needed = sum(_still_to_come(item, size) for item, size in sizes if size)
    if needed > free:
        raise UserError(
            f"{target}: {show_size(needed)} needed for what is still to come, but only {show_size(free)} free; "
            "choose another --target, or fewer parts with --what or --only"
        )
    return needed, free, sum(not size for _, size in sizes)


def _still_to_come(item, size):
    done = 0
    for path in (item.path, item.path + ".part"):
        if os.path.isfile(path):
            done = min(size, os.path.getsize(path))
            break
    # Zipped float32 values shrink little, so an archive's content takes at least the archive's size again.
    return size - done + (size if item.file.routes else 0)
