"""Index files against the rows that are really there: `.lineidx`, `imageid2idx.json`, repeated ids, empty rows."""

import json
import os

import numpy as np

from oscar_paddle.datasets.checks.findings import Findings
from oscar_paddle.datasets.regions.source import image_key


def line_index_of(path):
    """Where the `.lineidx` of a `.tsv` file is."""
    return os.path.splitext(str(path))[0] + ".lineidx"


def id_map_of(path):
    """Where the `imageid2idx.json` of features.tsv is."""
    return os.path.join(os.path.dirname(str(path)), "imageid2idx.json")


def check_index_files(path, scan, has_id_map, findings):
    """Compare a scanned file with its index files; repeated ids and empty rows are findings, too.

    Returns:
        dict image id -> row; of repeated ids the last one, as the readers take it.
    """
    rows = {}
    for row, key in enumerate(scan.keys):
        if key is None:
            findings.add("blank_row", path, "nothing here", row)
        elif key in rows:
            findings.add("repeated_id", path, f"image {key} is also in row {rows[key] + 1}", row)
        if key not in (None, ""):
            rows[key] = row
    _check_line_index(path, np.array(scan.starts, np.int64), findings)
    if has_id_map:
        _check_id_map(path, rows, findings)
    return rows


def _check_line_index(path, starts, findings):
    found = _read_line_index(path, findings)
    if found is None:
        return
    shared = min(len(found), len(starts))
    differs = np.flatnonzero(found[:shared] != starts[:shared])
    if len(differs):
        row = int(differs[0])
        text = f"says that the row starts at byte {found[row]}, it starts at byte {starts[row]}"
        more = f" ({len(differs)} rows differ)" if len(differs) > 1 else ""
        findings.add("lineidx", line_index_of(path), text + more, row)
    elif len(found) != len(starts):
        findings.add("lineidx", line_index_of(path), f"{len(found)} rows; {path} has {len(starts)}")


def _check_id_map(path, rows, findings):
    mapping = _read_id_map(path, findings)
    if mapping is None:
        return
    for name, number in mapping.items():
        row = rows.get(name)
        if type(number) is int and number == row:
            continue
        if type(number) is not int:
            text = f"image {name} has {str(number)[:40]!r}; expected a row number"
        elif row is None:
            text = f"image {name} is in no row of the file"
        else:
            text = f"image {name} is in row {row}, the map says {number} (counted from 0)"
        findings.add("id_map", id_map_of(path), text)
    for key, row in rows.items():
        if key not in mapping:
            findings.add("id_map", id_map_of(path), f"image {key} of row {row} (counted from 0) is missing")


def _read_line_index(path, findings):
    """The row starts that the `.lineidx` of a file gives, [rows] int64, or None with a finding."""
    try:
        with open(line_index_of(path), "rb") as file:
            return np.array(file.read().split(), dtype=np.int64)
    except FileNotFoundError:
        findings.add("no_lineidx", line_index_of(path), "no such file")
    except (OSError, ValueError, OverflowError) as error:
        findings.add("lineidx", line_index_of(path), f"not one whole number a line ({error})")
    return None


def _read_id_map(path, findings):
    """dict image id -> row as `imageid2idx.json` says, or None with a finding."""
    try:
        with open(id_map_of(path), encoding="utf-8") as file:
            mapping = json.load(file)
    except FileNotFoundError:
        return findings.add("no_id_map", id_map_of(path), "no such file")
    except (OSError, ValueError, RecursionError) as error:
        return findings.add("id_map", id_map_of(path), f"no JSON text ({error})")
    if not isinstance(mapping, dict):
        text = f"holds a {type(mapping).__name__}; expected image id -> row number"
        return findings.add("id_map", id_map_of(path), text)
    return {image_key(name): number for name, number in mapping.items()}


def rows_by_index(path, wanted):
    """Where the rows of these images are, if the index files beside features.tsv can be believed so far.

    Args:
        wanted: list of image ids.
    Returns:
        (dict image id -> (row, byte where it starts) of those the map knows, number of rows); None if there is no
        index that could be right. Reads no row.
    """
    unwanted = Findings()
    starts, mapping = _read_line_index(path, unwanted), _read_id_map(path, unwanted)
    if starts is None or mapping is None or not len(starts) or len(starts) != len(mapping):
        return None
    if starts[0] != 0 or np.any(starts[1:] <= starts[:-1]) or starts[-1] >= os.path.getsize(path):
        return None
    rows = {key: mapping[key] for key in wanted if mapping.get(key) is not None}
    if not all(type(row) is int and 0 <= row < len(starts) for row in rows.values()):
        return None
    return {key: (row, int(starts[row])) for key, row in rows.items()}, len(starts)
