"""What joins the files of a prepared data set: `image_names.json`, written by prepare.py.

It maps image ids to names of pictures, and says under "sources" of each split what it was made of:

    {"17": "photo_17.jpg", ..., "sources": {"val": {"annotations": path from this folder, "digest": of that file,
                                                    "captions": digest of the captions, "command": what made them}}}
"""

import hashlib
import json
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_json, reading

NAMES_FILE = "image_names.json"
OTHER_LISTS = (
    "these candidates were chosen for other captions than those of split {split!r}; make both again: "
    "tools/prepare_captions.py --overwrite"
)
_PARTS = {"annotations", "digest", "captions", "command"}


def read_names_file(data_dir):
    """({image id: name of the picture's file}, {split: its source}) of `image_names.json`; ({}, {}) without the file.

    Raises:
        DataError: the file does not hold them.
    """
    path = os.path.join(data_dir, NAMES_FILE)
    if not os.path.isfile(path):
        return {}, {}
    names = read_json(path)
    sources = names.pop("sources", {}) if isinstance(names, dict) else None
    if sources is None or not all(key.isdigit() and isinstance(name, str) for key, name in names.items()):
        raise DataError(f"{path}: expected an object image id -> name of the picture's file")
    if not isinstance(sources, dict) or not all(isinstance(s, dict) and s.keys() >= _PARTS for s in sources.values()):
        raise DataError(f"{path}: 'sources' is damaged; make the file again: tools/prepare_captions.py --overwrite")
    return {int(image_id): name for image_id, name in names.items()}, sources


def source_of(annotations, folder, captions, command):
    """What `image_names.json` in a folder keeps of a split: dict of str."""
    path = os.path.relpath(annotations, folder)
    return dict(annotations=path, digest=_file_digest(annotations), captions=captions_digest(captions), command=command)


def why_stale(data_dir, split, captions):
    """What speaks against the prepared captions of a split, a text that names the remedy; None where nothing does.

    Args:
        captions: image id -> captions, as they were read.
    Raises:
        DataError: `image_names.json` cannot be read.
    """
    source = read_names_file(data_dir)[1].get(split)
    if source is None:
        return None
    file, again = f"{split}_captions.pt", f"make both again: {source['command']} --overwrite"
    annotations = os.path.normpath(os.path.join(data_dir, source["annotations"]))
    if captions_digest(captions) != source["captions"]:
        return f"{file} holds other captions than those whose pictures {NAMES_FILE} names; {again}"
    if os.path.isfile(annotations) and _file_digest(annotations) != source["digest"]:
        return f"{annotations} has changed since {file} was made of it; {again}"
    return None


def captions_digest(captions):
    """Hex digest of the captions (image id -> list of str) of a split, whatever their order."""
    text = json.dumps(sorted(captions.items()))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _file_digest(path):
    with reading(path), open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=16).hexdigest()
