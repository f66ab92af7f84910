"""Checks a data set as a config names it: what is wrong, where, and what to do; and the figures of what is there.

Everything is read, whatever is damaged: findings are collected (findings.py), nothing stops at the first. The steps:
captions and lists (captions.py), features and tags in the published layout (published.py) or another (sources.py), what
files say of each other (here), word pieces (text.py).
"""

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.checks.captions import check_captions
from oscar_paddle.datasets.checks.figures import KEPT_DRAWINGS, Figures, Scope
from oscar_paddle.datasets.checks.findings import Findings, file_and_text
from oscar_paddle.datasets.checks.published import check_published
from oscar_paddle.datasets.checks.rows import BOX_TOLERANCE
from oscar_paddle.datasets.checks.sources import check_other_layout, check_store
from oscar_paddle.datasets.checks.text import RowLengths, TextFigures, check_text
from oscar_paddle.datasets.regions.layouts import find_regions
from oscar_paddle.datasets.tensorize import TextBuilder

MOST_PICTURES = 5000  # opened for their size; a file of swapped sizes or other pictures shows long before


@dataclass(kw_only=True)
class DatasetCheck(Figures):
    """What was found in a data set: the figures of all its features and tags, and this.

    Attributes:
        findings: Findings.
        splits: list of Split, those that could be read. images: dict image id -> name of its (first) split.
        chosen: set of image ids that were looked into, or None for all.
        regions: dict image id -> regions it has. negative: share of the images whose first region has a negative
            value. norm: mean L2 norm of the regions.
        agreement: (images whose first box is the same in features and tags, images compared).
        captions, tag_text: TextFigures or None. rows: RowLengths or None.
        seconds: the whole check.
    """

    findings: Findings
    splits: list
    images: dict
    chosen: set | None
    regions: dict
    negative: float
    norm: float
    agreement: tuple
    captions: TextFigures | None
    tag_text: TextFigures | None
    rows: RowLengths | None
    seconds: float


class Reading(NamedTuple):
    """How a task's captions, regions and tags are read.

    Attributes:
        captions: function as `check_captions`. files: function as `check_files`.
        text: TextBuilder, or None for that of captions with tags behind them.
    """

    captions: object
    files: object
    text: object = None


def check_dataset(cfg, split_names=None, max_images=0, processes=1, picture_files=None, shown=12, seed=0, reading=None):
    """Check the data set that a config names. Writes nothing.

    Args:
        cfg: frozen configuration.
        split_names: list of str; None = those of the config: what it needs must be there, the others may be.
        max_images: look into the features and tags of so many images only, drawn at random; 0 = of all.
        processes: how many read features.
        picture_files: dict image id as text -> path of its picture, where there are pictures.
        shown: images whose boxes are kept for drawing, such with a picture first.
        seed: of both draws.
        reading: Reading; None: that of retrieval.
    Returns:
        DatasetCheck.
    """
    start, findings, picture_files = time.perf_counter(), Findings(), picture_files or {}
    reading = reading or Reading(check_captions, check_files)
    splits, images = reading.captions(cfg, split_names, findings), {}
    for split in splits:
        images.update((image_id, split.name) for image_id in split.images if image_id not in images)
    rng = np.random.default_rng(seed)
    chosen = draw(rng, images, max_images) if 0 < max_images < len(images) else None
    looked_into = images if chosen is None else sorted(chosen, key=str)
    pictured = [image_id for image_id in looked_into if str(image_id) in picture_files]
    show = draw(rng, pictured or looked_into, shown)
    files, total = reading.files(Scope(cfg, findings, processes, chosen, show), splits), Figures()
    agreement = check_images(files, images, cfg.INPUT.MAX_REGION, findings)
    for _, figures in files:
        total += figures
    total.marked = dict(list(total.marked.items())[:KEPT_DRAWINGS])
    _check_picture_sizes(total.sizes, picture_files, findings)
    text = reading.text or TextBuilder(0, 0, cfg.INPUT.MAX_SEQ_LEN)
    captions, tag_text, rows = check_text(cfg, splits, chosen, total.tags, findings, text)
    regions = {image.key: image.count for image in total.features}
    return DatasetCheck(
        **vars(total),
        findings=findings,
        splits=splits,
        images=images,
        chosen=chosen,
        regions=regions,
        negative=sum(image.negative for image in total.features) / max(1, len(total.features)),
        norm=sum(image.norm for image in total.features) / max(1, sum(regions.values())),
        agreement=agreement,
        captions=captions,
        tag_text=tag_text,
        rows=rows,
        seconds=time.perf_counter() - start,
    )


