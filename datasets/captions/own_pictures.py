"""Captions of one's own pictures: a JSONL file, or a `dataset_*.json` of Karpathy's, as it is; for tools/
prepare_captions.py also COCO's own `captions_*.json` and the `.token` files of Flickr30k and Flickr8k.

JSONL, a line for each picture (or for each caption; lines of one picture are joined):

    {"image": "dog.jpg", "captions": ["A dog runs.", "A brown dog."], "split": "train"}

`"id"` may give the image id, an integer. Without it the name's digits are the id, if every name is digits only
(Flickr30k), and otherwise the picture's number in the file, from 1. In Karpathy's files the id is `cocoid`, or else
chosen like this, with `imgid` in place of the number; the split `restval` counts as `train`, as everybody has it.
"""

import glob
import json
import logging
import os
import re
from dataclasses import dataclass

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.prepared import NAMES_FILE, read_names_file, why_stale
from oscar_paddle.datasets.captions.published import published_file, read_captions
from oscar_paddle.datasets.formats.reading import read_json, read_text
from oscar_paddle.datasets.regions.source import stem

log = logging.getLogger(__name__)
_NO_SPLIT = "this file does not say which split its pictures are in; name it with --split (train, val, test)"


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
    if os.path.isfile(data_dir):
        raise DataError(
            f"{data_dir}: is a file; DATASET.DATA_DIR is the folder that holds it (as {split}_captions.pt, *.jsonl or "
            "dataset_*.json), or that tools/prepare_captions.py --annotations FILE writes"
        )
    path = None if published_file(data_dir, split) else find_annotations(data_dir)
    if path is None:
        captions = read_captions(data_dir, split, _foreign_files(data_dir))
        if stale := why_stale(data_dir, split, captions):
            log.warning("%s: %s", data_dir, stale)
        return captions
    splits = {}
    for picture in read_annotations(path):
        splits.setdefault(picture.split, {})[picture.image_id] = picture.captions
    if split not in splits:
        found = ", ".join(f"{name} ({len(captions)} images)" for name, captions in splits.items())
        hint = "; tools/prepare_captions.py makes a minival of val" if split == "minival" and "val" in splits else ""
        raise DataError(f"{path}: has no split {split!r}; it has {found}{hint}")
    return splits[split]


def read_names(data_dir, split=""):
    """Names of the pictures' files: image id -> name, from `image_names.json` or the annotation file; {} without.

    Args:
        split: one that has no published captions has its names where its captions are, in the annotation file.
    Raises:
        DataError: the file does not hold them.
    """
    prepared = os.path.isfile(os.path.join(data_dir, NAMES_FILE))
    if prepared and (not split or published_file(data_dir, split) or not find_annotations(data_dir)):
        return read_names_file(data_dir)[0]
    if published_file(data_dir, split) and len(_annotation_files(data_dir)) > 1:
        return {}  # which of them belongs to these captions is not known
    path = find_annotations(data_dir)
    return {} if path is None else {picture.image_id: picture.name for picture in read_annotations(path)}


class SharedFeatures(DataError):
    """Two pictures lead to one file of features."""


def use_names(regions, names, annotations):
    """Let a RegionSource find its images by the names of their pictures (image id -> name), if its files have them.

    Args:
        annotations: the file that the names are from, or the folder that it may be in, for the message.
    Raises:
        SharedFeatures: two pictures lead to one file or row; names the lines of both.
    """
    try:
        regions.use_names(names)
    except DataError as error:
        seen, lines = {}, ""
        files = [annotations] if os.path.isfile(annotations) else _annotation_files(annotations)
        for picture in read_annotations(files[0]) if len(files) == 1 else ():
            first = seen.setdefault(stem(picture.name), picture)
            if first is not picture:
                lines = f" ({os.path.basename(first.where)}; {os.path.basename(picture.where)})"
                break
        raise SharedFeatures(f"{error}{lines}") from None


def find_annotations(data_dir):
    """The path of the folder's one annotation file (`*.jsonl` or `dataset*.json`), or None.

    Raises:
        DataError: there are several.
    """
    found = _annotation_files(data_dir)
    if len(found) > 1:
        raise DataError(
            f"{' and '.join(found[:3])}: expected one file with captions, or "
            f"tools/prepare_captions.py --annotations FILE --output_dir {data_dir} for one after the other"
        )
    return found[0] if found else None


def _annotation_files(data_dir, names=("*.jsonl", "dataset*.json")):
    folder = glob.escape(str(data_dir))
    return [path for name in names for path in sorted(glob.glob(os.path.join(folder, name)))]


