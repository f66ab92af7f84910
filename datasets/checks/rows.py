"""What must hold inside one row of `features.tsv` and of `predictions.tsv`, and the figures gathered on the way.

Shape letters: R regions of an image, D values of a region.
Source of the layout: docs/reference.md, retrieval files.
"""

import zlib
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from oscar_paddle.datasets.checks.figures import KEPT_DRAWINGS, ImageRegions
from oscar_paddle.datasets.regions.rows import Columns, parse_regions
from oscar_paddle.datasets.regions.values import BOX_DIM, FRACTIONS, VISUAL_DIM, WrongWidth, are_fractions
from oscar_paddle.datasets.regions.vinvl import DEFAULT_SIZE, parse_detections

BOX_TOLERANCE = 0.01  # of the image; extractors round, and some count a pixel more
DRAWN = 12  # boxes kept of an image that is to be drawn


@dataclass(frozen=True)
class FeatureChecker:
    """Looks into rows of features.tsv (a checker of `scan_range`); `feature_dim` is D, INPUT.IMG_FEATURE_DIM."""

    feature_dim: int
    columns: Columns
    wanted: set | None = None
    empty_kind: str = "empty_image"
    ids: dict = field(default_factory=dict)  # first column of a row -> image id, where rows have the pictures' names
    damage, absence, has_id_map = "bad_row", "no_features", True

    def check(self, key, fields, figures):
        try:
            regions = parse_regions(fields, self.columns, self.feature_dim, f"image {key}")
        except WrongWidth as error:
            yield "width", str(error).removeprefix(f"image {key}: ")
            return
        if not len(regions):
            yield self.empty_kind, "number of boxes is 0; expected at least 1"
            return
        yield from check_regions(key, regions, figures)


def check_regions(key, regions, figures):
    """The checks that hold in every layout of the features.

    Args:
        regions: [R, D] float32 with R > 0.
        figures: Figures to add to.
    Yields:
        (kind, text) of findings.
    """
    wrong = () if np.isfinite(regions).all() else np.argwhere(~np.isfinite(regions))
    if len(wrong):
        region, column = wrong[0]
        where, value = f"region {region + 1} column {column + 1}", regions[region, column]
        yield "not_finite", f"{where} is {value}, {len(wrong)} such values in the row; expected finite numbers"
        return
    visual = regions[:, :VISUAL_DIM]
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", visual, visual)
    empty = np.flatnonzero(squares == 0)
    if len(empty):
        yield "zero_region", f"region {empty[0] + 1} of {len(regions)} is all zeros ({len(empty)} such regions)"
    boxes = regions[:, VISUAL_DIM:].astype(np.float64) if regions.shape[1] == VISUAL_DIM + BOX_DIM else None
    figures.features.append(
        ImageRegions(
            key=key,
            count=len(regions),
            checksum=zlib.crc32(np.ascontiguousarray(visual[0])) << 16 | len(regions) & 0xFFFF,
            negative=bool((visual[0] < 0).any()),
            corners=None if boxes is None else tuple(boxes[0, :4].tolist()),
            norm=float(np.sqrt(squares, dtype=np.float64).sum()),
        )
    )
    if boxes is not None:
        yield from _check_boxes(boxes)


def _check_boxes(boxes):
    """Six values a box: x1/W, y1/H, x2/W, y2/H, w/W, h/H; [R, 6] float64."""
    corners, names = boxes[:, :4], ("x1", "y1", "x2", "y2", "w", "h")
    sides = corners[:, 2:] - corners[:, :2]
    if (at := _first((corners < -BOX_TOLERANCE) | (corners > 1 + BOX_TOLERANCE))) is not None:
        value = boxes[at]
        pixels = " (pixels?)" if value > 2 else ""
        yield "box_outside", f"region {at[0] + 1}: {names[at[1]]} is {value:.4g}{pixels}; expected 0 to 1"
    elif (at := _first(sides < -BOX_TOLERANCE)) is not None:
        region, axis = at
        low, high = corners[region, axis], corners[region, axis + 2]
        yield "box_inverted", f"region {region + 1}: {names[axis]} is {low:.4g}, {names[axis + 2]} is {high:.4g}"
    elif (at := _first(np.abs(boxes[:, 4:] - sides) > BOX_TOLERANCE)) is not None:
        region, axis = at
        found, corner = boxes[region, 4 + axis], f"{names[axis + 2]} - {names[axis]}"
        yield "box_size", f"region {region + 1}: {names[4 + axis]} is {found:.4g}; {corner} is {sides[at]:.4g}"
    elif len(flat := np.flatnonzero((sides <= 0).any(axis=1))):
        yield "box_flat", f"region {flat[0] + 1} of {len(boxes)} ({len(flat)} such regions)"


