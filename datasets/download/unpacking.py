"""Downloaded archives to the places that the settings expect; remembers what came out, so that nothing is done twice.

Standard library only, so that the downloader runs before anything is installed.
"""

import fnmatch
import json
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.download.archives import unpack

_JUNK = {"__MACOSX", ".DS_Store"}


def unpack_item(item, target, on_bytes, keep_archive=False):
    """Unpacks a downloaded archive and removes it.

    Args:
        item: Item of the plan; its archive is at `item.path`.
        target: folder that places are relative to.
        on_bytes: called with the bytes unpacked so far and the total.
        keep_archive: leave the archive where it is.
    Returns:
        list of Unpacked.
    Raises:
        DataError: the archive is damaged, unsafe, does not fit, or lacks what it should hold.
    """
    members = unpack(item.path, target, lambda name: place_of(item.file, name), on_bytes)
    missing = [place for place in item.file.expects if not os.path.isfile(os.path.join(target, place))]
    if missing:
        raise DataError(f"{item.path}: unpacked, but it did not hold {', '.join(missing)}")
    # "kept" files may be changed by their owner later; only what is the archive's own is worth a comparison.
    own = {member.place: member.size for member in members if member.state != "kept"}
    record = _record(item)
    with open(record + ".part", "w", encoding="utf-8") as file:
        json.dump({"address": item.address, "files": own}, file, indent=1)
    os.replace(record + ".part", record)
    if not keep_archive:
        os.remove(item.path)
    return members


def is_unpacked(item, target):
    """Whether everything that came out of an archive is still in place, with its size."""
    try:
        with open(_record(item), encoding="utf-8") as file:
            files = json.load(file)["files"]
        sizes_fit = all(os.path.getsize(os.path.join(target, place)) == size for place, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return sizes_fit and all(os.path.isfile(os.path.join(target, place)) for place in item.file.expects)


def place_of(file, name):
    """Where a member of an official archive belongs, below the target folder; None for litter.

    The archives' inner folders were not published, so the name counts from below the folder that is called like the
    archive, or from the top where there is none: `coco_ir/train_captions.pt` and `train_captions.pt` are the same.
    """
    parts = name.split("/")
    if _JUNK.intersection(parts):
        return None
    stem = os.path.splitext(os.path.basename(file.place))[0]
    while stem in parts[:-1]:
        parts = parts[parts.index(stem) + 1 :]
    folder = next(folder for pattern, folder in file.routes if fnmatch.fnmatchcase(parts[-1], pattern))
    return f"{folder}/{'/'.join(parts)}"


def _record(item):
    return item.path + ".unpacked.json"
