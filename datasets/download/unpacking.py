"""Unpacking zip and tar archives from strangers: every name is checked before the first byte is written.

Refused: absolute and upward paths, links, devices, encrypted members, two members for one place, more bytes than fit.
The libraries are asked for contents only, never for paths, modes or links. Standard library only.
"""

import contextlib
import filecmp
import fnmatch
import functools
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib

from oscar_paddle.config.errors import DataError

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def unpack(archive, folder, route=lambda name: name):
    """Unpacks a .zip, .tar or compressed .tar (told apart by content); files that are there already stay as they are.

    Args:
        archive, folder: paths; the folder is made if need be.
        route: member name -> place below the folder, or None to leave the member out.
    Returns:
        {place: bytes} of what is there as in the archive, and [place] of what was there already and differs.
    Raises:
        DataError: the archive is damaged or holds what is refused (then nothing has been written), or the disk is
            full or not writable. Files are complete or not there.
    """
    own, kept = {}, []
    try:
        with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
            for place, (name, size, content) in _choose(archive, _members(opened), folder, route).items():
                if _write(f"{archive}: member {name!r}", size, content, os.path.join(folder, place)):
                    own[place] = size
                else:
                    kept.append(place)
    except _DAMAGE as error:
        what = (str(error) or type(error).__name__).partition("\n")[0]
        raise DataError(f"{archive}: damaged, cut short or no archive ({what}); delete it to fetch it again") from None
    except OSError as error:
        raise DataError(f"{error.filename or archive}: cannot unpack: {error.strerror or error}") from None
    return own, kept


def place_of(file, name):
    """Where a member of an official archive belongs, below the target folder; None for litter.

    The archives' inner folders were not published, so the name counts from below the folder that is called like the
    archive, or from the top where there is none: `coco_ir/train_captions.pt` and `train_captions.pt` are the same.
    """
    parts = name.split("/")
    if {"__MACOSX", ".DS_Store"}.intersection(parts):
        return None
    stem = os.path.splitext(os.path.basename(file.place))[0]
    while stem in parts[:-1]:
        parts = parts[parts.index(stem) + 1 :]
    folder = next(folder for pattern, folder in file.routes if fnmatch.fnmatchcase(parts[-1], pattern))
    return f"{folder}/{'/'.join(parts)}"


def _members(opened):
    """(name, size, what is wrong with it, function that opens it or None for a folder) of every member."""
    if isinstance(opened, tarfile.TarFile):
        for info in opened:
            wrong = "" if info.isreg() or info.isdir() else "a link, a device or a pipe"
            yield info.name, info.size, wrong, None if info.isdir() else functools.partial(opened.extractfile, info)
        return
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive comes from a system without modes
        wrong = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link, a device or a pipe"
        wrong = "encrypted" if info.flag_bits & 0x1 else wrong
        # zipfile's own name is already mended (cut at a NUL, for example); judge what stands in the file.
        content = None if info.is_dir() else functools.partial(opened.open, info)
        yield info.orig_filename, info.file_size, wrong, content


def _choose(archive, members, folder, route):
    """{place: (name, size, content)} of all files that are wanted; raises at the first member that is refused."""
    chosen, needed, free = {}, 0, free_space(folder)
    for name, size, wrong, content in members:
        parts = re.split(r"[/\\]", name)  # on some systems a backslash separates
        if not name or "\0" in name:
            wrong = "without a name or with a NUL in it"
        elif parts[0] == "" or re.match(r"[A-Za-z]:", name) or ".." in parts:
            wrong = "an absolute path or leads upwards"
        place = route(os.path.normpath(name)) if content and not wrong else None
        if place in chosen:
            wrong = f"for the place of {chosen[place][0]!r}, {place}"
        if wrong:
            raise DataError(f"{archive}: member {name!r} is {wrong}; expected a plain file; nothing was unpacked")
        if place is not None:
            chosen[place] = name, size, content
            needed += 0 if os.path.exists(os.path.join(folder, place)) else size
    if needed > free:
        room = f"{show_size(needed)} to unpack, but {folder} has {show_size(free)} free"
        raise DataError(f"{archive}: {room}; nothing was unpacked")
    return chosen


def _write(where, size, content, path):
    """Unpacks one member to a path; False if another file is there already, which then stays."""
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with content() as source, open(part, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        if (have := size_of(part)) != size:
            raise DataError(f"{where} has {have} bytes; expected {size}")
        if os.path.lexists(path):
            return os.path.isfile(path) and filecmp.cmp(part, path, shallow=False)
        os.replace(part, path)
        return True
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)


def size_of(path):
    """Bytes of a file; 0 where there is none."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def free_space(folder):
    """Bytes free on the disk of a folder, which need not exist yet."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def show_size(num_bytes):
    """A number of bytes for people: 1234567 -> "1.23 MB"."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= unit * 0.9995:
            return f"{num_bytes / unit:.3g} {name}" if num_bytes < 999.5 * unit else f"{num_bytes / unit:.0f} {name}"
    return f"{num_bytes} bytes"
