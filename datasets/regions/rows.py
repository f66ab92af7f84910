"""Rows of a `.tsv` file of regions, for the readers and for the check of a data set: which column is which.

    VinVL                  id, number of boxes, ..., base64 of [R, 2054]
    bottom-up attention    id, width, height, number of boxes, boxes, features (and cls_prob in a later fork)
    LXMERT                 id, height, width, four about objects and attributes, number of boxes, boxes, features

Boxes are base64 of [R, 4] (pixels), features of [R, 2048], all float32. `fields` are a row's columns, bytes without the
blanks around them; `where` begins the message of the DataError that a function raises.
Source of the column orders: FIELDNAMES in generate_tsv.py of peteanderson80/bottom-up-attention, in jiasenlu's fork of
it, and in utils.py of airsplay/lxmert.
"""

import binascii
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.values import BOX_DIM, checked_box_values, regions_of_bytes


class Columns(NamedTuple):
    """How many columns the rows of a file have, and which is which (from 0)."""

    count: int
    num_boxes: int
    features: int
    boxes: int | None = None
    width: int | None = None
    height: int | None = None


_LONGEST_ROW = 1 << 24  # bytes
_KNOWN = {
    6: Columns(6, num_boxes=3, features=5, boxes=4, width=1, height=2),
    7: Columns(7, num_boxes=3, features=5, boxes=4, width=1, height=2),
    10: Columns(10, num_boxes=7, features=9, boxes=8, width=2, height=1),
}


def usual_count(rows, likely):
    """The number of columns that most of some rows (lists of fields) have; of equally many one of `likely`."""
    counts = Counter(map(len, rows))
    return max(counts, key=lambda count: (counts[count], count in likely, -count))


def columns_of(rows):
    """The Columns of a file of regions, by some of its rows (lists of fields)."""
    count = usual_count(rows, (3, *_KNOWN))
    known, sample = _KNOWN.get(count), next(row for row in rows if len(row) == count)
    if known and all(sample[at].isdigit() for at in (known.num_boxes, known.width, known.height)):
        return known
    return Columns(count, num_boxes=1, features=count - 1)


def first_rows(path):
    """The first rows of a `.tsv` file (lists of fields), without an index; one without fields if it cannot be read."""
    lines = []
    with suppress(OSError), open(path, "rb") as file:
        lines = [line for line in (file.readline(_LONGEST_ROW) for _ in range(5)) if line.strip()]
    return [[field.strip() for field in line.split(b"\t")] for line in lines] or [[]]


def check_count(fields, count, where):
    """Raises DataError if a row has not the number of columns that the others have."""
    if len(fields) != count:
        what = "cut off"
        if len(fields) > count:
            joint = fields[count - 1][-16:].decode(errors="replace")
            what = f"two rows run together (the second begins at the end of {joint!r})"
        raise DataError(f"{where}: {len(fields)} columns, the others have {count}: {what}; make the file again")


def box_count(fields, columns, where):
    """The number of boxes that a row says it has."""
    text = b"".join(fields[columns.num_boxes : columns.num_boxes + 1])
    try:
        count = int(text[:39])  # whatever fills a damaged column
    except ValueError:
        longest = max(range(len(fields)), key=lambda at: len(fields[at]))
        if longest not in (columns.features, columns.boxes) and len(fields) == columns.count:
            there = f"in column {longest + 1}, in the others in column {columns.features + 1}"
            raise DataError(f"{where}: the base64 of the features is {there}") from None
        shown = repr(text[:20].decode(errors="replace"))
        raise DataError(f"{where}: number of boxes is {shown}; expected an integer") from None
    if count < 0:
        raise DataError(f"{where}: number of boxes is {count}; expected at least 1")
    return count


def parse_regions(fields, columns, feature_dim, where, trust_count=True):
    """The regions in a row: [R, feature_dim] float32; R may be 0.

    Args:
        columns: those of the file, see `columns_of`.
        trust_count: the row has as many boxes as it says; otherwise as many as its bytes make.
    """
    if columns.count < 3:
        raise DataError(f"{where}: {len(fields)} columns; expected id, number of boxes, ..., base64")
    check_count(fields, columns.count, where)
    num_boxes = box_count(fields, columns, where)
    data = decode_base64(fields[columns.features], where, columns.features)
    others = (2 * num_boxes * feature_dim, 8 * num_boxes * feature_dim)  # bytes of other types
    if not trust_count and columns.boxes is None and len(data) not in others:
        boxes, rest = divmod(len(data), 4 * feature_dim)
        num_boxes = num_boxes if rest or not data else boxes
    if not num_boxes:
        if data:
            raise DataError(f"{where}: number of boxes is 0, but the features have {len(data)} bytes")
        return np.zeros((0, feature_dim), "<f4")
    if columns.boxes is None:
        return regions_of_bytes(data, num_boxes, (feature_dim,), where)
    values = regions_of_bytes(data, num_boxes, (feature_dim, feature_dim - BOX_DIM), where)
    if values.shape[1] == feature_dim:
        return values
    told = f"{where}: columns as LXMERT or bottom-up attention has them"
    sizes = [fields[at] for at in (columns.width, columns.height)]
    if not all(size.isdigit() and int(size[:9]) for size in sizes):
        raise DataError(f"{told}; the size of the picture is {b' x '.join(sizes)[:40].decode(errors='replace')!r}")
    boxes = decode_base64(fields[columns.boxes], where, columns.boxes)
    if len(boxes) != 16 * num_boxes:
        size = f"{len(boxes)} bytes; expected {16 * num_boxes} ({num_boxes} boxes x 4 values x 4 bytes, float32)"
        raise DataError(f"{told}; column {columns.boxes + 1}, the boxes, has {size}")
    boxes = np.frombuffer(boxes, "<f4").reshape(-1, 4)
    return np.concatenate([values, checked_box_values(boxes, *map(int, sizes), where)], axis=1)


def decode_base64(text, where, column):
    """The bytes behind a column (from 0) of base64; DataError if it is not whole."""
    place = f"{where}: broken base64 in column {column + 1}"
    try:
        data = binascii.a2b_base64(text)
    except binascii.Error as error:
        raise DataError(f"{place} ({error}; {len(text)} characters)") from None
    # a2b_base64 passes over characters that are not base64; then there are too few bytes for the text.
    if len(text) != (len(data) + 2) // 3 * 4:
        raise DataError(f"{place} ({len(text)} characters, {len(data)} bytes)")
    return data
