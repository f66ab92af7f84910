"""Captions, image lists and candidate lists of the splits, read to the end however many entries are damaged."""

import json
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import find_annotations, read_split_captions
from oscar_paddle.datasets.captions.published import read_caption_index, read_image_keys
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.regions.source import image_key


class Split:
    """One split as far as it can be read.

    Attributes:
        name: such as "train". path: its caption file (or what stands for it in messages).
        captions: dict image id -> list of str; entries that cannot be read are missing.
        damaged: list of image ids whose captions cannot be read.
        per_image: captions that each image must have.
    """

    def __init__(self, name, path, per_image):
        self.name, self.path, self.per_image = name, str(path), per_image
        self.captions, self.damaged = {}, []


def read_split(data_dir, name, per_image, findings):
    """Read and check the captions of a split.

    Returns:
        Split, or None if there is nothing to read (a finding says why).
    """
    path, published = caption_file(data_dir, name)
    split = Split(name, path, per_image)
    try:
        split.captions = read_split_captions(data_dir, name)
    except DataError as error:
        if not os.path.isfile(path):
            findings.add("missing_file", path, f"split {name!r}: {_without(error, path)}")
            return None
        if not (published and _read_what_can_be(split, findings)):
            findings.add("bad_captions", path, f"split {name!r}: {_without(error, path)}")
            return None
    _check_texts(split, findings)
    return split


def caption_file(data_dir, name):
    """(path of the file that holds a split's captions, whether it is one of the published layout).

    The path may not exist.
    """
    places = [os.path.join(str(data_dir), f"{name}_captions{ending}") for ending in (".pt", ".pd")]
    published = next(filter(os.path.isfile, places), None)
    try:
        annotations = None if published else find_annotations(data_dir)
    except DataError:  # several; the reader says which
        annotations = str(data_dir)
    return published or annotations or places[0], annotations is None


def _read_what_can_be(split, findings):
    """Fill a split entry by entry; True if anything was read or found wrong in an entry."""
    try:
        data = torch_files.load(split.path)
    except DataError:
        return False
    if not isinstance(data, dict):
        return False
    for key, value in data.items():
        image_id = image_key(key)
        if type(image_id) is not int:
            findings.add("bad_captions", split.path, f"the key {str(key)[:40]!r} is no image id")
            continue
        if image_id in split.captions:
            findings.add("bad_captions", split.path, f"image {image_id} is there twice, as a number and as text")
        try:
            texts = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            texts = None
        if isinstance(texts, (list, tuple)) and texts and all(isinstance(text, str) for text in texts):
            split.captions[image_id] = list(texts)
        else:
            found = repr(value)[:60] if isinstance(value, str) else f"a {type(value).__name__} without texts"
            findings.add("bad_captions", split.path, f"image {image_id} has {found}; expected a list of captions")
            split.damaged.append(image_id)
    return bool(data)


def _check_texts(split, findings):
    for image_id, texts in split.captions.items():
        where = f"image {image_id}"
        if len(texts) < split.per_image:
            findings.add("few_captions", split.path, f"{where}: {len(texts)} captions; expected {split.per_image}")
        used = texts[: max(split.per_image, 1)]
        for number, text in enumerate(used):
            if not text.strip():
                findings.add("blank_caption", split.path, f"{where}: caption {number + 1} is {text[:20]!r}")
        if len(set(used)) < len(used):
            repeated = next(text for number, text in enumerate(used) if text in used[:number])
            findings.add("same_captions", split.path, f"{where}: {repeated[:100]!r}")


def check_leaks(splits, train, findings):
    """The same image, by id or by its captions, in two splits.

    Two evaluation splits may share images where one is a part of the other (COCO's minival is one of val).

    Args:
        splits: list of Split.
        train: name of the training split.
    """
    for number, second in enumerate(splits):
        for first in splits[:number]:
            shared = [image_id for image_id in second.captions if image_id in first.captions]
            kind = "leak_id"
            part = len(shared) == min(len(first.captions), len(second.captions))
            if part and train not in (first.name, second.name):
                kind = "shared_id"
            for image_id in shared:
                findings.add(kind, second.path, f"image {image_id} is in {first.name} and in {second.name}")
            _check_equal_texts(first, second, findings)


