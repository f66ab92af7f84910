"""Captions of one's own pictures: a JSONL file, or a `dataset_*.json` of Karpathy's, as it is.

JSONL, a line for each picture (or for each caption; lines of one picture are joined):

    {"image": "dog.jpg", "captions": ["A dog runs.", "A brown dog."], "split": "train"}

`"id"` may give the image id, an integer. Without it the name's digits are the id, if every name is digits only
(Flickr30k), and otherwise the picture's number in the file, from 1. In Karpathy's files the id is `cocoid`, or else
chosen like this, with `imgid` in place of the number; the split `restval` counts as `train`, as everybody has it.
"""

import glob
import json
import os
from dataclasses import dataclass

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.datasets.formats.reading import read_json, read_text
from oscar_paddle.datasets.regions.source import stem

NAMES_FILE = "image_names.json"


@dataclass
class Picture:
    """A picture of an annotation file: its id, file name, split, captions, and where it stands, for messages."""

    image_id: int | None
    name: str
    split: str
    where: str
    captions: list
    number: int  # its place in the file, or Karpathy's imgid


def read_split_captions(data_dir, split):
    """The captions of a split: `{split}_captions.pt` (or `.pd`), or else those in the folder's annotation file.

    Arguments, result and errors are those of `read_captions`.
    """
    path = find_annotations(data_dir)
    published = os.path.join(str(data_dir), f"{split}_captions")
    if path is None or os.path.isfile(published + ".pt") or os.path.isfile(published + ".pd"):
        return read_captions(data_dir, split)
    splits = {}
    for picture in read_annotations(path):
        splits.setdefault(picture.split, {})[picture.image_id] = picture.captions
    if split not in splits:
        found = ", ".join(f"{name} ({len(captions)} images)" for name, captions in splits.items())
        hint = "; tools/prepare_captions.py makes a minival of val" if split == "minival" and "val" in splits else ""
        raise DataError(f"{path}: has no split {split!r}; it has {found}{hint}")
    return splits[split]


def read_names(data_dir):
    """Names of the pictures' files: image id -> name, from `image_names.json` or the annotation file; {} without.

    Raises:
        DataError: the file does not hold them.
    """
    path = os.path.join(str(data_dir), NAMES_FILE)
    if os.path.isfile(path):
        names = read_json(path)
        if not isinstance(names, dict) or not all(k.isdigit() and isinstance(v, str) for k, v in names.items()):
            raise DataError(f"{path}: expected an object image id -> name of the picture's file")
        return {int(image_id): name for image_id, name in names.items()}
    path = find_annotations(data_dir)
    return {} if path is None else {picture.image_id: picture.name for picture in read_annotations(path)}


def find_annotations(data_dir):
    """The path of the folder's one annotation file (`*.jsonl` or `dataset*.json`), or None.

    Raises:
        DataError: there are several.
    """
    folder = glob.escape(str(data_dir))
    found = [path for name in ("*.jsonl", "dataset*.json") for path in sorted(glob.glob(os.path.join(folder, name)))]
    if len(found) > 1:
        raise DataError(f"{' and '.join(found[:3])}: expected one file with captions")
    return found[0] if found else None


def read_annotations(path):
    """The pictures of a JSONL or Karpathy file, in its order: list of `Picture`, each with an id and captions.

    Raises:
        DataError: no such file, or not such a file; names the line or picture.
    """
    pictures = _karpathy(path) if str(path).endswith(".json") else _jsonl(path)
    if not pictures:
        raise DataError(f"{path}: no pictures")
    _give_ids(pictures)
    seen = {}
    for picture in pictures:
        first = seen.setdefault(picture.image_id, picture)
        if first is not picture:
            raise DataError(f"{picture.where}: the image id {picture.image_id} is already that of {first.name!r}")
        if not picture.captions:
            raise DataError(f"{picture.where} ({picture.name}): no captions")
    return pictures


def _jsonl(path):
    pictures = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: malformed JSON ({error})") from None
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected an object with 'image', 'captions' and 'split'")
        name, split = _word(entry, "image", where), _word(entry, "split", where)
        captions, image_id = entry.get("captions", entry.get("caption")), _identity(entry, "id", where)
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list):
            raise DataError(f"{where} ({name}): expected a list of captions")
        picture = pictures.setdefault(name, Picture(image_id, name, split, where, [], len(pictures) + 1))
        if (picture.split, picture.image_id) != (split, image_id):
            raise DataError(f"{where}: {name!r} has another split or id in {picture.where}")
        picture.captions += _checked_captions(captions, f"{where} ({name})")
    return list(pictures.values())


def _karpathy(path):
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path}: expected Karpathy's JSON, an object with a list 'images'")
    pictures = []
    for number, image in enumerate(images, start=1):
        where = f"{path} picture {number}"
        if not isinstance(image, dict) or not isinstance(image.get("sentences"), list):
            raise DataError(f"{where}: expected an object with 'filename', 'split' and 'sentences'")
        name, split = _word(image, "filename", where), _word(image, "split", where)
        captions = _checked_captions(map(_sentence, image["sentences"]), f"{where} ({name})")
        image_id, imgid = _identity(image, "cocoid", where), _identity(image, "imgid", where)
        split = "train" if split == "restval" else split
        pictures.append(Picture(image_id, name, split, where, captions, number if imgid is None else imgid))
    return pictures


def _give_ids(pictures):
    """Ids for pictures without: digits of all names, or else numbers (see the top of the file)."""
    without = [picture for picture in pictures if picture.image_id is None]
    if 0 < len(without) < len(pictures):
        raise DataError(f"{without[0].where} ({without[0].name}): no image id, but other pictures have one")
    stems = (stem(picture.name) for picture in pictures)
    all_digits = all(text.isascii() and text.isdigit() and len(text) < 19 for text in stems)
    for picture in without:
        picture.image_id = int(stem(picture.name)) if all_digits else picture.number


def _sentence(sentence):
    """The text of one of Karpathy's sentences, or what is there in its place."""
    if not isinstance(sentence, dict):
        return sentence
    tokens = sentence.get("tokens")
    is_text = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    return sentence.get("raw", " ".join(tokens) if is_text else None)


def _checked_captions(captions, where):
    checked = []
    for number, text in enumerate(captions, start=1):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: caption {number} is {'empty' if isinstance(text, str) else 'no text'}")
        checked.append(" ".join(text.split()))
    return checked


def _word(entry, key, where):
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key!r} is {value!r:.40}; expected text" if key in entry else f"{where}: no {key!r}")
    return value.strip()


def _identity(entry, key, where):
    value = entry.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise DataError(f"{where}: {key!r} is {str(value)[:40]!r}; expected an integer from 0 on")
    return value
