"""The published layout: features.tsv and predictions.tsv with their index files, against the images of the splits."""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.figures import FileFigures
from oscar_paddle.datasets.checks.findings import without
from oscar_paddle.datasets.checks.index import check_index_files, id_map_of, line_index_of, rows_by_index
from oscar_paddle.datasets.checks.rows import BOX_TOLERANCE, FeatureChecker, TagChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_rows


def check_published(scope, path, splits):
    """Check the features.tsv that these splits use, and the predictions.tsv beside it: FileFigures."""
    images = {key: split.name for split in splits for key in split.images}
    wanted = set(images) if scope.chosen is None else scope.chosen
    predictions = os.path.join(os.path.dirname(path), "predictions.tsv")
    features, num_rows = _check_features(scope, path, images, wanted)
    found = FileFigures(path, features, other_rows=max(0, num_rows - len(images)))
    found.read_bytes = os.path.getsize(path) if scope.chosen is None else 0
    if os.path.isfile(predictions):  # always read as a whole: it is a hundredth of the features in size
        found.tags, _ = _check_rows(scope, predictions, TagChecker(wanted, scope.show), images)
        found.read_bytes += os.path.getsize(predictions)
        found.agreement = _compare_first_boxes(found, scope.findings)
    elif scope.cfg.INPUT.ADD_OD_LABEL:
        text = "no such file; it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for"
        scope.findings.add("missing_file", predictions, text)
    return found


def _check_features(scope, path, images, wanted):
    """([ImageRegions, ...], number of rows). With a choice of images, the rows are found through the index files where
    those can be right, and the file is not read as a whole."""
    checker, findings = FeatureChecker(scope.cfg.INPUT.IMG_FEATURE_DIM, wanted), scope.findings
    index = None if scope.chosen is None else rows_by_index(path, images)
    if index is None:
        return _check_rows(scope, path, checker, images)
    places, num_rows = index
    _check_presence("no_features", path, places, images, findings)
    figures = checker.new_figures()
    asked = sorted((places[key], key) for key in wanted if key in places)
    parts = scan_rows(path, [start for (_, start), _ in asked], checker, scope.processes)
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


def _check_rows(scope, path, checker, images):
    """Check a file as a whole, and its index files: (figures, number of rows)."""
    findings = scope.findings
    try:
        scan = scan_file(path, checker, scope.processes)
    except DataError as error:
        findings.add("unreadable", path, without(error, path))
        return checker.new_figures(), 0
    findings.merge(scan.findings)
    if not scan.keys:
        findings.add("unreadable", path, "the file has no rows")
        return scan.figures, 0
    rows = check_index_files(path, scan, checker.has_id_map, findings)
    _check_presence(checker.absence, path, rows, images, findings)
    return scan.figures, len(scan.keys)


def _check_presence(kind, path, rows, images, findings):
    for image_id, split in images.items():
        if image_id not in rows:
            findings.add(kind, path, f"image {image_id} of split {split!r}")


def _compare_first_boxes(found, findings):
    """(images whose first box is the same in features and tags, so from one run of the detector; images compared)."""
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