def _check_equal_texts(first, second, findings):
    """Images of two splits under different ids whose captions are all equal."""
    owners = {_signature(texts): image_id for image_id, texts in first.captions.items() if len(texts) > 1}
    for image_id, texts in second.captions.items():
        owner = owners.get(_signature(texts))
        if owner is not None and owner != image_id and image_id not in first.captions:
            where = f"image {owner} of {first.name} and image {image_id} of {second.name}"
            findings.add("leak_captions", second.path, f"{where}: {texts[0][:80]!r}, ...")


def _signature(texts):
    return hash(tuple(sorted(text.strip().lower() for text in texts)))


def check_key_list(path, splits, findings, all_splits=True):
    """Check EVAL.EVAL_IMG_KEYS_FILE against the split it fits best.

    Args:
        splits: list of Split, those it may be for.
        all_splits: whether these are all it may be for; if not, a list of other images is only noted.
    """
    try:
        keys = read_image_keys(path)
    except DataError as error:
        findings.add(_kind(path, "bad_list"), path, f"{_without(error, path)} (EVAL.EVAL_IMG_KEYS_FILE)")
        return
    split = _best_split(keys, splits, path, findings, all_splits)
    for row, key in enumerate(keys):
        if split is not None and key not in split.captions:
            findings.add("unknown_in_list", path, f"image {key} has no captions in split {split.name!r}", row)


def check_candidates(path, splits, per_image, findings, all_splits=True):
    """Check EVAL.EVAL_CAPTION_INDEX_FILE against the split it fits best.

    Args:
        splits, all_splits: as for `check_key_list`.
        per_image: INPUT.NUM_CAPTIONS_PER_IMAGE_DEV, candidates of each image.
    """
    try:
        lists = read_caption_index(path)
    except DataError as error:
        findings.add(_kind(path, "bad_list"), path, f"{_without(error, path)} (EVAL.EVAL_CAPTION_INDEX_FILE)")
        return
    split = _best_split(lists, splits, path, findings, all_splits)
    for image_id in split.captions if split else ():
        pairs = lists.get(image_id, [])
        if len(pairs) < per_image:
            text = f"image {image_id} of split {split.name!r} has {len(pairs)} candidates; expected {per_image}"
            findings.add("short_candidates", path, text)
            continue
        _check_pairs(path, image_id, pairs[:per_image], split, findings)


def _check_pairs(path, image_id, pairs, split, findings):
    unknown = [pair for pair in pairs if pair[1] >= len(split.captions.get(pair[0], ()))]
    if unknown:
        text = f"image {image_id}: candidate {list(unknown[0])} is not among the captions of split {split.name!r}"
        findings.add("unknown_in_list", path, f"{text} ({len(unknown)} such candidates)")
    if len(set(pairs)) < len(pairs):
        findings.add("repeated_candidate", path, f"image {image_id}: {len(pairs) - len(set(pairs))} repeated")
    if all(owner != image_id for owner, _ in pairs):
        findings.add("no_positive", path, f"image {image_id}")


def _best_split(image_ids, splits, path, findings, all_splits):
    """The split that has most of these images; None (with a finding) if none has any."""
    shared = [sum(image_id in split.captions for image_id in image_ids) for split in splits]
    if any(shared):
        return splits[shared.index(max(shared))]
    names = ", ".join(split.name for split in splits) or "none"
    text = f"none of its {len(image_ids)} images is in the splits that are checked ({names})"
    findings.add("unknown_in_list" if all_splits and splits else "no_check", path, text)
    return None


def _kind(path, otherwise):
    stem, ending = os.path.splitext(str(path))
    exists = os.path.isfile(path) or (ending in (".pt", ".pd") and os.path.isfile(stem + ".pd"))
    return otherwise if exists else "missing_file"


def _without(error, path):
    """A reader's message without the file's name, which the report says already."""
    return str(error).removeprefix(f"{path}: ")
