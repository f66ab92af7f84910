"""Writes the captions of an annotation file in the published layout, as tools/prepare_captions.py is asked to."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.captions.candidates import candidate_lists
from oscar_paddle.datasets.captions.own_pictures import NAMES_FILE, read_annotations
from oscar_paddle.datasets.formats.torch_writer import write_torch_file
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.datasets.regions.layouts import open_regions

DEV = "minival"  # the reference's name of the split that is evaluated during training


class DevLists(NamedTuple):
    """How the dev split and its candidate lists are made (see `candidate_lists`)."""

    split: str = "val"  # what the images are taken from
    images: int = 1000  # how many, drawn at random, in their old order; 0 = all
    size: int = 20
    num_hard: int = 15
    seed: int = 88


def prepare(annotations, folder, dev=None, feat_file="", label_type="vg", overwrite=False):
    """Write captions, image lists, names and dev candidates of an annotation file.

    Args:
        annotations: JSONL or Karpathy file.
        folder: where to write, DATASET.DATA_DIR of the runs to come.
        dev: DevLists; None makes none.
        feat_file: region features whose tags decide which captions are hard; empty looks where a run would, and
            without any the words of the captions decide.
        label_type: DATASET.OD_LABEL_TYPE.
        overwrite: replace files that are there.
    Returns:
        (captions by split: {split: {image id: captions}}, what the hard candidates were chosen by).
    Raises:
        DataError: the file is not such a file, is too small for the lists, or files are there already.
    """
    splits, names = {}, {}
    for picture in read_annotations(annotations):
        splits.setdefault(picture.split, {})[picture.image_id] = picture.captions
        names[picture.image_id] = picture.name
    files, chosen_by = {}, None
    if dev:
        if dev.split not in splits:
            raise DataError(f"{annotations}: has no split {dev.split!r} to take dev images from; it has {list(splits)}")
        if dev.split != DEV and DEV in splits:
            raise DataError(f"{annotations}: has a split {DEV!r} itself; make its lists with --dev_split {DEV}")
        splits[DEV] = _drawn(splits[dev.split], dev)
        words, chosen_by = _words(splits[DEV], dev.split, folder, feat_file, label_type, names)
        lists = candidate_lists(splits[DEV], words, dev.size, dev.num_hard, seed=dev.seed)
        files[f"{DEV}_caption_indexs_top{dev.size}.pt"] = {key: json.dumps(pairs) for key, pairs in lists.items()}
    for split, captions in splits.items():
        files[f"{split}_captions.pt"] = {image_id: json.dumps(texts) for image_id, texts in captions.items()}
        files[f"{split}_img_keys.tsv"] = "".join(f"{image_id}\n" for image_id in captions)
    files[NAMES_FILE] = json.dumps({str(image_id): name for image_id, name in names.items()})
    _write(Path(folder), files, overwrite)
    return splits, chosen_by


def _drawn(captions, dev):
    if not 0 < dev.images < len(captions):
        return captions
    ids = list(captions)
    chosen = np.sort(np.random.default_rng(dev.seed).choice(len(ids), dev.images, replace=False))
    return {ids[i]: captions[ids[i]] for i in chosen}


def _words(captions, split, folder, feat_file, label_type, names):
    """(image id -> text by which images are alike, what that text is)."""
    try:
        regions = open_regions(folder, split, feat_file, packed="off")
        regions.use_names(names)
        tags = regions.open_tags(folder, split, label_type)
    except DataError:
        if feat_file:
            raise
        return {image_id: " ".join(texts) for image_id, texts in captions.items()}, "the words of the captions"
    progress = tqdm(captions, "reading tags", unit=" images", delay=2, leave=False)
    return {image_id: tags[image_id] for image_id in progress}, f"the object tags in {tags.path}"


def _write(folder, files, overwrite):
    """Write {name: text or dictionary}, each file complete or not at all."""
    there = [folder / name for name in files if (folder / name).exists()]
    if there and not overwrite:
        others = f"(with {len(there) - 1} others)"
        raise DataError(f"{there[0]}: is already there {others}; choose another --output_dir, or say --overwrite")
    try:
        for name, content in files.items():
            with whole_file(folder / name) as unfinished:
                if isinstance(content, str):
                    unfinished.write_text(content, encoding="utf-8")
                else:
                    write_torch_file(unfinished, content)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from None
