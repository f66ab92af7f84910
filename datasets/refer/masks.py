"""The box of an annotation, from its `bbox` or from its mask, without pycocotools.

Source: docs/reference.md, COCO masks.
"""

import numpy as np

from oscar_paddle.config.errors import DataError


def box_of(annotation, where):
    """(x, y, width, height) in pixels, float, of a COCO annotation (dict): its `bbox`, or else that of its
    `segmentation`: polygons, or run lengths, plain or compressed.

    Raises:
        DataError: it has neither, or they are no box.
    """
    box = annotation.get("bbox")
    if box is None:
        box = _box_of_mask(annotation.get("segmentation"), where)
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(f"{where}: bbox is {str(box)[:60]}; expected [x, y, width, height] in pixels")
    if min(box[2:]) < 0:
        raise DataError(f"{where}: bbox {list(box)} has a negative side; expected [x, y, width, height] in pixels")
    return tuple(map(float, box))


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def _box_of_mask(mask, where):
    if isinstance(mask, dict):
        return _box_of_runs(mask, where)
    try:
        points = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in mask])
        (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    except (TypeError, ValueError):
        found = f"neither bbox nor a mask (segmentation is {str(mask)[:60]})"
        raise DataError(f"{where}: {found}; expected [x, y, width, height] in pixels") from None
    return x1, y1, x2 - x1, y2 - y1


def _box_of_runs(mask, where):
    """Run lengths of 0 and 1 in turn, down the columns."""
    try:
        (height, width), counts = map(int, mask["size"]), mask["counts"]
        counts = decode_counts(counts) if isinstance(counts, (str, bytes)) else [int(count) for count in counts]
    except (KeyError, TypeError, ValueError, IndexError):
        raise DataError(f"{where}: the mask is no run lengths with size and counts: {str(mask)[:60]}") from None
    if sum(counts) != height * width or min(counts, default=-1) < 0:
        raise DataError(f"{where}: the mask's runs add up to {sum(counts)}; expected {height} x {width} pixels")
    ends = np.cumsum(counts)
    first, last = (ends - counts)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return [0.0, 0.0, 0.0, 0.0]
    left, right = first // height, last // height
    crosses = (left != right).any()  # a run over the end of a column has its lowest and its highest pixel
    top, bottom = (0, height - 1) if crosses else ((first % height).min(), (last % height).max())
    x, y = float(left.min()), float(top)
    return [x, y, float(right.max()) + 1 - x, float(bottom) + 1 - y]


def decode_counts(text):
    """The run lengths in COCO's compressed text: five bits a character from "0" on, bit 5 says that more follow, the
    last one's bit 4 is the sign; from the fourth number on, the difference to the one before the last."""
    text = text.encode("ascii") if isinstance(text, str) else text
    counts, place = [], 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = text[place] - 48
            value, more = value | (bits & 31) << shift, bits & 32
            shift, place = shift + 5, place + 1
        value -= (bits & 16 and 1) << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
