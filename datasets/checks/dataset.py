"""Checks a data set as a config names it: what is wrong, where, and what to do; and the figures of what is there.

Everything is read, whatever is damaged: findings are collected (check_findings.py), nothing stops at the first. The
parts: captions and lists (check_captions.py), the published layout (check_published.py) or the other layouts
(check_sources.py), word pieces (check_text.py).
"""

import os
import sys
import time
from collections import Counter, defaultdict

import numpy as np
from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import read_names
from oscar_paddle.datasets.checks.captions import (
    caption_file,
    check_candidates,
    check_key_list,
    check_leaks,
    read_split,
)
from oscar_paddle.datasets.checks.findings import Findings
from oscar_paddle.datasets.checks.pictures import check_picture_sizes
from oscar_paddle.datasets.checks.published import check_features_tsv, check_predictions_tsv, compare_first_boxes
from oscar_paddle.datasets.checks.rows import BOX_TOLERANCE
from oscar_paddle.datasets.checks.sources import check_features, check_store, check_tags
from oscar_paddle.datasets.checks.text import MANY_UNKNOWN, RowLengths, measure
from oscar_paddle.datasets.regions.layouts import find_regions, open_regions
from oscar_paddle.datasets.tokenization import VOCAB_FILE, build_tokenizer


class DatasetCheck:
    """What was found in a data set.

    Attributes:
        findings: Findings.
        splits: list of Split, those that could be read.
        chosen: set of image ids that were looked into, or None for all.
        regions: dict image id -> regions it has. classes: Counter of tag classes (words, in layouts that keep no
        classes apart). tag_counts: list of int, tags of each image. tags: dict image id -> tag string.
        captions, tag_text: TextFigures or None; rows: RowLengths or None.
        negative: share of the sampled regions with a negative value, or None; norm: mean L2 norm of the regions.
        agreement: (images whose first box is the same in features and tags, images compared).
        other_rows: rows of features.tsv that belong to no checked split.
        sizes, drawings, marked: see TagSummary.
        stores: list of paths of packed stores that are read in place of their sources.
        read_bytes: int; seconds: float.
    """

    def __init__(self):
        self.findings, self.splits, self.chosen = Findings(), [], None
        self.regions, self.classes, self.tag_counts, self.tags = {}, Counter(), [], {}
        self.captions = self.tag_text = self.rows = self.negative = self.norm = None
        self.agreement, self.other_rows = (0, 0), 0
        self.sizes, self.drawings, self.marked, self.stores = {}, {}, {}, []
        self.read_bytes, self.seconds = 0, 0.0

    @property
    def images(self):
        """dict image id -> name of the (first) split it is in."""
        images = {}
        for split in self.splits:
            for image_id in [*split.captions, *split.damaged]:
                images.setdefault(image_id, split.name)
        return images


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
    start = time.perf_counter()
    check = DatasetCheck()
    _check_captions(check, cfg, split_names)
    images = check.images
    rng = np.random.default_rng(seed)
    if 0 < max_images < len(images):
        check.chosen = _draw(rng, images, max_images)
    looked_into = images if check.chosen is None else sorted(check.chosen, key=str)
    pictured = [image_id for image_id in looked_into if str(image_id) in (picture_files or {})]
    show = _draw(rng, pictured or looked_into, shown)
    summaries = _check_regions_and_tags(check, cfg, show, processes)
    _check_equal_features(check, summaries)
    check_picture_sizes(check.sizes, picture_files or {}, check.findings)
    for name in ("negative", "sampled", "norm"):
        setattr(check, name, sum(getattr(summary, name) for _, summary in summaries))
    if summaries:
        check.negative = check.negative / max(1, check.sampled)
        check.norm = check.norm / max(1, sum(check.regions.values()))
    _check_text(check, cfg)
    check.seconds = time.perf_counter() - start
    return check


def _draw(rng, image_ids, count):
    ids = list(image_ids)
    return {ids[index] for index in rng.choice(len(ids), min(count, len(ids)), replace=False)}


# ---- captions and lists ----


def _check_captions(check, cfg, split_names):
    findings, data_dir = check.findings, cfg.DATASET.DATA_DIR
    names, needed = _splits_of(cfg, split_names)
    for name in names:
        path, published = caption_file(data_dir, name)
        if name not in needed and published and not os.path.isfile(path):
            findings.add("no_check", path, f"no captions of split {name!r}, which this config does not need")
            continue
        split = read_split(data_dir, name, _captions_per_image(cfg, name), findings)
        if split is not None:
            check.splits.append(split)
    check_leaks(check.splits, cfg.DATASET.TRAIN, findings)
    evaluated = [split for split in check.splits if split.name != cfg.DATASET.TRAIN] or check.splits
    if cfg.EVAL.EVAL_IMG_KEYS_FILE:
        path = os.path.join(data_dir, cfg.EVAL.EVAL_IMG_KEYS_FILE)
        check_key_list(path, evaluated, findings, all_splits=not split_names)
    if cfg.EVAL.EVAL_CAPTION_INDEX_FILE:
        path = os.path.join(data_dir, cfg.EVAL.EVAL_CAPTION_INDEX_FILE)
        per_image = cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV
        check_candidates(path, evaluated, per_image, findings, all_splits=not split_names)


