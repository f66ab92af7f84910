"""Unpacking zip archives from strangers: every name is checked before the first byte is written. Standard library only.

Refused: absolute and upward paths, links, devices, encrypted members, two members for one place, more bytes than fit.
"""

import filecmp
import fnmatch
import lzma
import os
import re
import shutil
import stat
import zipfile
import zlib

from oscar_paddle.config.errors import DataError


def unpack(archive, folder, routes=(("*", "{path}"),)):
    """Unpacks a .zip file; files that are there already stay as they are, others are complete or not there.

    Args:
        routes: (pattern, place below the folder) in order; {path} in a place is the member's name below the inner
            folder that is called like the archive, or from the top where there is none; {name} its last part.
    Returns:
        {place: bytes} of what is there as in the archive, and [place] of what was there already and differs.
    Raises:
        DataError: damaged, or holds what is refused (then nothing has been written); disk full or not writable.
    """
    own, kept, growing = {}, [], os.path.join(folder, ".unpacking")
    try:
        os.makedirs(folder, exist_ok=True)
        with zipfile.ZipFile(archive) as opened:
            for place, info in _choose(opened.infolist(), archive, folder, routes).items():
                with opened.open(info) as source, open(growing, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                if os.path.getsize(growing) != info.file_size:
                    raise zipfile.BadZipFile(f"not the {info.file_size} bytes of {place}")
                path = os.path.join(folder, place)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if os.path.lexists(path) and not (os.path.isfile(path) and filecmp.cmp(growing, path, shallow=False)):
                    kept.append(place)
                else:
                    os.replace(growing, path)
                    own[place] = info.file_size
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive}: damaged, cut short or no archive ({error}); delete it to fetch it again") from None
    except OSError as error:
        raise DataError(f"{error.filename or archive}: cannot unpack: {error.strerror or error}") from None
    finally:
        if os.path.lexists(growing):
            os.remove(growing)
    return own, kept


def _choose(members, archive, folder, routes):
    """{place: ZipInfo} of all files that are wanted; raises at the first member that is refused."""
    chosen, needed, free = {}, 0, shutil.disk_usage(folder).free
    stem = os.path.splitext(os.path.basename(archive))[0]
    for info in members:
        # zipfile's own name is already mended (cut at a NUL, for example); judge what stands in the file.
        name, kind, wrong, place = info.orig_filename, stat.S_IFMT(info.external_attr >> 16), "", None
        parts = re.split(r"[/\\]", name)  # on some systems a backslash separates
        if "\0" in name or not parts[0] or re.match("[A-Za-z]:", name) or ".." in parts:
            wrong = "absolute, leads upwards or holds a NUL"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):  # 0: from a system without modes
            wrong = "a link, a device or a pipe"
        elif info.flag_bits & 1:
            wrong = "encrypted"
        elif not info.is_dir() and "__MACOSX" not in parts:
            while stem in parts[:-1]:
                parts = parts[parts.index(stem) + 1 :]
            path = "/".join(parts)
            place = next((place for pattern, place in routes if fnmatch.fnmatchcase(path, pattern)), None)
        if place is not None:
            place = os.path.normpath(place.format(path=path, name=parts[-1]))
            wrong = f"for the place of {chosen[place].filename!r}, {place}" if place in chosen else ""
            chosen[place] = info
            needed += 0 if os.path.exists(os.path.join(folder, place)) else info.file_size
        if wrong:
            raise DataError(f"{archive}: member {name!r} is {wrong}; expected a plain file; nothing was unpacked")
    if needed > free:
        raise DataError(f"{archive}: {needed} bytes to unpack, but {folder} has {free} free; nothing was unpacked")
    return chosen
