"""Checks a data set of referring expressions as a config names it: annotations, both stores, every region.

As in dataset.py, findings are collected and nothing stops at the first.
"""

import time
from collections import Counter

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.checks.dataset import draw
from oscar_paddle.datasets.checks.figures import KEPT_DRAWINGS, Figures
from oscar_paddle.datasets.checks.findings import Findings, file_and_text
from oscar_paddle.datasets.checks.questions import QuestionCheck
from oscar_paddle.datasets.formats.reading import MissingFile
from oscar_paddle.datasets.refer.annotations import SPLITS, read_expressions
from oscar_paddle.datasets.refer_dataset import (
    POSITIVE,
    annotation_folder,
    check_detector,
    corners,
    iou,
    open_ground_truth,
    open_proposals,
)
from oscar_paddle.datasets.regions.source import EmptyImage


def check_refer(cfg, split_names=None, max_images=0, processes=1, seed=0):
    """Check the splits that a config names. Writes nothing.

    Args:
        split_names, max_images, seed: as for `check_dataset`. processes: one reads: the stores are on one disk.
    Returns:
        QuestionCheck.
    Raises:
        ConfigError: a split that the data set does not have.
    """
    start, findings = time.perf_counter(), Findings()
    wrong = [name for name in split_names or () if name not in SPLITS[cfg.REFER.SPLIT_BY]]
    if wrong:
        there = ", ".join(SPLITS[cfg.REFER.SPLIT_BY])
        raise ConfigError(f"--splits {wrong[0]}: refs({cfg.REFER.SPLIT_BY}).p has {there}")
    named = split_names or dict.fromkeys((cfg.DATASET.TRAIN, cfg.DATASET.DEV, cfg.DATASET.TEST))
    splits = {name: found for name in named if (found := _expressions(cfg, name, findings))}
    images, refs = {}, f"refs({cfg.REFER.SPLIT_BY}).p"
    for name, expressions in splits.items():
        _check_expressions(refs, name, expressions, findings)
        for image_id in dict.fromkeys(each.image_id for each in expressions):
            if images.setdefault(image_id, name) != name and "train" in (name, images[image_id]):
                text = f"image {image_id} is in {images[image_id]} and in {name}"
                findings.add("leak_id", refs, text)
    rng = np.random.default_rng(seed)
    chosen = draw(rng, images, max_images) if 0 < max_images < len(images) else None
    figures, regions = Figures(), {}
    proposals = _open(cfg, open_proposals, findings)
    if proposals is not None:
        _check_store(cfg, proposals, images, chosen, findings, figures, regions)
    annotated = _open(cfg, open_ground_truth, findings) if cfg.DATASET.TRAIN in splits else None
    if annotated is not None:
        trained = {image_id: name for image_id, name in images.items() if name == cfg.DATASET.TRAIN}
        _check_store(cfg, annotated, trained, chosen, findings)
    rows = [
        (f"{name}: images / expressions", f"{len({each.image_id for each in found}):,} / {len(found):,}", "")
        for name, found in splits.items()
    ]
    sections = [("RefExp splits", rows)]
    if regions:
        counts = np.array(list(regions.values()))
        shown = f"{counts.mean():.1f} / {counts.min()} / {counts.max()}"
        reached = [_reachable(proposals, found, regions) for found in splits.values()]
        words = "{}: a proposal meets"
        allowed = [
            (words.format(name), f"{100 * share:.1f} %", "") for name, share in zip(splits, reached, strict=True)
        ]
        sections.append(("Proposals", [("regions: mean / fewest / most", shown, ""), *allowed]))
    return QuestionCheck(
        **vars(figures),
        findings=findings,
        sections=sections,
        images=images,
        chosen=chosen,
        regions=regions,
        seconds=time.perf_counter() - start,
    )