def draw(rng, image_ids, count):
    """Set of so many of the image ids, drawn at random."""
    ids = list(image_ids)
    return {ids[index] for index in rng.choice(len(ids), min(count, len(ids)), replace=False)}


def check_files(scope, splits):
    """Check the features and tags of every split, splits that share a file together: [(path, Figures), ...]."""
    cfg, by_path, files = scope.cfg, defaultdict(list), []
    for split in splits:
        try:
            path = find_regions(cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE)
            by_path[str(path)].append(split)
        except DataError as error:
            file, text = file_and_text(error)
            scope.findings.add("missing_file", file, f"split {split.name!r}: {text}")
    for path, users in by_path.items():
        if path.endswith(".tsv"):
            found = [check_published(scope, path, users)]
        else:
            found = [check_other_layout(scope, path, split) for split in users]
        if not path.endswith(".packed"):
            store = check_store(scope, path, [image.key for figures in found for image in figures.features])
            found[0].stores += [store] if store else []
        files += [(path, figures) for figures in found]
    return files


def check_images(files, images, limit, findings):
    """Compare what the features say of the images (dict image id -> split), and what the tags say: see
    `DatasetCheck.agreement`."""
    owners, agreement = {}, []
    for path, figures in files:
        for image in figures.features:
            key = image.key
            if image.count > limit:
                findings.add("regions_cut", path, f"image {key}: {image.count} regions; {limit} are kept")
            other = owners.setdefault(image.checksum, key)  # the same values: in two splits they are a leak
            if other != key and key in images and other in images:
                kind = "leak_features" if images[key] != images[other] else "same_features"
                findings.add(kind, path, f"image {other} of {images[other]} and image {key} of {images[key]}")
            boxes = image.corners, figures.boxes.get(key)
            if None not in boxes:  # the same box shows that both come from one run of the detector
                agreement.append(max(abs(a - b) for a, b in zip(*boxes, strict=True)) <= 2 * BOX_TOLERANCE)
                if not agreement[-1]:
                    shown = [", ".join(f"{value:.3f}" for value in box) for box in boxes]
                    findings.add("boxes_differ", path, f"image {key}: ({shown[0]}) and ({shown[1]}) of the picture")
    return sum(agreement), len(agreement)


def _check_picture_sizes(sizes, files, findings):
    """Pictures (image id as text -> path) against the (height, width) that the rows of tags say, by image id."""
    here = [image_id for image_id in sizes if str(image_id) in files][:MOST_PICTURES]
    for image_id in tqdm(here, desc="checking sizes of pictures", unit=" pictures", delay=1, leave=False):
        path, (height, width) = files[str(image_id)], sizes[image_id]
        try:
            with Image.open(path) as image:  # reads the head of the file only; as it lies, not turned by EXIF
                found = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            findings.add("unreadable", path, f"no picture ({error})")
            continue
        if found != (width, height):
            text = f"image {image_id}: {found[0]} x {found[1]} pixels; its row of tags says {width:g} x {height:g}"
            findings.add("picture_size", path.parent, text)
    missing = len(sizes) - sum(str(image_id) in files for image_id in sizes)
    if files and missing and here:
        folder = next(iter(files.values())).parent
        findings.add("no_picture", folder, f"{missing:,} of {len(sizes):,} images", count=missing)
