"""The published layout: features.tsv and predictions.tsv with their index files, against the images of the splits."""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.index import check_id_map, check_ids, check_line_index, drop_blank_end, rows_by_index
from oscar_paddle.datasets.checks.rows import FeatureChecker, TagChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_rows


def check_features_tsv(path, images, chosen, feature_dim, processes, findings):
    """Check features.tsv, features.lineidx and imageid2idx.json.

    Args:
        path: features.tsv.
        images: dict image id -> name of its split, all that must be there.
        chosen: set of image ids to look into; None = all of `images`. With a choice, the rows are found through the
            index files where those can be right, and the file is not read as a whole.
        feature_dim: INPUT.IMG_FEATURE_DIM.
        processes: how many to use.
        findings: Findings to add to.
    Returns:
        (FeatureSummary, number of rows).
    """
    places = rows_by_index(path, images) if chosen is not None else None
    if places is not None:
        return _check_chosen_rows(path, images, chosen, places, feature_dim, processes, findings)
    scan = _scan(path, FeatureChecker(feature_dim, set(images) if chosen is None else chosen), processes, findings)
    if scan is None:
        return None, 0
    rows = check_ids(path, scan, findings)
    check_line_index(path, scan, findings)
    check_id_map(path, rows, len(scan.keys), findings)
    _check_presence("no_features", path, rows, images, findings)
    return scan.summary, len(scan.keys)


def _check_chosen_rows(path, images, chosen, index, feature_dim, processes, findings):
    """A quick look: the rows of the chosen images, where the index files say they are."""
    places, num_rows = index
    _check_presence("no_features", path, places, images, findings)
    asked = sorted((places[key], key) for key in chosen if key in places)
    checker = FeatureChecker(feature_dim, chosen)
    summary = checker.new_summary()
    folder = os.path.dirname(str(path))
    line_index, id_map = os.path.splitext(str(path))[0] + ".lineidx", os.path.join(folder, "imageid2idx.json")
    parts = scan_rows(path, [start for (_, start), _ in asked], checker, processes)
    for part, ((row, start), key) in zip(parts, asked, strict=True):
        if not part.starts:
            findings.add("lineidx", line_index, f"no row starts at byte {start}, where image {key} should be", row)
        elif part.keys[0] != key:
            findings.add("id_map", id_map, f"row {row} (counted from 0) is image {part.keys[0]}, the map says {key}")
        else:
            findings.merge(part.findings, row)
            summary.merge(part.summary)
    return summary, num_rows


def check_predictions_tsv(path, images, chosen, show, processes, findings):
    """Check predictions.tsv and predictions.lineidx.

    Args:
        path: predictions.tsv; a missing one is a finding.
        images, chosen: as for `check_features_tsv`; the file is always read as a whole, it is a hundredth in size.
        show: set of image ids whose boxes are kept for drawing.
    Returns:
        TagSummary, or None if there is nothing to read.
    """
    if not os.path.isfile(path):
        text = "no such file; it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for"
        findings.add("missing_file", path, text)
        return None
    scan = _scan(path, TagChecker(set(images) if chosen is None else chosen, show), processes, findings)
    if scan is None:
        return None
    rows = check_ids(path, scan, findings)
    check_line_index(path, scan, findings)
    _check_presence("no_tag_row", path, rows, images, findings)
    return scan.summary


def compare_first_boxes(features_path, features, tags, tolerance, findings):
    """Whether features and tags of an image come from the same run of the detector, judged by the first box.

    Returns:
        (images whose first boxes agree, images compared).
    """
    agree = compared = 0
    for number, key in enumerate(features.keys):
        other = tags.boxes.get(key)
        own = features.boxes[4 * number : 4 * number + 4]
        if other is None or own[0] != own[0]:
            continue
        compared += 1
        if max(abs(a - b) for a, b in zip(own, other, strict=True)) <= tolerance:
            agree += 1
        else:
            shown = [", ".join(f"{value:.3f}" for value in box) for box in (own, other)]
            findings.add("boxes_differ", features_path, f"image {key}: ({shown[0]}) and ({shown[1]}) of the picture")
    return agree, compared


def _scan(path, checker, processes, findings):
    try:
        scan = scan_file(path, checker, processes)
    except DataError as error:
        findings.add("unreadable", path, str(error).removeprefix(f"{path}: "))
        return None
    drop_blank_end(scan)
    findings.merge(scan.findings)
    if not scan.keys:
        findings.add("unreadable", path, "the file has no rows")
        return None
    return scan


def _check_presence(kind, path, rows, images, findings):
    for image_id, split in images.items():
        if image_id not in rows:
            findings.add(kind, path, f"image {image_id} of split {split!r}")
