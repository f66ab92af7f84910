"""RefCOCO, RefCOCO+ and RefCOCOg as published: `refs(<split by>).p` and `instances.json`.

Source: docs/reference.md, referring expressions.
"""

import os
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.formats import restricted_pickle
from oscar_paddle.datasets.formats.kinds import describe
from oscar_paddle.datasets.formats.reading import read_json, reading
from oscar_paddle.datasets.refer.masks import box_of

# Splits by whoever made them; each is the name of a file.
SPLITS = {
    "unc": ("train", "val", "testA", "testB", "test"),
    "umd": ("train", "val", "test"),
    "google": ("train", "val", "test"),  # RefCOCOg has no test here
}
_ORIGIN = "; it comes with the data set, DATASET.DATA_DIR and REFER.DATASET say where"


class Referred(NamedTuple):
    """One expression and the object that it is about.

    Attributes:
        text: as it was typed ("raw"). sent_id, ref_id, ann_id, image_id: int.
        box: (x, y, width, height) in pixels.
        category: what the object is. alike: how many objects of its class the image has, itself included.
    """

    text: str
    sent_id: int
    ref_id: int
    ann_id: int
    image_id: int
    box: tuple
    category: str
    alike: int


class Instances(NamedTuple):
    """annotations: id -> COCO annotation; categories: id -> name; alike: (image id, category id) -> how many objects;
    pictures: image id -> name of the file."""

    annotations: dict
    categories: dict
    alike: dict
    pictures: dict


def read_expressions(folder, split_by, split):
    """The expressions of a split, in the order of the files: list of Referred, and {image id: name of its picture}.

    Args:
        folder: holds refs(<split_by>).p and instances.json.
        split_by: a key of SPLITS. split: one of its splits; "test" of unc has both testA and testB.
    Raises:
        ConfigError: no such split. DataError: a file is missing, damaged, of another data set, or the split is empty.
    """
    if split not in SPLITS[split_by]:
        raise ConfigError(f"split {split!r}: refs({split_by}).p has {', '.join(SPLITS[split_by])}")
    path, instances_path = (os.path.join(folder, name) for name in (f"refs({split_by}).p", "instances.json"))
    refs, instances = read_refs(path), read_instances(instances_path)
    found, images = [], set()
    for number, ref in enumerate(refs):
        if not _is_in(ref["split"], split):
            continue
        where = f"{path} ref {number} (ref_id {ref['ref_id']})"
        annotation = instances.annotations.get(ref["ann_id"])
        if annotation is None:
            stranger = f"its object ann_id {ref['ann_id']} is not in {instances_path}"
            raise DataError(f"{where}: {stranger}: the files are of two data sets; take both from one of them")
        if annotation["image_id"] != ref["image_id"]:
            stranger = f"its object ann_id {ref['ann_id']} is in image {annotation['image_id']} of {instances_path}"
            raise DataError(f"{where}: {stranger}, not in {ref['image_id']}: the files are of two data sets")
        box = box_of(annotation, f"{instances_path} annotation {ref['ann_id']} (of ref_id {ref['ref_id']})")
        kind = annotation["category_id"]
        told = {
            **{name: ref[name] for name in ("ref_id", "ann_id", "image_id")},
            "category": instances.categories.get(kind, str(kind)),
            "alike": instances.alike[ref["image_id"], kind],
        }
        images.add(ref["image_id"])
        found += [Referred(text, sent_id, box=box, **told) for text, sent_id in ref["texts"]]
    if not found:
        there = ", ".join(sorted({ref["split"] for ref in refs})) or "no refs"
        raise DataError(f"{path}: no expressions of split {split!r} (it has {there})")
    return found, {image_id: instances.pictures[image_id] for image_id in images if image_id in instances.pictures}


def _is_in(name, split):
    """Upstream: a ref of "testAB" belongs to testA, testB and test."""
    if split in ("train", "val"):
        return name == split
    return "test" in name and (split == "test" or split[-1] in name[len("test") :])


def read_refs(path):
    """The refs of a refs(...).p: list of dicts with ref_id, ann_id, image_id (int), split (str) and texts, a list of
    (raw text, sent_id).

    Raises:
        DataError: it is missing, no pickle of refs, or one of them lacks something; names the ref.
    """
    with reading(path, _ORIGIN), open(path, "rb") as file:
        data = file.read()
    if what := describe(data[:4096]):
        raise DataError(f"{path}: {what}; expected the pickle of refs")
    refs = restricted_pickle.load(data, path)
    if not isinstance(refs, list):
        raise DataError(f"{path}: holds a {type(refs).__name__}; expected a list of refs")
    return [_ref(ref, f"{path} ref {number}") for number, ref in enumerate(refs)]


def _ref(ref, where):
    if not isinstance(ref, dict):
        raise DataError(f"{where}: is a {type(ref).__name__}; expected a dict with ref_id, ann_id, image_id, ...")
    found = {name: _number(ref, name, where) for name in ("ref_id", "ann_id", "image_id")}
    found["split"] = _text(ref, "split", where)
    where = f"{where} (ref_id {found['ref_id']})"
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or not sentences or not all(isinstance(each, dict) for each in sentences):
        raise DataError(f"{where}: 'sentences' is {str(sentences)[:60]}; expected a list of dicts with raw and sent_id")
    found["texts"] = [(_text(each, "raw", where), _number(each, "sent_id", where)) for each in sentences]
    return found


def _number(values, name, where):
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise DataError(f"{where}: {name!r} is {str(value)[:40]!r}; expected a whole number")
    return int(value)


def _text(values, name, where):
    """Text as Python 2 or 3 pickled it."""
    value = values.get(name)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} is {str(value)[:40]!r}; expected text")
    return value


def read_instances(path):
    """An instances.json as Instances; DataError: missing, damaged, or an annotation without id, image or category."""
    values = read_json(path, _ORIGIN)
    lists = ("images", "annotations", "categories")
    if not isinstance(values, dict) or not all(isinstance(values.get(name), list) for name in lists):
        raise DataError(f"{path}: expected an object with lists 'images', 'annotations' and 'categories'")
    annotations, alike = {}, {}
    for number, annotation in enumerate(_dicts(values, "annotations", path)):
        where = f"{path} annotation {number}"
        image_id, kind = (_number(annotation, name, where) for name in ("image_id", "category_id"))
        annotations[_number(annotation, "id", where)] = annotation
        alike[image_id, kind] = alike.get((image_id, kind), 0) + 1
    named = [(each, f"{path} category {n}") for n, each in enumerate(_dicts(values, "categories", path))]
    categories = {_number(each, "id", where): str(each.get("name")) for each, where in named}
    images = _dicts(values, "images", path)
    pictures = {each.get("id"): str(each["file_name"]) for each in images if "file_name" in each}
    return Instances(annotations, categories, alike, pictures)


def _dicts(values, name, path):
    found = values.get(name, [])
    wrong = [number for number, each in enumerate(found) if not isinstance(each, dict)]
    if wrong:
        raise DataError(f"{path}: entry {wrong[0]} of {name!r} is {str(found[wrong[0]])[:40]!r}; expected an object")
    return found
