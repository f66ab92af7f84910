"""Unpacking zip and tar archives from strangers: every name is checked before the first byte is written.

Refused: absolute and upward paths, links, devices, encrypted members, two members for one place, more bytes than fit.
No link is ever made, so a member cannot be led out of the target folder by an earlier one. Standard library only, so
that the downloader runs before anything is installed.
"""

import contextlib
import functools
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.download.progress import show_size

_CHUNK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


@dataclass(frozen=True)
class Unpacked:
    """A member that has a place in the target folder.

    Attributes:
        name: in the archive.
        place: below the target folder, "/"-separated.
        size: bytes.
        state: "written", "same" (was there already, equal) or "kept" (was there already, different; left alone).
    """

    name: str
    place: str
    size: int
    state: str


def unpack(archive, folder, route=lambda name: name, on_bytes=lambda have, total: None):
    """Unpacks a zip or tar archive; files that are there already are left as they are.

    Args:
        archive: its path; .zip, .tar, .tar.gz, .tar.bz2, .tar.xz, told apart by content.
        folder: where to; created if need be.
        route: member name -> place below the folder, or None to leave the member out.
        on_bytes: called with the bytes unpacked so far and the total.
    Returns:
        list of Unpacked, in archive order, folders left out.
    Raises:
        DataError: the archive is damaged or holds what is refused (then nothing has been written), or the disk is
            full or not writable. Files are complete or not there.
    """
    archive, folder = str(archive), str(folder)
    try:
        with contextlib.closing(_reader(archive)) as reader:
            members = _places(archive, reader.members(), route)
            _check_room(archive, folder, members)
            total, have, done = sum(member.size for member, _ in members), 0, []
            for member, place in members:
                with reader.open(member.entry) as source:
                    report = functools.partial(_report, on_bytes, have, total)
                    state = _write(archive, member, source, os.path.join(folder, place), report)
                done.append(Unpacked(member.name, place, member.size, state))
                have += member.size
            return done
    except _DAMAGE as error:
        what = str(error) or type(error).__name__
        raise DataError(f"{archive}: damaged archive ({what}); delete it to fetch it again") from None


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # "file", "folder", or what it is instead
    entry: object


class _ZipReader:
    def __init__(self, path):
        self._zip = zipfile.ZipFile(path)
        self.close = self._zip.close

    def open(self, info):
        try:
            return self._zip.open(info)
        except OSError as error:  # a damaged offset points before the file
            raise zipfile.BadZipFile(f"member {info.filename!r}: {error.strerror or error}") from None

    def members(self):
        return [self._member(info) for info in self._zip.infolist()]

    @staticmethod
    def _member(info):
        mode = info.external_attr >> 16  # 0 where the archive comes from a system without modes
        kind = "folder" if info.is_dir() else "file"
        if stat.S_ISLNK(mode):
            kind = "a link"
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "a device or a pipe"
        elif info.flag_bits & 0x1:
            kind = "encrypted"
        # zipfile's own name is already mended (cut at a NUL, for example); judge what stands in the file.
        return _Member(info.orig_filename, info.file_size, kind, info)


class _TarReader:
    def __init__(self, path):
        self._tar = tarfile.open(path)  # noqa: SIM115 (unpack closes it)
        self.close, self.open = self._tar.close, self._tar.extractfile

    def members(self):
        return [self._member(info) for info in self._tar.getmembers()]

    @staticmethod
    def _member(info):
        kind = "file" if info.isreg() else "folder" if info.isdir() else "a device or a pipe"
        if info.issym() or info.islnk():
            kind = f"a link to {info.linkname!r}"
        return _Member(info.name, info.size, kind, info)


def _reader(archive):
    if not os.path.isfile(archive):
        raise DataError(f"{archive}: no such file")
    if zipfile.is_zipfile(archive):
        return _ZipReader(archive)
    try:
        return _TarReader(archive)
    except tarfile.ReadError:
        raise DataError(f"{archive}: neither a zip nor a tar archive, or cut short") from None


def _places(archive, members, route):
    """[(member, place)] of all files that are wanted; raises at the first member that must not be unpacked."""
    chosen, taken = [], {}
    for member in members:
        where = f"{archive}: member {member.name!r}"
        if reason := _unsafe(member.name):
            raise DataError(f"{where} {reason}; nothing was unpacked")
        if member.kind not in ("file", "folder"):
            raise DataError(f"{where} is {member.kind}; expected a plain file; nothing was unpacked")
        place = route(member.name) if member.kind == "file" else None
        if place is None:
            continue
        if reason := _unsafe(place):  # a route that was led astray
            raise DataError(f"{where}: place {place!r} {reason}; nothing was unpacked")
        place = os.path.normpath(place)
        if place in taken:
            raise DataError(f"{where} has the place of {taken[place]!r}, {place}; nothing was unpacked")
        taken[place] = member.name
        chosen.append((member, place))
    return chosen


def _unsafe(name):
    """Why a name must not be unpacked, or "". A backslash counts as a separator: on some systems it is one."""
    parts = re.split(r"[/\\]", name)
    if not name or "\0" in name:
        return "has an empty name or a NUL in its name"
    if parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    if ".." in parts:
        return "leads upwards"
    return ""


def _report(on_bytes, before, total, have):
    on_bytes(before + have, total)


def _check_room(archive, folder, members):
    there = os.path.abspath(folder)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    sizes = {place: member.size for member, place in members}
    needed = sum(size for place, size in sizes.items() if not os.path.exists(os.path.join(folder, place)))
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DataError(
            f"{archive}: {show_size(needed)} to unpack, but {folder} has {show_size(free)} free; nothing was unpacked"
        )


def _write(archive, member, source, path, report):
    """Writes one member through a `.part` file; returns its state."""
    if os.path.lexists(path):
        return "same" if _equal(source, member.size, path) else "kept"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "wb") as out:
            have = 0
            while chunk := source.read(_CHUNK):
                out.write(chunk)
                have += len(chunk)
                report(have)
            out.flush()
            os.fsync(out.fileno())
        if have != member.size:
            raise DataError(f"{archive}: member {member.name!r} has {have} bytes; expected {member.size}")
        os.replace(path + ".part", path)
    except OSError as error:
        raise DataError(f"{path}: cannot unpack {member.name!r}: {error.strerror or error}") from None
    finally:
        if os.path.exists(path + ".part"):
            os.remove(path + ".part")
    return "written"


def _equal(source, size, path):
    if not os.path.isfile(path) or os.path.getsize(path) != size:
        return False
    with open(path, "rb") as file:
        while chunk := source.read(_CHUNK):
            if file.read(len(chunk)) != chunk:
                return False
    return True
