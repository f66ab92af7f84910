"""The figures of a checked data set beside what is known of VinVL's, and its distributions against the limits."""

from typing import NamedTuple

import numpy as np

# VinVL's detector (specs/region_features.md section 1): SCORE_THRESH 0.2 keeps 10 to 100 regions of an image, of 1594
# classes; its box feature is an average behind a ReLU, so never negative (section 5).
CLASSES = 1594
FEWEST, MOST = 10, 100
# The published features.tsv of COCO's 123,287 images has about 50 GB of base64, 2054 float32 a region.
MEAN_REGIONS = 50e9 / 123_287 / (2054 * 4 * 4 / 3)


class Row(NamedTuple):
    """One figure: its name, what it is here, and what it is for VinVL's published COCO data ("" = not known)."""

    name: str
    value: str
    vinvl: str = ""


class Histogram(NamedTuple):
    """A distribution of whole numbers.

    Attributes:
        title, unit: words for heading and axis.
        counts: [n] int64, how often each value 0 .. n - 1 occurs.
        limit: the value from which something is cut, or None; limit_name: the key that sets it.
        words: what follows from it, one sentence.
    """

    title: str
    unit: str
    counts: np.ndarray
    limit: int | None
    limit_name: str
    words: str


def figures(check, cfg):
    """[(heading, [Row, ...]), ...] of a DatasetCheck."""
    sections = [("Splits", _split_rows(check))]
    if check.regions:
        sections.append(("Regions", _region_rows(check, cfg)))
    if check.tag_counts:
        sections.append(("Tags", _tag_rows(check)))
    if check.captions is not None:
        sections.append(("Words", _word_rows(check, cfg)))
    return sections


def histograms(check, cfg):
    """Distributions of a DatasetCheck: list of Histogram."""
    found = []
    if check.regions:
        counts, limit = np.array(list(check.regions.values())), cfg.INPUT.MAX_REGION
        cut = int((counts > limit).sum())
        words = f"{_share(cut, len(counts))} images lose regions."
        found.append(_histogram("Regions of an image", "regions", counts, limit, "MAX_REGION", words))
    if check.rows is not None and len(check.rows.rows):
        limit = cfg.INPUT.MAX_SEQ_LEN
        captions = np.array([length for group in check.captions.lengths.values() for length in group])
        words = f"{_share(check.rows.captions_cut, len(check.rows.rows))} captions lose words."
        found.append(
            _histogram("Word pieces of a caption", "word pieces", captions, limit - 2, "MAX_SEQ_LEN - 2", words)
        )
        words = f"{_share(check.rows.tags_cut, len(check.rows.rows))} rows lose tags."
        found.append(
            _histogram("[CLS] caption [SEP] tags [SEP]", "positions", check.rows.rows, limit, "MAX_SEQ_LEN", words)
        )
    if check.tag_counts:
        found.append(_histogram("Tags of an image", "tags", np.array(check.tag_counts), None, "", ""))
    return found


def most_common_tags(check, count=20):
    """[(tag, how often), ...], the most frequent first."""
    return check.classes.most_common(count)


def _split_rows(check):
    rows = []
    for split in check.splits:
        captions = sum(map(len, split.captions.values()))
        rows.append(Row(f"{split.name}: images / captions", f"{len(split.captions):,} / {captions:,}"))
    if check.chosen is not None:
        rows.append(Row("looked into (features and tags)", f"{len(check.chosen):,} images, drawn at random"))
    if check.other_rows:
        rows.append(Row("rows of no checked split", f"{check.other_rows:,} (not looked into)"))
    return rows


def _region_rows(check, cfg):
    counts = np.array(list(check.regions.values()))
    limit = cfg.INPUT.MAX_REGION
    lost = int(np.maximum(counts - limit, 0).sum())
    mean = f"about {MEAN_REGIONS:.0f} (from the size of its file)"
    rows = [
        Row("regions of an image: mean", f"{counts.mean():.1f}", mean),
        Row("fewest / most", f"{counts.min()} / {counts.max()}", f"{FEWEST} / {MOST} at most (detector settings)"),
        Row(f"regions cut by MAX_REGION {limit}", f"{lost:,} of {counts.sum():,}"),
        Row("images with a negative value", _percent(check.negative), "none (behind a ReLU)"),
        Row("mean length of a region's vector", f"{check.norm:.1f}"),
    ]
    rows += [Row("read from the packed store", store) for store in check.stores]
    agree, compared = check.agreement
    if compared:
        rows.append(Row("first box the same as in the tags", f"{agree:,} of {compared:,} images"))
    return rows


def _tag_rows(check):
    counts = np.array(check.tag_counts)
    common = ", ".join(f"{name} {count:,}" for name, count in most_common_tags(check, 6))
    return [
        Row("tags of an image: mean", f"{counts.mean():.1f}", f"about {MEAN_REGIONS:.0f}, one for each region"),
        Row("fewest / most", f"{counts.min()} / {counts.max()}", f"{FEWEST} / {MOST} at most"),
        Row("different classes", f"{len(check.classes):,}", f"{CLASSES:,} at most"),
        Row("most frequent", common),
    ]


def _word_rows(check, cfg):
    rows = []
    for name, text in (("captions", check.captions), ("tags", check.tag_text)):
        if text is None or not text.pieces:
            continue
        lengths = np.array([length for group in text.lengths.values() for length in group])
        rows.append(Row(f"unknown word pieces, {name}", _share(text.unknown, text.pieces)))
        rows.append(Row(f"word pieces, {name}: mean / most", f"{lengths.mean():.1f} / {lengths.max()}"))
        if text.words:
            words = ", ".join(f"{word} {count:,}" for word, count in text.most_unknown())
            rows.append(Row(f"unknown words, {name}", words))
    if check.rows is not None and len(check.rows.rows):
        total, limit = len(check.rows.rows), cfg.INPUT.MAX_SEQ_LEN
        rows.append(Row(f"captions cut by MAX_SEQ_LEN {limit}", _share(check.rows.captions_cut, total)))
        if check.tag_text is not None:
            kept = check.rows.tag_pieces_kept / max(1, check.rows.tag_pieces)
            cut = f"{_share(check.rows.tags_cut, total)}; {_percent(kept)} of the tags' word pieces fit"
            rows.append(Row("rows that lose tags", cut))
    return rows


def _histogram(title, unit, values, limit, limit_name, words):
    return Histogram(title, unit, np.bincount(values), limit, limit_name, words)


def _share(part, whole):
    return f"{part:,} of {whole:,} ({_percent(part / max(1, whole))})"


def _percent(share):
    if share == 0:
        return "0 %"
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"
