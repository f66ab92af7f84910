"""The published layout: features.tsv and predictions.tsv against their index files and the images of the splits."""

import json
import os
from itertools import pairwise

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.figures import Figures
from oscar_paddle.datasets.checks.findings import Findings
from oscar_paddle.datasets.checks.rows import FeatureChecker, TagChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_ranges
from oscar_paddle.datasets.regions.source import image_key


def check_published(scope, path, splits):
    """Check the features.tsv that these splits use, and the predictions.tsv beside it: Figures."""
    images = {key: split.name for split in splits for key in split.images}
    wanted = set(images) if scope.chosen is None else scope.chosen
    figures, num_rows = _check_features(scope, path, images, wanted)
    figures.other_rows = max(0, num_rows - len(images))
    figures.read_bytes = os.path.getsize(path) if scope.chosen is None else 0
    predictions = os.path.join(os.path.dirname(path), "predictions.tsv")
    if os.path.isfile(predictions):  # always read as a whole: it is a hundredth of the features in size
        figures += _check_rows(scope, predictions, TagChecker(wanted, scope.show), images)[0]
        figures.read_bytes += os.path.getsize(predictions)
    elif scope.cfg.INPUT.ADD_OD_LABEL:
        text = "no such file; it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for"
        scope.findings.add("missing_file", predictions, text)
    return figures


def _check_features(scope, path, images, wanted):
    """(Figures, number of rows). With a choice of images, the rows are found through the index files where those can
    be right, and the file is not read as a whole."""
    checker, findings, figures = FeatureChecker(scope.cfg.INPUT.IMG_FEATURE_DIM, wanted), scope.findings, Figures()
    index = None if scope.chosen is None else _rows_by_index(path, images)
    if index is None:
        return _check_rows(scope, path, checker, images)
    rows, starts = index
    _check_presence("no_features", path, rows, images, findings)
    asked = sorted((rows[key], key) for key in wanted if key in rows)
    ranges = [(starts[row], starts[row] + 1) for row, _ in asked]
    parts = scan_ranges(path, ranges, checker, scope.processes, " rows")
    for part, (row, key) in zip(parts, asked, strict=True):
        if not part.starts:
            text = f"no row starts at byte {starts[row]}, where image {key} should be"
            findings.add("lineidx", _line_index_of(path), text, row)
        elif part.keys[0] != key:
            text = f"row {row} (counted from 0) is image {part.keys[0]}, the map says {key}"
            findings.add("id_map", _id_map_of(path), text)
        else:
            findings.merge(part.findings, row)
            figures += part.figures
    return figures, len(starts)


def _check_rows(scope, path, checker, images):
    """Check a file as a whole, and its index files: (Figures, number of rows)."""
    findings = scope.findings
    try:
        scan = scan_file(path, checker, scope.processes)
    except DataError as error:
        findings.add("unreadable", path, error)
        return Figures(), 0
    findings.merge(scan.findings)
    if not scan.keys:
        findings.add("unreadable", path, "the file has no rows")
        return scan.figures, 0
    rows = {}  # of repeated ids the last one, as the readers take it
    for row, key in enumerate(scan.keys):
        if key is None:
            findings.add("blank_row", path, "nothing here", row)
        elif key != "":
            if key in rows:
                findings.add("repeated_id", path, f"image {key} is also in row {rows[key] + 1}", row)
            rows[key] = row
    _check_line_index(path, scan.starts, findings)
    if checker.has_id_map:
        _check_id_map(path, rows, findings)
    _check_presence(checker.absence, path, rows, images, findings)
    return scan.figures, len(scan.keys)


def _check_presence(kind, path, rows, images, findings):
    for image_id, split in images.items():
        if image_id not in rows:
            findings.add(kind, path, f"image {image_id} of split {split!r}")


def _check_line_index(path, starts, findings):
    found = _read_line_index(path, findings)
    if found is None:
        return
    differs = [row for row, (a, b) in enumerate(zip(found, starts, strict=False)) if a != b]
    if differs:
        row = differs[0]
        text = f"says that the row starts at byte {found[row]}, it starts at byte {starts[row]}"
        more = f" ({len(differs)} rows differ)" if len(differs) > 1 else ""
        findings.add("lineidx", _line_index_of(path), text + more, row)
    elif len(found) != len(starts):
        findings.add("lineidx", _line_index_of(path), f"{len(found)} rows; {path} has {len(starts)}")


def _check_id_map(path, rows, findings):
    mapping = _read_id_map(path, findings)
    if mapping is None:
        return
    for name, number in mapping.items():
        row = rows.get(name)
        if type(number) is not int:
            text = f"image {name} has {str(number)[:40]!r}; expected a row number"
        elif row is None:
            text = f"image {name} is in no row of the file"
        elif number != row:
            text = f"image {name} is in row {row}, the map says {number} (counted from 0)"
        else:
            continue
        findings.add("id_map", _id_map_of(path), text)
    for key, row in rows.items():
        if key not in mapping:
            findings.add("id_map", _id_map_of(path), f"image {key} of row {row} (counted from 0) is missing")


def _line_index_of(path):
    return os.path.splitext(path)[0] + ".lineidx"


def _id_map_of(path):
    return os.path.join(os.path.dirname(path), "imageid2idx.json")


def _read_line_index(path, findings):
    """The row starts that the `.lineidx` of a file gives, list of int, or None with a finding."""
    try:
        with open(_line_index_of(path), "rb") as file:
            return np.array(file.read().split(), dtype=np.int64).tolist()
    except FileNotFoundError:
        findings.add("no_lineidx", _line_index_of(path), "no such file")
    except (OSError, ValueError, OverflowError) as error:
        findings.add("lineidx", _line_index_of(path), f"not one whole number a line ({error})")
    return None


def _read_id_map(path, findings):
    """dict image id -> row as `imageid2idx.json` says, or None with a finding."""
    kind = "id_map"
    try:
        with open(_id_map_of(path), encoding="utf-8") as file:
            mapping = json.load(file)
        if isinstance(mapping, dict):
            return {image_key(name): number for name, number in mapping.items()}
        text = f"holds a {type(mapping).__name__}; expected image id -> row number"
    except FileNotFoundError:
        kind, text = "no_id_map", "no such file"
    except (OSError, ValueError, RecursionError) as error:
        text = f"no JSON text ({error})"
    findings.add(kind, _id_map_of(path), text)
    return None


def _rows_by_index(path, images):
    """Where the rows of these images are, if the index files beside features.tsv can be believed so far.

    Returns:
        (dict image id -> row, of those the map knows; list of the bytes where all rows start); None if there is no
        index that could be right. Reads no row.
    """
    unwanted = Findings()
    starts, mapping = _read_line_index(path, unwanted), _read_id_map(path, unwanted)
    if not starts or mapping is None or len(starts) != len(mapping):
        return None
    if starts[0] != 0 or starts[-1] >= os.path.getsize(path) or any(b <= a for a, b in pairwise(starts)):
        return None
    rows = {key: mapping[key] for key in images if mapping.get(key) is not None}
    is_right = all(type(row) is int and 0 <= row < len(starts) for row in rows.values())
    return (rows, starts) if is_right else None
