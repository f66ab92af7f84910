"""The published layout: features.tsv and predictions.tsv with their index files, against the images of the splits."""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.figures import FileFigures
from oscar_paddle.datasets.checks.findings import without
from oscar_paddle.datasets.checks.index import (
    check_id_map,
    check_ids,
    check_line_index,
    id_map_of,
    line_index_of,
    rows_by_index,
)
from oscar_paddle.datasets.checks.rows import BOX_TOLERANCE, FeatureChecker, TagChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_rows


def check_published(cfg, path, splits, chosen, show, processes, findings):
    """Check features.tsv and the predictions.tsv beside it.

    Args:
        cfg: frozen configuration.
        path: features.tsv.
        splits: list of Split, those that use it.
        chosen: set of image ids to look into; None = all.
        show: set of image ids whose boxes are kept for drawing.
        processes: how many to use.
        findings: Findings to add to.
    Returns:
        FileFigures.
    """
    images = {key: split.name for split in splits for key in split.images}
    wanted = set(images) if chosen is None else chosen
    features, num_rows = _check_features(cfg, path, images, wanted, chosen is None, processes, findings)
    found = FileFigures(path, features, other_rows=max(0, num_rows - len(images)))
    found.read_bytes = os.path.getsize(path) if chosen is None else 0
    predictions = os.path.join(os.path.dirname(path), "predictions.tsv")
    if os.path.isfile(predictions):
        # Always read as a whole: it is a hundredth of the features in size.
        found.tags, _ = _check_rows(predictions, TagChecker(wanted, show), images, processes, findings)
        found.read_bytes += os.path.getsize(predictions)
        found.agreement = _compare_first_boxes(found, findings)
    elif cfg.INPUT.ADD_OD_LABEL:
        text = "no such file; it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for"
        findings.add("missing_file", predictions, text)
    return found


def _check_features(cfg, path, images, wanted, whole, processes, findings):
    """([ImageRegions, ...], number of rows). With a choice of images, the rows are found through the index files where
    those can be right, and the file is not read as a whole."""
    checker = FeatureChecker(cfg.INPUT.IMG_FEATURE_DIM, wanted)
    index = None if whole else rows_by_index(path, images)
    if index is None:
        return _check_rows(path, checker, images, processes, findings)
    places, num_rows = index
    _check_presence("no_features", path, places, images, findings)
    figures = checker.new_figures()
    asked = sorted((places[key], key) for key in wanted if key in places)
    parts = scan_rows(path, [start for (_, start), _ in asked], checker, processes)
    for part, ((row, start), key) in zip(parts, asked, strict=True):
        if not part.starts:
            text = f"no row starts at byte {start}, where image {key} should be"
            findings.add("lineidx", line_index_of(path), text, row)
        elif part.keys[0] != key:
            text = f"row {row} (counted from 0) is image {part.keys[0]}, the map says {key}"
            findings.add("id_map", id_map_of(path), text)
        else:
            findings.merge(part.findings, row)
            figures += part.figures
    return figures, num_rows


def _check_rows(path, checker, images, processes, findings):
    """Check a file as a whole, and its index files: (figures, number of rows)."""
    try:
        scan = scan_file(path, checker, processes)
    except DataError as error:
        findings.add("unreadable", path, without(error, path))
        return checker.new_figures(), 0
    scan.drop_blank_end()
    findings.merge(scan.findings)
    if not scan.keys:
        findings.add("unreadable", path, "the file has no rows")
        return scan.figures, 0
    rows = check_ids(path, scan, findings)
    check_line_index(path, scan, findings)
    if checker.has_id_map:
        check_id_map(path, rows, findings)
    _check_presence(checker.absence, path, rows, images, findings)
    return scan.figures, len(scan.keys)


def _check_presence(kind, path, rows, images, findings):
    for image_id, split in images.items():
        if image_id not in rows:
            findings.add(kind, path, f"image {image_id} of split {split!r}")


def _compare_first_boxes(found, findings):
    """Whether features and tags of an image come from the same run of the detector, judged by the first box.

    Returns:
        (images whose first boxes agree, images compared).
    """
    agree = compared = 0
    for image in found.features:
        own, other = image.corners, found.tags.boxes.get(image.key)
        if own is None or other is None:
            continue
        compared += 1
        if max(abs(a - b) for a, b in zip(own, other, strict=True)) <= 2 * BOX_TOLERANCE:
            agree += 1
        else:
            shown = [", ".join(f"{value:.3f}" for value in box) for box in (own, other)]
            text = f"image {image.key}: ({shown[0]}) and ({shown[1]}) of the picture"
            findings.add("boxes_differ", found.path, text)
    return agree, compared