def _first(mask):
    """Where the first True of [R, n] is, (row, column), or None."""
    return divmod(int(mask.argmax()), mask.shape[1]) if mask.any() else None


@dataclass(frozen=True)
class TagChecker:
    """Looks into rows of predictions.tsv (a checker of `scan_range`); keeps drawings of the image ids `show`."""

    columns: int
    wanted: set | None
    show: set
    ids: dict = field(default_factory=dict)
    damage, absence, has_id_map = "bad_tags", "no_tag_row", False

    def check(self, key, fields, figures):
        value, objects = parse_detections(fields, f"image {key}", self.columns)
        is_given = isinstance(value, dict) and value.keys() & DEFAULT_SIZE
        size = [value.get(name) for name in DEFAULT_SIZE] if is_given else None
        if size is None:
            yield "no_size", "image_h and image_w are missing"
        elif not all(_is_finite(side) and side > 0 for side in size):
            yield "bad_tags", f"image_h is {size[0]!r}, image_w is {size[1]!r}; expected sizes in pixels"
            size = None
        classes = [item.get("class") if isinstance(item, dict) else None for item in objects]
        for number, name in enumerate(classes, start=1):
            if not isinstance(name, str) or not name.strip():
                yield "bad_tags", f"detection {number}: 'class' is {str(name)[:40]!r}; expected a word"
                return
        if not objects:
            yield "no_tags", "no detections"
        figures.add_tags(key, " ".join(classes), classes)
        if size:
            figures.sizes[key] = tuple(size)
        rects = [item.get("rect") for item in objects]
        for number, rect in enumerate(rects, start=1):
            if not isinstance(rect, list) or len(rect) != 4 or not all(map(_is_finite, rect)):
                yield "bad_tags", f"detection {number}: 'rect' is {str(rect)[:60]}; expected four numbers"
                return
        if are_fractions(rects, *(size or DEFAULT_SIZE.values())):
            yield "bad_tags", f"{FRACTIONS} ('rect')"
            return
        kind, wrong, more = _wrong_rects(rects, size)
        if wrong:
            rect = ", ".join(f"{value:.5g}" for value in rects[wrong[0]])
            yield kind, f"detection {wrong[0] + 1}: rect is [{rect}] ({len(wrong)} in all){more}"
        confidences = [conf for item in objects if _is_finite(conf := item.get("conf"))]
        if any(later > earlier + 1e-6 for earlier, later in pairwise(confidences)):
            yield "order", f"confidence rises from {min(confidences):.3g} to {max(confidences):.3g} within the row"
        height, width = size or DEFAULT_SIZE.values()
        if rects and size:
            figures.boxes[key] = tuple(value / side for value, side in zip(rects[0], (width, height) * 2, strict=True))
        boxes = list(zip(classes, rects, strict=True))
        if wrong and len(figures.marked) < KEPT_DRAWINGS:
            figures.marked[key] = ([boxes.pop(wrong[0]), *boxes][:DRAWN], height, width)
        elif key in self.show and not wrong:
            figures.drawings[key] = (boxes[:DRAWN], height, width)


def _wrong_rects(rects, size):
    """The boxes in pixels that are wrong, by themselves or in a picture of (height, width): (kind, numbers, words)."""
    inverted = [number for number, (x1, y1, x2, y2) in enumerate(rects) if x2 < x1 or y2 < y1]
    if inverted or not size:
        return "rect_inverted", inverted, ""
    height, width = size
    slack_x, slack_y = max(1, BOX_TOLERANCE * width), max(1, BOX_TOLERANCE * height)
    outside = [
        number
        for number, (x1, y1, x2, y2) in enumerate(rects)
        if min(x1 + slack_x, y1 + slack_y) < 0 or x2 > width + slack_x or y2 > height + slack_y
    ]
    return "rect_outside", outside, f"; the picture is {width:g} x {height:g}"


def _is_finite(value):
    return type(value) in (int, float) and -1e300 < value < 1e300  # also false for NaN, and safe for endless integers