def _splits_of(cfg, split_names):
    """(names of the splits to check, names of those that must be there)."""
    if split_names:
        return list(dict.fromkeys(split_names)), set(split_names)
    data = cfg.DATASET
    names = list(dict.fromkeys(name for name in (data.TRAIN, data.DEV, data.TEST) if name))
    needed = set()
    if cfg.PRETRAINED.DIR:
        needed |= {data.TRAIN} | ({data.DEV} if cfg.MONITOR.EVAL_FREQ or cfg.MONITOR.EVAL_STEPS else set())
    if cfg.EVAL.CHECKPOINT_DIR:
        needed.add(data.TEST)
    return names, needed or set(names)


def _captions_per_image(cfg, name):
    """Captions that every image of a split must have. With candidate lists the DEV key is the length of those."""
    own = name == cfg.DATASET.TRAIN or not cfg.EVAL.EVAL_CROSS_IMAGE
    return cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_TRN if own else cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV


# ---- features and tags ----


def _check_regions_and_tags(check, cfg, show, processes):
    """Check what every split uses; splits that share a file are checked together.

    Returns:
        list of (path, FeatureSummary).
    """
    by_path = defaultdict(list)
    for split in check.splits:
        try:
            path = find_regions(cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE)
        except DataError as error:
            where, _, text = str(error).partition(": ")
            check.findings.add("missing_file", where, f"split {split.name!r}: {text}")
            continue
        by_path[str(path)].append(split)
    summaries = []
    for path, splits in by_path.items():
        if path.endswith(".tsv"):
            found = [_check_published(check, cfg, path, splits, show, processes)]
        else:
            found = [_check_other_layout(check, cfg, path, split, processes) for split in splits]
        summaries += [(path, summary) for summary in found if summary is not None]
        if not path.endswith(".packed"):
            keys = [key for summary in found if summary is not None for key in summary.keys]
            store = check_store(path, cfg.INPUT.IMG_FEATURE_DIM, cfg.DATASET.PACKED, keys, processes, check.findings)
            check.stores += [store] if store else []
    for _, summary in summaries:
        check.regions.update(zip(summary.keys, summary.counts, strict=True))
    limit = cfg.INPUT.MAX_REGION
    for path, summary in summaries:
        cut = [(key, count) for key, count in zip(summary.keys, summary.counts, strict=True) if count > limit]
        for key, count in cut:
            check.findings.add("regions_cut", path, f"image {key}: {count} regions; {limit} are kept")
    return summaries


def _check_published(check, cfg, path, splits, show, processes):
    images = {key: split.name for split in splits for key in [*split.captions, *split.damaged]}
    findings, dim = check.findings, cfg.INPUT.IMG_FEATURE_DIM
    summary, num_rows = check_features_tsv(path, images, check.chosen, dim, processes, findings)
    check.other_rows += max(0, num_rows - len(images))
    check.read_bytes += _size(path) if check.chosen is None else 0
    predictions = os.path.join(os.path.dirname(path), "predictions.tsv")
    if not cfg.INPUT.ADD_OD_LABEL and not os.path.isfile(predictions):
        return summary
    tags = check_predictions_tsv(predictions, images, check.chosen, show, processes, findings)
    if tags is None:
        return summary
    check.read_bytes += _size(predictions)
    check.classes.update(tags.classes)
    check.tag_counts += tags.counts
    for name in ("tags", "sizes", "drawings", "marked"):
        getattr(check, name).update(getattr(tags, name))
    if summary is not None:
        agree, compared = compare_first_boxes(path, summary, tags, 2 * BOX_TOLERANCE, findings)
        check.agreement = check.agreement[0] + agree, check.agreement[1] + compared
    return summary


def _check_other_layout(check, cfg, path, split, processes):
    images = [key for key in [*split.captions, *split.damaged] if check.chosen is None or key in check.chosen]
    options = {"feature_dim": cfg.INPUT.IMG_FEATURE_DIM, "cache_bytes": 0}
    options["packed"] = cfg.DATASET.PACKED if path.endswith(".packed") else "off"  # a store beside it comes later
    try:
        source = open_regions(
            cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE, **options
        )
    except DataError as error:
        check.findings.add("unreadable", path, str(error).removeprefix(f"{path}: "))
        return None
    if source.names_images:
        _use_names(source, cfg.DATASET.DATA_DIR, check.findings)
    if source.orders_images:
        for image_id in source.ids:
            if image_id not in split.captions:
                check.findings.add("no_captions", path, f"image {image_id} is not in split {split.name!r}")
    summary = check_features(source, split.name, images, processes, check.findings)
    check.read_bytes += sum(summary.counts) * cfg.INPUT.IMG_FEATURE_DIM * 4
    if not cfg.INPUT.ADD_OD_LABEL:
        return summary
    try:
        tags = source.open_tags(cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.OD_LABEL_TYPE)
    except DataError as error:
        where, _, text = str(error).partition(": ")
        check.findings.add("missing_file", where, text)
        return summary
    found, words = check_tags(tags, split.name, images, check.findings)
    check.tags.update(found)
    check.classes.update(words)
    check.tag_counts += [len(text.split()) for text in found.values()]
    return summary


