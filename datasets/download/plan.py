"""Which official files a download brings, from where, to where, and what their sums must be. Standard library only."""

import fnmatch
import glob
import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.download.official_files import FILES, STORAGE, OfficialFile
from oscar_paddle.datasets.download.unpacking import size_of


class UsageError(UserError):
    """An argument of the command is wrong."""

    exit_code = 2


@dataclass
class Item:
    """One file of a download: its row in the table of official files, and what is known about it."""

    file: OfficialFile
    target: str  # folder that places are relative to
    address: str
    sha256: str | None = None
    size: int | None = None  # bytes as the server says; None = not known (yet)
    version: str = ""  # ETag or date as the server says
    problem: UserError | None = None  # what came instead of a size

    def __post_init__(self):
        self.path = os.path.join(self.target, self.file.place)
        self.record = self.path + ".unpacked.json"  # what came out of an archive: {"files": {place: bytes}}

    @property
    def part(self):
        """Where the file grows: another place for another size, version or address, as two must never be mixed."""
        marks = [f"{zlib.crc32(text.encode()):08x}" for text in (self.version, self.address)]
        return f"{self.path}.{'-'.join([str(self.size), *marks])}.part"

    def take_over(self):
        """Goes on with what another mirror has given of a file of this size; removes other parts."""
        for old in glob.glob(f"{glob.escape(self.path)}.*-*-*.part"):
            size, _, address = old.removesuffix(".part").rpartition(".")[2].split("-")
            if self.size and size == str(self.size) and not self.part.endswith(f"-{address}.part"):
                os.replace(old, self.part)
            elif old != self.part:
                os.remove(old)

    def settled(self):
        """Whether nothing needs to be fetched: the file, or all that came out of the archive, is in place."""
        if not self.file.routes:
            return os.path.exists(self.path)
        try:
            files = json.loads(Path(self.record).read_text(encoding="utf-8"))["files"]
            return all(os.path.getsize(os.path.join(self.target, place)) == size for place, size in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def to_come(self):
        """Bytes still needed, at least; 0 where nothing tells."""
        size = self.size or self.file.about or 0
        # Zipped float32 values shrink little, so an archive's content takes at least the archive's size again.
        return size - min(size, size_of(self.path) or size_of(self.part)) + size * bool(self.file.routes)


def make_plan(parts, target, mirror=None, only=(), checksums=None):
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
        UsageError: a target, mirror or checksum file that cannot be used, nothing left to fetch.
    """
    if os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"--target {target}: is a file; expected a folder")
    prefix = _prefix(mirror) if mirror else STORAGE
    items = [Item(file, target, f"{prefix}/{file.address}") for file in FILES if file.part in parts]
    items = [item for item in items if not only or _matches(item.file, only)]
    if not items:
        raise UsageError(f"--only {' '.join(only)}: matches none of the files of --what {' '.join(parts)}")
    if checksums:
        sums = _read_checksums(checksums)
        for item in items:
            item.sha256 = sums.get(item.file.place) or sums.get(item.file.address)
        if not any(item.sha256 for item in items):
            names = f"{items[0].file.place} (below the target folder) or {items[0].file.address}"
            raise UsageError(f"--checksums {checksums}: names none of the files to fetch; expected names like {names}")
    return items


def _prefix(mirror):
    """A mirror as an address without a slash at its end; a folder becomes a file: address."""
    parts, expected = urlsplit(mirror), "expected http(s)://..., file:///... or a folder"
    if parts.scheme in ("http", "https") and parts.hostname:
        return mirror.rstrip("/")
    if parts.scheme not in ("", "file"):
        raise UsageError(f"--mirror {mirror}: {expected}")
    folder = Path(unquote(parts.path) if parts.scheme else mirror)
    if not folder.is_dir():
        raise UsageError(f"--mirror {mirror}: no such folder; {expected}")
    return folder.resolve().as_uri()


def _matches(file, patterns):
    places = [file.place, file.address, *(folder for _, folder in file.routes), *file.expects]
    return any(fnmatch.fnmatchcase(place, pattern) for place in places for pattern in patterns)


def _read_checksums(path):
    """A file as `sha256sum` writes it -> {name: 64 hex digits}."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--checksums {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    sums = {}
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"([0-9a-fA-F]{64})[ \t][ \t*]?(?:\./)*(.+?)\s*", line)
        if not found and line.strip() and not line.startswith("#"):
            raise UsageError(f"--checksums {path} line {number}: {line[:80]!r}; expected 64 hex digits and a name")
        if found and sums.setdefault(found[2], found[1].lower()) != found[1].lower():
            raise UsageError(f"--checksums {path} line {number}: a second, different sum of {found[2]}")
    return sums
