"""The report of a data set check: as text for a terminal, and as a page with histograms, pictures, boxes and tags."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.captions.own_pictures import read_names
from oscar_paddle.tools.pages.charts import histogram
from oscar_paddle.tools.pages.page import render, write_page
from oscar_paddle.tools.pages.pictures import Pictures, draw_boxes, scaled

# VinVL's detector (docs/reference.md, detector): SCORE_THRESH 0.2 keeps 10 to 100 regions of an image, of 1594
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


def find_pictures(images, data_dir):
    """The Pictures for a page, or None, of the folder that the user names; "" = DATA_DIR/../images, if that has some.

    Raises:
        ConfigError: the named folder is none, or holds no pictures.
    """
    try:
        names = read_names(data_dir)
    except DataError:
        names = {}  # the checker itself reports it
    try:
        return Pictures(images or Path(data_dir).parent / "images", names=names)
    except DataError as error:
        if images:
            raise ConfigError(str(error)) from None
        return None


def write_dataset_page(path, check, cfg, cfg_file, pictures=None):
    """Write the HTML page of a DatasetCheck made with `cfg`, which `cfg_file` names; pictures: Pictures or None."""
    report, charts = _report(check, cfg, cfg_file), histograms(check, cfg)
    sections = [
        ("problems", "Problems", report["problems"]),
        ("notices", "Notices", report["notices"]),
        ("figures", "Figures", True),
        ("distributions", "Distributions", charts),
        ("tags", "Most frequent tags", check.classes),
        ("wrong_boxes", "Images whose boxes are wrong", check.marked),
        ("images", "Images, drawn at random", check.drawings),
    ]
    page = render(
        "dataset.html",
        title=f"Data set check: {cfg.DATASET.NAME}",
        sections=[(key, heading) for key, heading, is_there in sections if is_there],
        has_boxes=False,  # those of the samples always show
        charts=charts,
        tags=check.classes.most_common(30),
        marked=[_sample(check, image_id, found, pictures) for image_id, found in check.marked.items()],
        drawings=[_sample(check, image_id, found, pictures) for image_id, found in check.drawings.items()],
        **report,
    )
    return write_page(path, page)


def _sample(check, image_id, found, pictures):
    """An image as the page shows it, with its boxes, tags and captions; `found` is what `draw_boxes` takes."""
    sample = {"image_id": image_id, "thumbnail": None, "problem": ""}
    if pictures is not None and str(image_id) in pictures.files:
        try:
            sample["thumbnail"] = pictures.thumbnail(image_id)
        except DataError as error:
            sample["problem"] = str(error)
    split = next((split for split in check.splits if image_id in split.captions), None)
    boxes, height, width = found
    size, regions = "" if height is None else f"{width:g} x {height:g}, ", check.regions.get(image_id, "no")
    if height is None:
        _, width, height = sample["thumbnail"] or (None, 1000, 750)
        boxes = scaled(boxes, height, width)
    sample["drawing"] = draw_boxes(boxes, height, width)
    sample["where"] = f"{image_id}, {split.name if split else 'no split'}, {size}{regions} regions"
    sample["captions"] = split.captions[image_id][:2] if split else []
    sample["tags"] = check.tags.get(image_id, "")
    return sample


def report_text(check, cfg, cfg_file):
    """The whole report of a DatasetCheck for a terminal; arguments as for the page."""
    return render("dataset.txt", name=cfg.DATASET.NAME, **_report(check, cfg, cfg_file))


def _report(check, cfg, cfg_file):
    """What the report says, in whatever form."""
    return {
        "cfg_file": cfg_file,
        "figures": figures(check, cfg),
        "problems": check.findings.groups(True),
        "notices": check.findings.groups(False),
        "place": lambda example: "" if example.row is None else f"row {example.row + 1}: ",
        "verdict": verdict(check),
        "effort": effort(check),
    }


def verdict(check):
    """One sentence: how many problems there are."""
    problems, notices = check.findings.total(True), check.findings.total(False)
    also = f"; {_count(notices, 'notice')}" if notices else ""
    if not problems:
        looked = "" if check.chosen is None else f" among {len(check.chosen):,} images that were looked into"
        return f"No problems{looked}{also}."
    return f"{_count(problems, 'problem')} of {_count(len(check.findings.groups(True)), 'kind')}{also}."


def effort(check):
    """One sentence: what was read, in which time."""
    gigabytes = check.read_bytes / 1e9
    speed = f" at {check.read_bytes / 1e6 / max(check.seconds, 1e-3):,.0f} MB/s" if check.read_bytes > 1e8 else ""
    images = len(check.images) if check.chosen is None else len(check.chosen)
    minutes, rest = divmod(int(check.seconds), 60)
    taken = f"{minutes} min {rest} s" if minutes else f"{check.seconds:.1f} s"
    return f"Checked {images:,} images, {gigabytes:.2f} GB{speed}, in {taken}."


def _count(number, word):
    return f"{number:,} {word}{'s' * (number != 1)}"


def figures(check, cfg):
    """The figures of a data set beside what is known of VinVL's: [(heading, [Row, ...]), ...] of a DatasetCheck."""
    if hasattr(check, "sections"):  # of a task that words its figures itself
        return [(heading, [Row(*row) for row in rows]) for heading, rows in check.sections]
    sections = [("Splits", _split_rows(check))]
    sections += [("Regions", _region_rows(check, cfg))] if check.regions else []
    sections += [("Tags", _tag_rows(check))] if check.tag_counts else []
    return sections + ([("Words", _word_rows(check))] if check.captions is not None else [])


