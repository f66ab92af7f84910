"""The files of captioning as published: a YAML of names, captions as JSON, references in COCO's form.

`train.yaml` and its like hold names of files, absolute or relative to the YAML's folder:

    feature: train.feature.tsv    label: train.label.tsv    caption: train_caption.json
    cbs_box, cbs_constraint, cbs_tokenforms, cbs_hierarchy: of constrained search (NoCaps)

`img` and `hw` are there, too, and name what is in no download; nothing reads them. Source: docs/reference.md, caption
files.
"""

import os

import yaml

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_json, read_text
from oscar_paddle.datasets.regions.source import image_key

KEYS = ("feature", "label", "caption", "cbs_box", "cbs_constraint", "cbs_tokenforms", "cbs_hierarchy")
UNREAD = ("img", "hw")
# Arguments of `Constraints` -> their keys.
CBS_KEYS = {"boxes": "cbs_box", "pieces": "cbs_constraint", "forms": "cbs_tokenforms", "hierarchy": "cbs_hierarchy"}


def is_yaml(split):
    """Whether a split is named by one of these files."""
    return split.endswith((".yaml", ".yml"))


def read_caption_yaml(path):
    """{key: path} of the files that a YAML names; "" where it names none.

    Raises:
        DataError: no such file, not a YAML of names, a key that is unknown, or none for the features.
    """
    try:
        content = yaml.safe_load(read_text(path, "; it names the files of a split (DATASET.TRAIN, DEV, TEST)"))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected names of files: {', '.join(KEYS)}")
    for key, value in content.items():
        if key not in KEYS + UNREAD:
            raise DataError(f"{path}: {key} is unknown; expected some of {', '.join(KEYS + UNREAD)}")
        if value is not None and not isinstance(value, str):
            raise DataError(f"{path}: {key} is {value!r:.40}; expected the name of a file")
    if not content.get("feature"):
        raise DataError(f"{path}: names no 'feature' file; expected the .tsv with the regions")
    folder = os.path.dirname(os.path.abspath(path))
    return {key: os.path.join(folder, content[key]) if content.get(key) else "" for key in KEYS}


def read_caption_list(path):
    """`*_caption.json`: [(image id, caption, where it stands), ...] in the order of the file.

    Raises:
        DataError: no such file, another content, or a caption without a letter; names the entry.
    """
    content = read_json(path, "; it holds the captions")
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: expected a list of objects with image_id and caption")
    return [caption_entry(entry, f"{path} entry {number}") for number, entry in enumerate(content, start=1)]


def references_file(caption_path):
    """Path of the `*_caption_coco_format.json` beside a `*_caption.json`, or that itself where there is none."""
    stem, _ = os.path.splitext(caption_path)
    path = f"{stem}_coco_format.json"
    return path if os.path.isfile(path) else caption_path


def read_references(path):
    """{image id: list of captions} of a file in COCO's form, or of a `*_caption.json`.

    Raises:
        DataError: no such file, another content, or an image of `images` without captions.
    """
    content = read_json(path, "; it holds the captions that people wrote")
    if isinstance(content, list):
        entries = read_caption_list(path)
        images = []
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        annotations = enumerate(content["annotations"], start=1)
        entries = [caption_entry(entry, f"{path} annotation {number}") for number, entry in annotations]
        images = content.get("images") or []
        if not isinstance(images, list):
            raise DataError(f"{path}: 'images' is {str(images)[:40]!r}; expected a list of objects with id")
        images = [image.get("id") for image in images if isinstance(image, dict)]
    else:
        raise DataError(f"{path}: expected COCO's captions, an object with a list 'annotations'")
    found = {}
    for image_id, caption, _ in entries:
        found.setdefault(image_id, []).append(caption)
    for image in images:
        if image_key(image) not in found:
            raise DataError(f"{path}: image {image} has no captions; expected one at least")
    return found


def caption_entry(entry, where):
    """(image id, caption, where it stands) of an object of a caption file; DataError where it is none."""
    image, caption = (entry.get(key) if isinstance(entry, dict) else None for key in ("image_id", "caption"))
    if type(image) not in (int, str) or not isinstance(caption, str):
        raise DataError(f"{where}: {str(entry)[:60]}; expected an object with image_id and caption")
    return image_key(image), caption, where
