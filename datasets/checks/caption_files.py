"""Checks pictures with captions to learn from: the published files that a YAML names, or the layouts of retrieval.

As in dataset.py, findings are collected and nothing stops at the first.
"""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.caption_dataset import CaptionBuilder
from oscar_paddle.datasets.captions.caption_yaml import (
    CBS_KEYS,
    caption_entry,
    is_yaml,
    read_caption_yaml,
    references_file,
)
from oscar_paddle.datasets.captions.constraints import Constraints
from oscar_paddle.datasets.checks.captions import Split, check_captions, check_leaks, check_texts, splits_of
from oscar_paddle.datasets.checks.dataset import Reading, check_dataset, check_files
from oscar_paddle.datasets.checks.findings import file_and_text
from oscar_paddle.datasets.checks.sources import check_source
from oscar_paddle.datasets.checks.text import open_tokenizer
from oscar_paddle.datasets.formats.reading import MissingFile, read_json
from oscar_paddle.datasets.regions.layouts import open_source
from oscar_paddle.datasets.regions.source import image_key
from oscar_paddle.datasets.regions.vinvl import ObjectTags, Rows


def check_caption_data(cfg, split_names=None, **options):
    """DatasetCheck of a configuration's splits; arguments as for `check_dataset`."""
    text = CaptionBuilder(0, 0, cfg.INPUT.MAX_SEQ_LEN, cfg.CAPTION.MAX_SEQ_A_LEN)
    return check_dataset(cfg, split_names, **options, reading=Reading(_check_splits, _check_files, text))


def _check_splits(cfg, split_names, findings):
    """list of Split, those that could be read; see `check_captions`."""
    names, needed = splits_of(cfg, split_names)
    others = [name for name in names if not is_yaml(name) and name in needed]
    splits = check_captions(cfg, others, findings) if others else []
    listed = []
    for name in filter(is_yaml, names):
        path = os.path.join(cfg.DATASET.DATA_DIR, name)
        if name not in needed and not os.path.isfile(path):
            findings.add("no_check", path, "no such file, which this config does not need")
        elif (split := _read_split(cfg, name, path, findings)) is not None:
            check_texts(split, findings)
            listed.append(split)
    check_leaks(listed, cfg.DATASET.TRAIN, findings)
    return splits + listed


def _read_split(cfg, name, path, findings):
    """Split of a YAML with the captions that can be read, or None; images without captions have an empty list."""
    try:
        files = read_caption_yaml(path)
    except DataError as error:
        findings.add("missing_file" if isinstance(error, MissingFile) else "unreadable", path, error)
        return None
    training = name == cfg.DATASET.TRAIN
    needed = ["feature"] + ["label"] * cfg.INPUT.ADD_OD_LABEL + ["caption"] * training
    if cfg.CAPTION.USE_CBS and name == cfg.DATASET.TEST:
        needed += CBS_KEYS.values()
    for key in needed:
        if not files[key]:
            findings.add("missing_file", path, f"names no {key!r} file")
    source = files["caption"] if training or not files["caption"] else references_file(files["caption"])
    for key in (key for key in files if files[key] and (key in needed or key == "caption")):
        if not os.path.exists(source if key == "caption" else files[key]):
            findings.add("missing_file", files[key], f"no such file, which {path} names as {key!r}")
    split = Split(name, source or path, 0)
    if source and os.path.isfile(source):
        _read_captions(split, findings)
    try:
        features = open_source(files["feature"], feature_dim=cfg.INPUT.IMG_FEATURE_DIM, cache_bytes=0)
    except DataError as error:
        findings.add("missing_file" if isinstance(error, MissingFile) else "unreadable", *file_and_text(error))
        return split
    missing = [key for key in features.ids if key not in split.captions]
    if split.captions and not training:
        for key in missing:
            findings.add("no_references", source, f"image {key} of {features.path}")
    split.captions.update((key, []) for key in ([] if training else missing))
    return split


def _read_captions(split, findings):
    """The captions of a split's file, entry by entry."""
    try:
        content = read_json(split.path)
    except DataError as error:
        findings.add("unreadable", split.path, error)
        return
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        findings.add("bad_captions", split.path, "expected a list of objects with image_id and caption")
        return
    for number, entry in enumerate(entries, start=1):
        try:
            key, caption, _ = caption_entry(entry, f"entry {number}")
            split.captions.setdefault(key, []).append(caption)
        except DataError as error:
            findings.add("bad_captions", split.path, error)


def _check_files(scope, splits):
    """[(path, Figures), ...] of features and tags; see `check_files`."""
    files = check_files(scope, [split for split in splits if not is_yaml(split.name)])
    for split in splits:
        if is_yaml(split.name):
            files += _check_named(scope, split)
    return files


def _check_named(scope, split):
    """The same of the files that a YAML names."""
    cfg, findings = scope.cfg, scope.findings
    names = read_caption_yaml(os.path.join(cfg.DATASET.DATA_DIR, split.name))
    try:
        features = open_source(names["feature"], feature_dim=cfg.INPUT.IMG_FEATURE_DIM, cache_bytes=0)
        labels = ObjectTags(names["label"]) if cfg.INPUT.ADD_OD_LABEL and names["label"] else None
    except DataError as error:
        if not isinstance(error, MissingFile):  # that has been told
            findings.add("unreadable", *file_and_text(error))
        return []
    keys = features.row_keys() if isinstance(features, Rows) else list(map(str, features.ids))
    first = {}
    for row, key in enumerate(keys):
        if first.setdefault(image_key(key), row) != row:
            findings.add("repeated_id", features.path, f"image {key} is also in row {first[image_key(key)] + 1}", row)
    if labels is not None:
        _check_rows(features.path, keys, labels, findings)
    without_tags = scope._replace(cfg=_without_tags(cfg)) if labels is None else scope
    figures = check_source(without_tags, features, split, lambda: labels)
    if cfg.CAPTION.USE_CBS and split.name == cfg.DATASET.TEST and all(names[key] for key in CBS_KEYS.values()):
        _check_constraints(scope, split, names)
    return [(features.path, figures)]


def _without_tags(cfg):
    own = cfg.clone()
    own.defrost()
    own.INPUT.ADD_OD_LABEL = False
    return own


def _check_rows(path, keys, labels, findings):
    """Row k of features and of tags must be of the same image."""
    others = list(labels.row_keys())
    if len(others) != len(keys):
        findings.add("other_rows", labels.path, f"{len(others)} rows; {path} has {len(keys)}")
    for row, (key, other) in enumerate(zip(keys, others, strict=False)):
        if image_key(key) != image_key(other):
            findings.add("other_rows", labels.path, f"image {other}; that row of {path} is image {key}", row)


def _check_constraints(scope, split, names):
    """The state machine of every image's constraints can be made."""
    tokenizer = open_tokenizer(scope.cfg, scope.findings, "constraints")
    if tokenizer is None:
        return
    try:
        found = Constraints(**{name: names[key] for name, key in CBS_KEYS.items()}, tokenizer=tokenizer)
    except DataError as error:
        if not isinstance(error, MissingFile):
            scope.findings.add("constraints", *file_and_text(error))
        return
    images = [key for key in split.images if scope.chosen is None or key in scope.chosen]
    for key in tqdm(images, desc="checking constraints", unit=" images", delay=1, leave=False):
        try:
            found.machine(key)
        except DataError as error:
            scope.findings.add("constraints", *file_and_text(error))