def _expressions(cfg, name, findings):
    try:
        return read_expressions(annotation_folder(cfg), cfg.REFER.SPLIT_BY, name)[0]
    except DataError as error:
        kind, (path, text) = "missing_file" if isinstance(error, MissingFile) else "unreadable", file_and_text(error)
        findings.add(kind, path, f"split {name!r}: {text}")


def _check_expressions(refs, split, expressions, findings):
    """Texts, objects and ids of a split's expressions."""
    times = Counter(each.sent_id for each in expressions)
    for sent_id, count in times.items():
        if count > 1:
            findings.add("repeated_expression", refs, f"sent_id {sent_id} of split {split!r}: {count} times")
    for each in expressions:
        if not each.text.strip():
            findings.add("blank_expression", refs, f"sent_id {each.sent_id} of split {split!r}: {each.text[:20]!r}")
    for ann_id, each in {each.ann_id: each for each in expressions}.items():
        if 0 in each.box[2:]:
            text = f"annotation {ann_id} (of ref_id {each.ref_id} of split {split!r}): {list(each.box)}"
            findings.add("flat_object", "instances.json", text)


def _open(cfg, open_store, findings):
    try:
        store = open_store(cfg)
        check_detector(cfg, [store])
        return store
    except DataError as error:
        path, text = file_and_text(error)
        findings.add("missing_file" if isinstance(error, MissingFile) else "unreadable", path, text)


def _check_store(cfg, store, images, chosen, findings, figures=None, regions=None):
    """Every region of the images; of proposals also the figures, and boxes to draw."""
    for image_id, split in tqdm(images.items(), "reading regions", delay=2, unit=" images"):
        if image_id not in store:
            findings.add("no_features", store.path, f"image {image_id} of split {split!r}")
            continue
        if chosen is not None and image_id not in chosen:
            continue
        try:
            found = store[image_id]
        except EmptyImage:
            kind = "empty_image" if cfg.DATASET.EMPTY_IMAGES == "error" else "skipped_image"
            findings.add(kind, store.path, f"image {image_id}")
            continue
        except DataError as error:
            findings.add("not_finite" if "NaN" in str(error) else "bad_row", store.path, error)
            continue
        _check_boxes(store, image_id, found, findings)
        if found.features.shape[1] != cfg.INPUT.IMG_FEATURE_DIM:
            findings.add("width", store.path, f"image {image_id}: {found.features.shape[1]} values")
        if regions is not None:
            regions[image_id] = len(found.boxes)
            figures.read_bytes += found.nbytes
            if len(found.boxes) + 1 > cfg.INPUT.MAX_REGION:
                findings.add("regions_cut", store.path, f"image {image_id}: {len(found.boxes)} and the whole picture")
            if len(figures.drawings) < KEPT_DRAWINGS:
                boxes = [(str(number), box) for number, box in enumerate(found.boxes.tolist(), start=1)]
                figures.drawings[image_id] = boxes, found.height, found.width


def _check_boxes(store, image_id, found, findings):
    kinds = Counter()
    kinds["box_inverted"] = int((found.boxes[:, 2:] < found.boxes[:, :2]).any(axis=1).sum())
    size = [found.width, found.height]
    kinds["box_outside"] = int(((found.boxes[:, :2] < -1) | (found.boxes[:, 2:] > np.add(size, 2))).any(axis=1).sum())
    kinds["box_flat"] = int((found.boxes[:, 2:] == found.boxes[:, :2]).any(axis=1).sum())
    kinds["zero_region"] = int((found.features == 0).all(axis=1).sum())
    for kind, count in kinds.items():
        if count:
            findings.add(kind, store.path, f"image {image_id}: {count} of {len(found.boxes)} regions", count=count)


def _reachable(proposals, expressions, regions):
    """Share of the expressions (about images that were read) of which some proposal counts as the object."""
    hits = [
        bool((iou(proposals[each.image_id].boxes, corners(each.box)) > POSITIVE).any())
        for each in expressions
        if each.image_id in regions
    ]
    return float(np.mean(hits)) if hits else 0.0