def histograms(check, cfg):
    """The distributions of a DatasetCheck against the limits: list of Chart."""
    charts = []
    if check.regions:
        counts, limit = np.array(list(check.regions.values())), cfg.INPUT.MAX_REGION
        words = f"{_share(int((counts > limit).sum()), len(counts))} images lose regions."
        charts.append(histogram("Regions of an image", words, "regions", counts, limit, "MAX_REGION"))
    if check.rows is not None and len(check.rows.rows):
        rows, limit = check.rows, cfg.INPUT.MAX_SEQ_LEN
        words = f"{_share(rows.captions_cut, len(rows.rows))} captions lose words."
        lengths, (room, key) = _lengths(check.captions), rows.caption_room
        name = f"{key.partition('.')[2]} - 2"
        charts.append(histogram("Word pieces of a caption", words, "word pieces", lengths, room - 2, name))
        words = f"{_share(rows.tags_cut, len(rows.rows))} rows lose tags."
        title = "[CLS] caption [SEP] tags [SEP]"
        charts.append(histogram(title, words, "positions", rows.rows, limit, "MAX_SEQ_LEN"))
    if check.tag_counts:
        charts.append(histogram("Tags of an image", "", "tags", np.array(check.tag_counts)))
    return charts


def _split_rows(check):
    counts = ((split.name, len(split.captions), sum(map(len, split.captions.values()))) for split in check.splits)
    rows = [Row(f"{name}: images / captions", f"{images:,} / {captions:,}") for name, images, captions in counts]
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
    return [
        Row("tags of an image: mean", f"{counts.mean():.1f}", f"about {MEAN_REGIONS:.0f}, one for each region"),
        Row("fewest / most", f"{counts.min()} / {counts.max()}", f"{FEWEST} / {MOST} at most"),
        Row("different classes", f"{len(check.classes):,}", f"{CLASSES:,} at most"),
        Row("most frequent", _most(check.classes.most_common(6))),
    ]


def _word_rows(check):
    rows = []
    for name, text in (("captions", check.captions), ("tags", check.tag_text)):
        if text is None or not text.pieces:
            continue
        lengths = _lengths(text)
        rows.append(Row(f"unknown word pieces, {name}", _share(text.unknown, text.pieces)))
        rows.append(Row(f"word pieces, {name}: mean / most", f"{lengths.mean():.1f} / {lengths.max()}"))
        if text.words:
            rows.append(Row(f"unknown words, {name}", _most(text.most_unknown())))
    if check.rows is not None and len(check.rows.rows):
        total, (room, key) = len(check.rows.rows), check.rows.caption_room
        rows.append(Row(f"captions cut by {key.partition('.')[2]} {room}", _share(check.rows.captions_cut, total)))
        if check.tag_text is not None:
            kept = check.rows.tag_pieces_kept / max(1, check.rows.tag_pieces)
            cut = f"{_share(check.rows.tags_cut, total)}; {_percent(kept)} of the tags' word pieces fit"
            rows.append(Row("rows that lose tags", cut))
    return rows


def _lengths(text):
    return np.array([length for group in text.lengths.values() for length in group])


def _most(counts):
    return ", ".join(f"{word} {count:,}" for word, count in counts)


def _share(part, whole):
    return f"{part:,} of {whole:,} ({_percent(part / max(1, whole))})"


def _percent(share):
    if share == 0:
        return "0 %"
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"
