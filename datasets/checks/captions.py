"""Captions, image lists and candidate lists of the splits, read to the end however many entries are damaged."""

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions import published
from oscar_paddle.datasets.captions.own_pictures import find_annotations, read_split_captions
from oscar_paddle.datasets.captions.prepared import OTHER_LISTS, captions_digest, why_stale
from oscar_paddle.datasets.checks.findings import file_and_text
from oscar_paddle.datasets.first_look import plain
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.reading import MissingFile


@dataclass
class Split:
    """One split as far as it can be read.

    Attributes:
        name: such as "train". path: its caption file (or what stands for it in messages).
        per_image: captions that each image must have; 0 = all that it has are used.
        captions: dict image id -> list of str; entries that cannot be read are missing.
        damaged: list of image ids whose captions cannot be read.
    """

    name: str
    path: str
    per_image: int
    captions: dict = field(default_factory=dict)
    damaged: list = field(default_factory=list)

    @property
    def images(self):
        """list of all image ids."""
        return [*self.captions, *self.damaged]


def check_captions(cfg, split_names, findings):
    """Check the captions of all splits and the lists that belong to them.

    Args:
        cfg: frozen configuration.
        split_names: list of str; None = those of the config: what it needs must be there, the others may be.
        findings: Findings to add to.
    Returns:
        list of Split, those that could be read.
    """
    data_dir, train, splits = cfg.DATASET.DATA_DIR, cfg.DATASET.TRAIN, []
    per_train, per_dev = cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_TRN, cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV
    names, needed = splits_of(cfg, split_names)
    for name in names:
        path, in_published_layout = _caption_file(data_dir, name)
        if name not in needed and in_published_layout and not os.path.isfile(path):
            findings.add("no_check", path, f"no captions of split {name!r}, which this config does not need")
            continue
        # With candidate lists the DEV key is the length of those.
        split = Split(name, path, per_train if name == train or not cfg.EVAL.EVAL_CROSS_IMAGE else per_dev)
        if _read_split(split, data_dir, in_published_layout, findings):
            try:
                if stale := in_published_layout and why_stale(data_dir, name, split.captions):
                    findings.add("stale_captions", path, stale)
            except DataError as error:
                findings.add("bad_list", *file_and_text(error))
            check_texts(split, findings)
            splits.append(split)
    check_leaks(splits, train, findings)
    evaluated = [split for split in splits if split.name != train] or splits
    for key, read, check in (
        ("EVAL_IMG_KEYS_FILE", published.read_image_keys, _check_keys),
        ("EVAL_CAPTION_INDEX_FILE", published.read_caption_index, _check_candidates),
    ):
        path = os.path.join(data_dir, cfg.EVAL[key])
        try:
            found = cfg.EVAL[key] and read(path)
        except DataError as error:
            kind = "missing_file" if isinstance(error, MissingFile) else "bad_list"
            findings.add(kind, path, f"{error} (EVAL.{key})")
            continue
        split = found and _best_split(found, evaluated, not split_names, path, findings)
        if split:
            check(path, found, split, per_dev, findings)
    return splits


def splits_of(cfg, split_names):
    """(names of the splits to check, names of those that must be there)."""
    if split_names:
        return list(dict.fromkeys(split_names)), set(split_names)
    data = cfg.DATASET
    names = list(dict.fromkeys(filter(None, (data.TRAIN, data.DEV, data.TEST))))
    needed = set()
    if cfg.PRETRAINED.DIR:
        needed |= {data.TRAIN} | ({data.DEV} if cfg.MONITOR.EVAL_FREQ or cfg.MONITOR.EVAL_STEPS else set())
    if cfg.EVAL.CHECKPOINT_DIR:
        needed.add(data.TEST)
    return names, needed or set(names)


def _caption_file(data_dir, name):
    """(path of the file that should hold a split's captions, whether it is one of the published layout)."""
    found = published.published_file(data_dir, name)
    try:
        annotations = None if found else find_annotations(data_dir)
    except DataError:  # several; the reader says which
        annotations = str(data_dir)
    return found or annotations or os.path.join(str(data_dir), f"{name}_captions.pt"), annotations is None


def _read_split(split, data_dir, in_published_layout, findings):
    """Read the captions of a split, entry by entry if they are damaged; False if there is nothing to read (a finding
    says why)."""
    try:
        split.captions = read_split_captions(data_dir, split.name)
        return True
    except DataError as error:
        text = str(error).removeprefix(f"{split.path}: ")
    is_there, entries = os.path.isfile(split.path), {}
    if is_there and in_published_layout:
        with suppress(DataError):
            entries = torch_files.load_dictionary(split.path, "captions")
    if not entries:
        findings.add("bad_captions" if is_there else "missing_file", split.path, f"split {split.name!r}: {text}")
    for key, value in entries.items():
        image_id = published.as_image_id(key)
        if image_id is None:
            text = 'is no integer; where images have names, use a JSONL with "image"'
            findings.add("bad_captions", split.path, f"the key {str(key)[:40]!r} {text}")
            continue
        if image_id in split.captions:
            findings.add("bad_captions", split.path, f"image {image_id} is there twice, as a number and as text")
        try:
            split.captions[image_id] = published.captions_of(value, image_id, split.path)
        except DataError:
            found = repr(value)[:60] if isinstance(value, str) else f"a {type(value).__name__} without texts"
            findings.add("bad_captions", split.path, f"image {image_id} has {found}; expected a list of captions")
            split.damaged.append(image_id)
    return bool(entries)


