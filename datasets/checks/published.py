"""The published layout: features.tsv and predictions.tsv against their index files and the images of the splits."""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import read_names
from oscar_paddle.datasets.checks.figures import Figures
from oscar_paddle.datasets.checks.findings import Findings, file_and_text
from oscar_paddle.datasets.checks.rows import FeatureChecker, TagChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_ranges
from oscar_paddle.datasets.regions.rows import columns_of, first_rows, usual_count
from oscar_paddle.datasets.regions.source import image_key, stem


def check_published(scope, path, splits):
    """Check the features.tsv that these splits use, and the predictions.tsv beside it: Figures."""
    images = {key: split.name for split in splits for key in split.images}
    wanted = set(images) if scope.chosen is None else scope.chosen
    try:
        names = read_names(scope.cfg.DATASET.DATA_DIR, splits[0].name)
    except DataError as error:
        scope.findings.add("bad_list", *file_and_text(error))
        names = {}
    figures, num_rows = _check_features(scope, path, images, wanted, names)
    figures.other_rows = max(0, num_rows - len(images))
    figures.read_bytes = os.path.getsize(path) if scope.chosen is None else 0
    predictions = os.path.join(os.path.dirname(path), "predictions.tsv")
    if os.path.isfile(predictions):  # always read as a whole: it is a hundredth of the features in size
        rows = first_rows(predictions)
        checker = TagChecker(usual_count(rows, (2,)), wanted, scope.show, _ids_of_rows(rows, images, names))
        figures += _check_rows(scope, predictions, checker, images)[0]
        figures.read_bytes += os.path.getsize(predictions)
    elif scope.cfg.INPUT.ADD_OD_LABEL:
        text = "no such file; it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for"
        scope.findings.add("missing_file", predictions, text)
    return figures


def _ids_of_rows(rows, images, names):
    """{first column: image id} where rows, the first ones of a file, have names of pictures; {} where they have ids.

    Args:
        images: dict with the image ids. names: image id -> name of the picture's file.
    """
    ids = {}
    for image_id, name in names.items():
        for form in (name, os.path.splitext(name)[0], os.path.basename(name), stem(name)):
            ids.setdefault(image_key(form), image_id)
    found = [image_key(row[0].decode(errors="replace")) for row in rows if row]
    return ids if sum(key in ids for key in found) > sum(key in images for key in found) else {}


def _check_features(scope, path, images, wanted, names):
    """(Figures, number of rows). With a choice of images, the rows are found through the index files where those can
    be right, and the file is not read as a whole."""
    rows = first_rows(path)
    ids, width = _ids_of_rows(rows, images, names), scope.cfg.INPUT.IMG_FEATURE_DIM
    checker = FeatureChecker(width, columns_of(rows), wanted, scope.empty_kind, ids)
    findings, figures = scope.findings, Figures()
    index = None if scope.chosen is None else _rows_by_index(path, images, ids)
    if index is None:
        return _check_rows(scope, path, checker, images)
    rows, starts = index
    findings.add_absent("no_features", path, images, rows)
    asked = sorted((rows[key], key) for key in wanted if key in rows)
    ranges = [(starts[row], starts[row] + 1) for row, _ in asked]
    parts = scan_ranges(path, ranges, checker, scope.processes, " rows")
    for part, (row, key) in zip(parts, asked, strict=True):
        if not part.starts:
            text = f"no row starts at byte {starts[row]}, where image {key} should be"
            findings.add("lineidx", _index_file(path, "lineidx"), text, row)
        elif part.keys[0] != key:
            text = f"row {row} (counted from 0) is image {part.keys[0]}, the map says {key}"
            findings.add("id_map", _index_file(path, "id_map"), text)
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
        _check_id_map(path, rows, findings, checker.ids)
    findings.add_absent(checker.absence, path, images, rows)
    return scan.figures, len(scan.keys)


def _check_line_index(path, starts, findings):
    found, file = _read_index(path, "lineidx", findings), _index_file(path, "lineidx")
    if found is None:
        return
    differs = [row for row, (a, b) in enumerate(zip(found, starts, strict=False)) if a != b]
    if differs:
        row = differs[0]
        text = f"says that the row starts at byte {found[row]}, it starts at byte {starts[row]}"
        findings.add("lineidx", file, text + (f" ({len(differs)} rows differ)" if len(differs) > 1 else ""), row)
    elif len(found) != len(starts):
        findings.add("lineidx", file, f"{len(found)} rows; {path} has {len(starts)}")


def _check_id_map(path, rows, findings, ids):
    mapping, file = _read_index(path, "id_map", findings, ids), _index_file(path, "id_map")
    if mapping is None:
        return
    for name, number in mapping.items():
        row = rows.get(name)
        if type(number) is not int:
            findings.add("id_map", file, f"image {name} has {str(number)[:40]!r}; expected a row number")
        elif row is None:
            findings.add("id_map", file, f"image {name} is in no row of the file")
        elif number != row:
            findings.add("id_map", file, f"image {name} is in row {row}, the map says {number} (counted from 0)")
    for key, row in rows.items():
        if key not in mapping:
            findings.add("id_map", file, f"image {key} of row {row} (counted from 0) is missing")


def _index_file(path, kind):
    """Where an index of a `.tsv` file is: "lineidx", or "id_map" (of features.tsv)."""
    is_map = kind == "id_map"
    return os.path.join(os.path.dirname(path), "imageid2idx.json") if is_map else os.path.splitext(path)[0] + ".lineidx"


def _read_index(path, kind, findings, ids=None):
    """Bytes where the rows start ("lineidx", list) or image id -> row ("id_map", dict); None with a finding. `ids` are
    as for `scan_range`."""
    file = _index_file(path, kind)
    try:
        data = Path(file).read_bytes()
        if kind == "lineidx":
            return np.array(data.split(), np.int64).tolist()
        mapping = json.loads(data.decode())
        if isinstance(mapping, dict):
            keys = {image_key(name): number for name, number in mapping.items()}
            return {(ids or {}).get(key, key): number for key, number in keys.items()}
        findings.add(kind, file, f"holds a {type(mapping).__name__}; expected image id -> row number")
    except FileNotFoundError:
        findings.add(f"no_{kind}", file, "no such file")
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        expected = "not one whole number a line" if kind == "lineidx" else "no JSON text"
        findings.add(kind, file, f"{expected} ({error})")
    return None


def _rows_by_index(path, images, ids):
    """Where the rows of these images are, if the index files beside features.tsv can be believed so far.

    Returns:
        (dict image id -> row, of those the map knows; list of the bytes where all rows start); None if there is no
        index that could be right. Reads no row.
    """
    unwanted = Findings()
    starts, mapping = _read_index(path, "lineidx", unwanted), _read_index(path, "id_map", unwanted, ids)
    if not starts or mapping is None or len(starts) != len(mapping):
        return None
    if starts[0] != 0 or starts[-1] >= os.path.getsize(path) or any(b <= a for a, b in pairwise(starts)):
        return None
    rows = {key: mapping[key] for key in images if mapping.get(key) is not None}
    is_right = all(type(row) is int and 0 <= row < len(starts) for row in rows.values())
    return (rows, starts) if is_right else None