def _foreign_files(data_dir):
    """What to say where the captions are missing and files lie there that the tool would take."""
    found = _annotation_files(data_dir, ("captions_*.json", "*.token", "*.token.txt"))
    return f"; tools/prepare_captions.py --annotations {found[0]} --output_dir {data_dir} makes them" if found else ""


def read_annotations(path, split=""):
    """The pictures of an annotation file, in its order: list of `Picture`, each with an id and captions.

    Args:
        split: that of pictures for which the file names none.
    Raises:
        DataError: no such file, or not such a file; names the line or picture.
    """
    if str(path).endswith(".json"):
        content = read_json(path)
        is_coco = isinstance(content, dict) and "annotations" in content
        pictures = _coco(path, content, split) if is_coco else _karpathy(path, content, split)
    else:
        pictures = (_tokens if re.search(r"\.token(\.txt)?$", str(path)) else _jsonl)(path, split)
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


def _jsonl(path, default_split):
    pictures, lines = {}, {}  # lines: (name, captions) -> where
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
        name, split = _word(entry, "image", where), _word(entry, "split", where, default_split)
        captions, image_id = entry.get("captions", entry.get("caption")), _identity(entry, "id", where)
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list):
            raise DataError(f"{where} ({name}): expected a list of captions")
        picture = pictures.setdefault(name, Picture(image_id, name, split, where, [], len(pictures) + 1))
        if (picture.split, picture.image_id) != (split, image_id):
            raise DataError(f"{where}: {name!r} has another split or id in {picture.where}")
        captions = _checked_captions(captions, f"{where} ({name})")
        first = lines.setdefault((name, *captions), where)
        if first != where and len(captions) > 1:  # a line for each caption: two people may say the same
            raise DataError(f"{where}: {name!r} has these captions already from {first}; take one of them out")
        picture.captions += captions
    return list(pictures.values())


def _tokens(path, split):
    """Lines `1000092795.jpg#0 <tab> caption`, as Flickr30k's and Flickr8k's authors publish them."""
    if not split:
        raise DataError(f"{path}: {_NO_SPLIT}")
    pictures = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        match, where = re.fullmatch(r"([^\t]+)#\d+\t(.*)", line), f"{path} line {number}"
        if not match:
            raise DataError(f"{where}: {line[:60]!r}; expected name#number, tab, caption")
        picture = pictures.setdefault(match[1], Picture(None, match[1], split, where, [], len(pictures) + 1))
        picture.captions += _checked_captions([match[2]], f"{where} ({match[1]})")
    return list(pictures.values())


def _coco(path, content, split):
    """COCO's own captions_val2014.json: lists `images` and `annotations`; its name says the split."""
    named = re.match(r"captions_(train|val|test)", os.path.basename(path))
    if not (split := split or (named and named[1])):
        raise DataError(f"{path}: {_NO_SPLIT}")
    pictures = {}
    for number, image in enumerate(_objects(path, content, "images"), start=1):
        where = f"{path} picture {number}"
        image_id, name = _identity(image, "id", where), _word(image, "file_name", where)
        pictures[image_id] = Picture(image_id, name, split, where, [], number)
    for number, entry in enumerate(_objects(path, content, "annotations"), start=1):
        where = f"{path} annotation {number}"
        picture = pictures.get(_identity(entry, "image_id", where))
        if picture is None:
            raise DataError(f"{where}: 'image_id' {entry.get('image_id')} is none of 'images'")
        picture.captions += _checked_captions([entry.get("caption")], where)
    return [picture for picture in pictures.values() if picture.captions]


def _objects(path, content, key):
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: expected COCO's captions, an object with lists 'images' and 'annotations' of objects")
    return entries


def _karpathy(path, content, default_split):
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path}: expected Karpathy's JSON, an object with a list 'images'")
    pictures = []
    for number, image in enumerate(images, start=1):
        where = f"{path} picture {number}"
        if not isinstance(image, dict) or not isinstance(image.get("sentences"), list):
            raise DataError(f"{where}: expected an object with 'filename', 'split' and 'sentences'")
        name, split = _word(image, "filename", where), _word(image, "split", where, default_split)
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


def _word(entry, key, where, default=""):
    value = entry.get(key, default or None)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key!r} is {value!r:.40}; expected text" if key in entry else f"{where}: no {key!r}")
    return value.strip()


def _identity(entry, key, where):
    value = entry.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        expected = "expected an integer from 0 on, a number without quotes"
        raise DataError(f"{where}: {key!r} is {str(value)[:40]!r}; {expected}")
    return value