def check_texts(split, findings):
    """What the captions of a Split say twice, or not at all."""
    owners = defaultdict(list)
    for image_id, texts in split.captions.items():
        where, used = f"image {image_id}", texts[: split.per_image or None]
        if len(texts) < split.per_image:
            findings.add("few_captions", split.path, f"{where}: {len(texts)} captions; expected {split.per_image}")
        for number, text in enumerate(used, start=1):
            if not text.strip():
                findings.add("blank_caption", split.path, f"{where}: caption {number} is {text[:20]!r}")
        twice = next((text for number, text in enumerate(used) if text in used[:number]), None)
        if twice is not None:
            findings.add("same_captions", split.path, f"{where}: {twice[:100]!r}")
        for text in used:
            owners[plain(text)].append(image_id)
    repeated = {text: ids for text, ids in owners.items() if len(set(ids)) > 1}
    for text, ids in repeated.items():
        images = " and ".join(map(str, [*dict.fromkeys(ids)][:3]))
        where = f"{text[:100]!r} of split {split.name!r} is that of image {images}"
        findings.add("repeated_captions", split.path, where, count=len(ids))


def check_leaks(splits, train, findings):
    """The same image, by id or by its captions, in two splits.

    Two evaluation splits may share images where one is a part of the other (COCO's minival is one of val).
    """
    for first, second in ((first, second) for n, second in enumerate(splits) for first in splits[:n]):
        shared = [image_id for image_id in second.captions if image_id in first.captions]
        is_part = len(shared) == min(len(first.captions), len(second.captions))
        kind = "shared_id" if is_part and train not in (first.name, second.name) else "leak_id"
        for image_id in shared:
            texts, others = first.captions[image_id], second.captions[image_id]
            if set(map(plain, texts)) & set(map(plain, others)):
                findings.add(kind, second.path, f"image {image_id} is in {first.name} and in {second.name}")
            else:
                found = f"{texts[0][:80]!r} in {first.name}, {others[0][:80]!r} in {second.name}"
                findings.add("two_pictures", second.path, f"image {image_id}: {found}")
        # Under different ids, but with equal captions.
        owners = {_signature(texts): image_id for image_id, texts in first.captions.items() if len(texts) > 1}
        for image_id, texts in second.captions.items():
            owner = owners.get(_signature(texts), image_id)
            if owner != image_id and image_id not in first.captions:
                where = f"image {owner} of {first.name} and image {image_id} of {second.name}"
                findings.add("leak_captions", second.path, f"{where}: {texts[0][:80]!r}, ...")


def _signature(texts):
    return hash(tuple(sorted(map(plain, texts))))


def _check_keys(path, keys, split, per_image, findings):
    """EVAL.EVAL_IMG_KEYS_FILE against its split."""
    for row, key in enumerate(keys):
        if key not in split.captions:
            findings.add("unknown_in_list", path, f"image {key} has no captions in split {split.name!r}", row)


def _check_candidates(path, lists, split, per_image, findings):
    """EVAL.EVAL_CAPTION_INDEX_FILE, lists of `per_image` candidates, against its split."""
    if lists.captions not in ("", captions_digest(split.captions)):
        findings.add("other_lists", path, OTHER_LISTS.format(split=split.name))
    for image_id in split.captions:
        per_image = per_image or max(map(len, lists.values()))
        where, pairs = f"image {image_id}", lists.get(image_id, [])[:per_image]
        if len(pairs) < per_image:
            text = f"{where} of split {split.name!r} has {len(pairs)} candidates; expected {per_image}"
            findings.add("short_candidates", path, text)
            continue
        unknown = [pair for pair in pairs if pair[1] >= len(split.captions.get(pair[0], ()))]
        if unknown:
            text = f"{where}: candidate {list(unknown[0])} is not among the captions of split {split.name!r}"
            findings.add("unknown_in_list", path, f"{text} ({len(unknown)} such candidates)")
        repeated = len(pairs) - len(set(pairs))
        if repeated:
            findings.add("repeated_candidate", path, f"{where}: {repeated} repeated")
        if all(owner != image_id for owner, _ in pairs):
            findings.add("no_positive", path, where)


def _best_split(image_ids, splits, all_splits, path, findings):
    """The split that has most of these images; None (with a finding) if none has any.

    `all_splits`: whether these are all that a list may be for; if not, a list of other images is only noted.
    """
    shared = [sum(image_id in split.captions for image_id in image_ids) for split in splits]
    if any(shared):
        return splits[shared.index(max(shared))]
    names = ", ".join(split.name for split in splits) or "none"
    text = f"none of its {len(image_ids)} images is in the splits that are checked ({names})"
    findings.add("unknown_in_list" if all_splits and splits else "no_check", path, text)
    return None
