"""Index files against the rows that are really there: `.lineidx`, `imageid2idx.json`, repeated ids, empty rows."""

import json
import os

import numpy as np

from oscar_paddle.datasets.regions.source import image_key


def drop_blank_end(scan):
    """Blank lines at the end of a file are no rows: takes them off a Scan."""
    while scan.keys and scan.keys[-1] is None:
        scan.keys.pop()
        scan.end = scan.starts.pop()


def check_ids(path, scan, findings):
    """Which row holds which image; repeated ids and empty rows are findings.

    Returns:
        dict image id -> row; of repeated ids the last one, as the readers take it.
    """
    rows = {}
    for row, key in enumerate(scan.keys):
        if key is None:
            findings.add("blank_row", path, "nothing here", row)
        if key is None or key == "":
            continue
        if key in rows:
            findings.add("repeated_id", path, f"image {key} is also in row {rows[key] + 1}", row)
        rows[key] = row
    return rows


def check_line_index(path, scan, findings):
    """`X.lineidx` must hold the byte where each row of `X.tsv` starts."""
    index_path = os.path.splitext(str(path))[0] + ".lineidx"
    found = read_line_index(index_path, findings)
    if found is None:
        return
    starts = np.array(scan.starts, np.int64)
    shared = min(len(found), len(starts))
    differs = np.flatnonzero(found[:shared] != starts[:shared])
    if len(differs):
        row = int(differs[0])
        text = f"says that the row starts at byte {found[row]}, it starts at byte {starts[row]}"
        more = f" ({len(differs)} rows differ)" if len(differs) > 1 else ""
        findings.add("lineidx", index_path, text + more, row)
    elif len(found) != len(starts):
        findings.add("lineidx", index_path, f"{len(found)} rows; {path} has {len(starts)}")


def read_line_index(index_path, findings):
    """The numbers in a `.lineidx`, int64, or None with a finding."""
    try:
        with open(index_path, "rb") as file:
            return np.array(file.read().split(), dtype=np.int64)
    except FileNotFoundError:
        findings.add("no_lineidx", index_path, "no such file")
    except (OSError, ValueError, OverflowError) as error:
        findings.add("lineidx", index_path, f"not one whole number a line ({error})")
    return None


def check_id_map(features_path, rows, num_rows, findings):
    """`imageid2idx.json` must map every image to its row of features.tsv.

    Args:
        rows: dict image id -> row, as found.
    """
    path = os.path.join(os.path.dirname(str(features_path)), "imageid2idx.json")
    mapping = read_id_map(path, findings)
    if mapping is None:
        return
    for name, number in mapping.items():
        row = rows.get(name)
        if type(number) is not int:
            findings.add("id_map", path, f"image {name} has {str(number)[:40]!r}; expected a row number")
        elif row is None:
            findings.add("id_map", path, f"image {name} is in no row of the file")
        elif row != number:
            findings.add("id_map", path, f"image {name} is in row {row}, the map says {number} (counted from 0)")
    for key in rows:
        if key not in mapping:
            findings.add("id_map", path, f"image {key} of row {rows[key]} (counted from 0) is missing")


def read_id_map(path, findings):
    """dict image id -> row as the file says, or None with a finding."""
    try:
        with open(path, encoding="utf-8") as file:
            mapping = json.load(file)
    except FileNotFoundError:
        findings.add("no_id_map", path, "no such file")
        return None
    except (OSError, ValueError, RecursionError) as error:
        findings.add("id_map", path, f"no JSON text ({error})")
        return None
    if not isinstance(mapping, dict):
        findings.add("id_map", path, f"holds a {type(mapping).__name__}; expected image id -> row number")
        return None
    return {image_key(name): number for name, number in mapping.items()}


def rows_by_index(path, wanted):
    """Where the rows of these images are, if the index files beside features.tsv can be believed so far.

    Args:
        wanted: list of image ids.
    Returns:
        (dict image id -> (row, byte where it starts) of those the map knows, number of rows); None if there is no
        index that could be right. Reads no row.
    """
    quiet = _Nowhere()
    starts = read_line_index(os.path.splitext(str(path))[0] + ".lineidx", quiet)
    mapping = read_id_map(os.path.join(os.path.dirname(str(path)), "imageid2idx.json"), quiet)
    size = os.path.getsize(path)
    if starts is None or mapping is None or not len(starts) or len(starts) != len(mapping):
        return None
    if starts[0] != 0 or np.any(starts[1:] <= starts[:-1]) or starts[-1] >= size:
        return None
    places = {}
    for key in wanted:
        row = mapping.get(key)
        if row is not None:
            if type(row) is not int or not 0 <= row < len(starts):
                return None
            places[key] = row, int(starts[row])
    return places, len(starts)


class _Nowhere:
    """Findings that nobody wants."""

    def add(self, *finding, **more):
        pass
