"""Checks a data set as a config names it: what is wrong, where, and what to do; and the figures of what is there.

Everything is read, whatever is damaged: findings are collected (findings.py), nothing stops at the first. The steps:
captions and lists (captions.py), features and tags in the published layout (published.py) or another (sources.py), what
files say of each other (here, pictures.py), word pieces (text.py).
"""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.captions import check_captions, images_of
from oscar_paddle.datasets.checks.figures import Scope, TagFigures
from oscar_paddle.datasets.checks.findings import Findings, file_and_text
from oscar_paddle.datasets.checks.pictures import check_picture_sizes
from oscar_paddle.datasets.checks.published import check_published
from oscar_paddle.datasets.checks.sources import check_other_layout, check_store
from oscar_paddle.datasets.checks.text import RowLengths, TextFigures, check_text
from oscar_paddle.datasets.regions.layouts import find_regions


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """What was found in a data set.

    Attributes:
        findings: Findings.
        splits: list of Split, those that could be read. images: dict image id -> name of its (first) split.
        chosen: set of image ids that were looked into, or None for all.
        regions: dict image id -> regions it has. negative: share of the images whose first region has a negative
            value. norm: mean L2 norm of the regions.
        tags, classes, tag_counts, drawings, marked: see `TagFigures`.
        agreement, other_rows: see `FileFigures`, over all files.
        stores: list of paths of packed stores that are read in place of their sources.
        captions, tag_text: TextFigures or None. rows: RowLengths or None.
        read_bytes: of features and tags. seconds: the whole check.
    """

    findings: Findings
    splits: list
    images: dict
    chosen: set | None
    regions: dict
    negative: float
    norm: float
    tags: dict
    classes: Counter
    tag_counts: list
    drawings: dict
    marked: dict
    agreement: tuple
    other_rows: int
    stores: list
    captions: TextFigures | None
    tag_text: TextFigures | None
    rows: RowLengths | None
    read_bytes: int
    seconds: float


def check_dataset(cfg, split_names=None, max_images=0, processes=1, picture_files=None, shown=12, seed=0):
    """Check the data set that a config names. Writes nothing.

    Args:
        cfg: frozen configuration.
        split_names: list of str; None = those of the config: what it needs must be there, the others may be.
        max_images: look into the features and tags of so many images only, drawn at random; 0 = of all.
        processes: how many read features.
        picture_files: dict image id as text -> path of its picture, where there are pictures.
        shown: images whose boxes are kept for drawing, such with a picture first.
        seed: of both draws.
    Returns:
        DatasetCheck.
    """
    start, findings, picture_files = time.perf_counter(), Findings(), picture_files or {}
    splits = check_captions(cfg, split_names, findings)
    images = images_of(splits)
    rng = np.random.default_rng(seed)
    chosen = _draw(rng, images, max_images) if 0 < max_images < len(images) else None
    looked_into = images if chosen is None else sorted(chosen, key=str)
    pictured = [image_id for image_id in looked_into if str(image_id) in picture_files]
    show = _draw(rng, pictured or looked_into, shown)
    files = _check_files(Scope(cfg, findings, processes, chosen, show), splits)
    _check_equal_features(files, images, findings)
    features, tags = [image for file in files for image in file.features], TagFigures()
    for file in files:
        tags += file.tags
    check_picture_sizes(tags.sizes, picture_files, findings)
    captions, tag_text, rows = check_text(cfg, splits, chosen, tags.tags, findings)
    regions = {image.key: image.count for image in features}
    return DatasetCheck(
        findings=findings,
        splits=splits,
        images=images,
        chosen=chosen,
        regions=regions,
        negative=sum(image.negative for image in features) / max(1, len(features)),
        norm=sum(image.norm for image in features) / max(1, sum(regions.values())),
        tags=tags.tags,
        classes=tags.classes,
        tag_counts=list(tags.counts),
        drawings=tags.drawings,
        marked=tags.marked,
        agreement=tuple(map(sum, zip((0, 0), *(file.agreement for file in files), strict=True))),
        other_rows=sum(file.other_rows for file in files),
        stores=[file.store for file in files if file.store],
        captions=captions,
        tag_text=tag_text,
        rows=rows,
        read_bytes=sum(file.read_bytes for file in files),
        seconds=time.perf_counter() - start,
    )


def _draw(rng, image_ids, count):
    ids = list(image_ids)
    return {ids[index] for index in rng.choice(len(ids), min(count, len(ids)), replace=False)}


def _check_files(scope, splits):
    """Check the features and tags of every split, splits that share a file together: list of FileFigures."""
    cfg, findings, by_path = scope.cfg, scope.findings, defaultdict(list)
    for split in splits:
        try:
            path = find_regions(cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE)
            by_path[str(path)].append(split)
        except DataError as error:
            file, text = file_and_text(error)
            findings.add("missing_file", file, f"split {split.name!r}: {text}")
    files = []
    for path, users in by_path.items():
        if path.endswith(".tsv"):
            found = [check_published(scope, path, users)]
        else:
            found = [check_other_layout(scope, path, split) for split in users]
        if not path.endswith(".packed"):
            found[0].store = check_store(scope, path, [image.key for file in found for image in file.features])
        files += found
    limit = cfg.INPUT.MAX_REGION
    for file in files:
        for image in file.features:
            if image.count > limit:
                text = f"image {image.key}: {image.count} regions; {limit} are kept"
                findings.add("regions_cut", file.path, text)
    return files


def _check_equal_features(files, images, findings):
    """Images with the same values: in two splits they are a leak."""
    owners = {}
    for file in files:
        for key, mark in ((image.key, image.checksum) for image in file.features):
            other = owners.setdefault(mark, key)
            if other != key and key in images and other in images:
                kind = "leak_features" if images[key] != images[other] else "same_features"
                where = f"image {other} of {images[other]} and image {key} of {images[key]}"
                findings.add(kind, file.path, where)