def _use_names(source, data_dir, findings):
    try:
        source.use_names(read_names(data_dir))
    except DataError as error:
        where, _, text = str(error).partition(": ")
        findings.add("bad_list", where, text)


def _check_equal_features(check, summaries):
    """Images with the same values: in two splits they are a leak."""
    images, owners = check.images, {}
    for path, summary in summaries:
        for key, mark in zip(summary.keys, summary.marks, strict=True):
            other = owners.setdefault(mark, key)
            if other == key or key not in images or other not in images:
                continue
            leak = images[key] != images[other]
            where = f"image {other} of {images[other]} and image {key} of {images[key]}"
            check.findings.add("leak_features" if leak else "same_features", path, where)


def _size(path):
    return os.path.getsize(path) if os.path.isfile(path) else 0


# ---- text ----


def _check_text(check, cfg):
    tokenizer = _tokenizer(check, cfg)
    if tokenizer is None or not check.splits:
        return
    texts = {}
    for split in check.splits:
        for image_id, captions in split.captions.items():
            texts[image_id] = captions[: split.per_image]
    check.captions = measure(texts, tokenizer, "captions")
    with_tags = cfg.INPUT.ADD_OD_LABEL and check.tags
    tags = {image_id: [text] for image_id, text in check.tags.items()} if with_tags else {}
    check.tag_text = measure(tags, tokenizer, "tags") if tags else None
    path = check.splits[0].path
    for figures, name, where in ((check.captions, "captions", path), (check.tag_text, "tags", "object tags")):
        if figures is not None and figures.unknown_share > MANY_UNKNOWN:
            words = ", ".join(f"{word!r} ({count})" for word, count in figures.most_unknown()[:4])
            share = f"{100 * figures.unknown_share:.1f} % of the word pieces of the {name}"
            check.findings.add("unknown_pieces", where, f"{share} are unknown, as in {words}")
    counted = check.captions
    if check.chosen is not None and check.tag_text is not None:  # rows of the images whose tags were looked into
        counted = _only(counted, check.tag_text.lengths)
    check.rows = RowLengths(counted, check.tag_text, cfg.INPUT.MAX_SEQ_LEN)
    room = cfg.INPUT.MAX_SEQ_LEN - 2
    cut = [
        f"image {key} caption {number + 1}: {length} word pieces; {room} fit"
        for key, number, length in check.rows.first_cut
    ]
    if cut:
        check.findings.add_many("caption_cut", path, check.rows.captions_cut, cut)
    if check.rows.tags_cut:
        kept = f"{100 * check.rows.tag_pieces_kept / max(1, check.rows.tag_pieces):.1f} % of the tags' word pieces fit"
        check.findings.add_total("tags_cut", "object tags", check.rows.tags_cut, kept)


def _only(figures, keys):
    chosen = type(figures)()
    chosen.lengths = {key: lengths for key, lengths in figures.lengths.items() if key in keys}
    return chosen


def _tokenizer(check, cfg):
    """The tokenizer of the config, or None with a finding."""
    named = [
        (key, folder)
        for key, folder in (("PRETRAINED.DIR", cfg.PRETRAINED.DIR), ("EVAL.CHECKPOINT_DIR", cfg.EVAL.CHECKPOINT_DIR))
        if folder
    ]
    for _, folder in named:
        if os.path.isfile(os.path.join(folder, VOCAB_FILE)):
            source = folder
            break
    else:
        source = cfg.INPUT.BERT_MODEL
        if named and not os.path.isdir(named[0][1]):  # as long as the weights are not here, do not fetch anything
            key, folder = named[0]
            text = f"no such folder ({key}): word pieces and lengths of captions and tags"
            check.findings.add("no_check", folder, text)
            return None
    try:
        tokenizer = build_tokenizer(source, cfg.INPUT.DO_LOWER_CASE)
        tqdm.write("loading PaddleNLP for the word pieces", file=sys.stderr)
        tokenizer.encode("a first word, so that no progress bar waits for the import")
        return tokenizer
    except DataError as error:
        check.findings.add("no_check", str(source), f"word pieces and lengths of captions and tags: {error}")
        return None
