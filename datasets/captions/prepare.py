"""Writes the captions of an annotation file in the published layout, as tools/prepare_captions.py is asked to."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.captions.candidates import candidate_lists
from oscar_paddle.datasets.captions.own_pictures import SharedFeatures, read_annotations, use_names
from oscar_paddle.datasets.captions.prepared import NAMES_FILE, captions_digest, read_names_file, source_of
from oscar_paddle.datasets.captions.published import read_captions
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


def prepare(annotations, folder, dev=None, feat_file="", label_type="vg", overwrite=False, split="", command=""):
    """Write captions, image lists, names and dev candidates of an annotation file.

    Splits that are in the folder already stay as they are, with the names of their pictures.

    Args:
        annotations: see `read_annotations`.
        folder: where to write, DATASET.DATA_DIR of the runs to come.
        dev: DevLists; None makes none.
        feat_file: region features whose tags decide which captions are hard; empty looks where a run would, and
            without any the words of the captions decide.
        label_type: DATASET.OD_LABEL_TYPE.
        overwrite: replace files that are there.
        split: that of pictures for which the file names none.
        command: what the user typed, to be shown when the files should be made again.
    Returns:
        (captions by split: {split: {image id: captions}}, what the hard candidates were chosen by).
    Raises:
        DataError: the file is not such a file, is too small for the lists, files are there already, or other pictures
            have the same ids there.
    """
    splits, names = {}, {}
    for picture in read_annotations(annotations, split):
        splits.setdefault(picture.split, {})[picture.image_id] = picture.captions
        names[picture.image_id] = picture.name
    files, chosen_by = {}, None
    if dev:
        if dev.split not in splits:
            has = f"has no split {dev.split!r} to take dev images from; it has {list(splits)}"
            raise DataError(f"{annotations}: {has}: name one with --dev_split, or say --no_dev")
        if dev.split != DEV and DEV in splits:
            raise DataError(f"{annotations}: has a split {DEV!r} itself; make its lists with --dev_split {DEV}")
        splits[DEV] = _drawn(splits[dev.split], dev)
        words, chosen_by = _words(splits[DEV], dev.split, folder, feat_file, label_type, names, annotations)
        lists = candidate_lists(splits[DEV], words, dev.size, dev.num_hard, seed=dev.seed)
        entries = {key: json.dumps(pairs) for key, pairs in lists.items()}
        files[f"{DEV}_caption_indexs_top{dev.size}.pt"] = {**entries, "captions": captions_digest(splits[DEV])}
    for split, captions in splits.items():
        files[f"{split}_captions.pt"] = {image_id: json.dumps(texts) for image_id, texts in captions.items()}
        files[f"{split}_img_keys.tsv"] = "".join(f"{image_id}\n" for image_id in captions)
    there = [Path(folder, name) for name in files if Path(folder, name).exists()]
    if there and not overwrite:
        others = f"(with {len(there) - 1} others)"
        raise DataError(f"{there[0]}: is already there {others}; choose another --output_dir, or say --overwrite")
    kept_names, sources = _kept(folder, splits, names)
    command = command or f"python tools/prepare_captions.py --annotations {annotations} --output_dir {folder}"
    sources |= {split: source_of(annotations, folder, captions, command) for split, captions in splits.items()}
    files[NAMES_FILE] = json.dumps(
        {str(key): name for key, name in (kept_names | names).items()} | {"sources": sources}
    )
    _write(Path(folder), files)
    return splits, chosen_by


def _kept(folder, splits, names):
    """(names, sources) of the splits in the folder that are not to be written.

    Raises:
        DataError: a picture in one of them has the id of another picture in `names`, those to be written.
    """
    known, sources = read_names_file(folder)
    new = {image_id: texts for captions in splits.values() for image_id, texts in captions.items()}
    here = {path.name.removesuffix("_captions" + path.suffix) for path in Path(folder).glob("*_captions.p[td]")}
    kept = {}
    for split in sorted(here - splits.keys()):
        captions = read_captions(folder, split)
        # Where the file of names does not know a picture, it is the same one if it has a caption in common.
        same = {
            i: known[i] == names[i] if i in known else set(texts) & set(new[i])
            for i, texts in captions.items()
            if i in new
        }
        if taken := [image_id for image_id, is_same in same.items() if not is_same]:
            raise DataError(
                f"{folder}: ids {_in_words(taken)} already belong to pictures of split {split!r}; give the pictures an "
                "id, put all splits into one file, or choose another --output_dir"
            )
        kept |= {image_id: known[image_id] for image_id in captions if image_id in known}
    return kept, {split: source for split, source in sources.items() if split in here - splits.keys()}


def _in_words(ids):
    ids = sorted(ids)
    if len(ids) > 2 and ids[-1] - ids[0] == len(ids) - 1:
        return f"{ids[0]} to {ids[-1]}"
    return ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _drawn(captions, dev):
    if not 0 < dev.images < len(captions):
        return captions
    ids = list(captions)
    chosen = np.sort(np.random.default_rng(dev.seed).choice(len(ids), dev.images, replace=False))
    return {ids[i]: captions[ids[i]] for i in chosen}


def _words(captions, split, folder, feat_file, label_type, names, annotations):
    """(image id -> text by which images are alike, what that text is)."""
    try:
        regions = open_regions(folder, split, feat_file, packed="off")
        use_names(regions, names, annotations)
        tags = regions.open_tags(folder, split, label_type)
    except DataError as error:
        if feat_file or isinstance(error, SharedFeatures):
            raise
        return {image_id: " ".join(texts) for image_id, texts in captions.items()}, "the words of the captions"
    progress = tqdm(captions, "reading tags", unit=" images", delay=2, leave=False)
    return {image_id: tags[image_id] for image_id in progress}, f"the object tags in {tags.path}"


def _write(folder, files):
    """Write {name: text or dictionary}, each file complete or not at all."""
    try:
        for name, content in files.items():
            with whole_file(folder / name) as unfinished:
                if isinstance(content, str):
                    unfinished.write_text(content, encoding="utf-8")
                else:
                    write_torch_file(unfinished, content)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from None
