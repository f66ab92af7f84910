"""What must hold inside one row of `features.tsv` and of `predictions.tsv`, and the figures gathered on the way.

Shape letters: R regions of an image, D values of a region.
Source of the layout: docs/reference.md, retrieval files.
"""

import zlib

import numpy as np

from oscar_paddle.datasets.checks.figures import ImageRegions, TagFigures
from oscar_paddle.datasets.regions.source import BOX_DIM, VISUAL_DIM
from oscar_paddle.datasets.regions.vinvl import DEFAULT_SIZE, parse_detections, parse_features, region_width

BOX_TOLERANCE = 0.01  # of the image; extractors round, and some count a pixel more
DRAWN = 12  # boxes kept of an image that is to be drawn


class FeatureChecker:
    """Looks into rows of features.tsv (a row checker of `scan_range`).

    Args:
        feature_dim: D, INPUT.IMG_FEATURE_DIM.
        wanted: set of image ids, None = all.
    """

    damage, absence, has_id_map = "bad_row", "no_features", True

    def __init__(self, feature_dim, wanted=None):
        self.feature_dim, self.wanted = feature_dim, wanted

    def new_figures(self):
        return []  # of ImageRegions

    def check(self, key, fields, where, figures, problem):
        """See `scan_range`."""
        num_boxes, data = parse_features(fields, where)
        width = region_width(num_boxes, data, self.feature_dim, where)
        if width == self.feature_dim:
            check_regions(key, np.frombuffer(data, "<f4").reshape(num_boxes, width), figures, problem)
        else:
            missing = width == VISUAL_DIM and self.feature_dim == VISUAL_DIM + BOX_DIM
            why = ": the six box values are missing" if missing else ""
            problem("width", f"{num_boxes} boxes of {width} values{why}; expected {self.feature_dim}")


def check_regions(key, regions, figures, problem):
    """The checks that hold in every layout of the features.

    Args:
        regions: [R, D] float32 with R > 0.
        figures: list of ImageRegions to add to.
        problem: function (kind, text).
    """
    visual = regions[:, :VISUAL_DIM]
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", visual, visual)
    # One pass finds all three: NaN and infinity stay what they are, an empty region has the norm 0.
    if not np.isfinite(squares).all() or not np.isfinite(regions[:, VISUAL_DIM:]).all():
        wrong = np.argwhere(~np.isfinite(regions))
        if len(wrong):
            region, column = wrong[0]
            where, value = f"region {region + 1} column {column + 1}", regions[region, column]
            problem("not_finite", f"{where} is {value}, {len(wrong)} such values in the row; expected finite numbers")
            return
    empty = np.flatnonzero(squares == 0)
    if len(empty):
        problem("zero_region", f"region {empty[0] + 1} of {len(regions)} is all zeros ({len(empty)} such regions)")
    boxes = regions[:, VISUAL_DIM:].astype(np.float64) if regions.shape[1] == VISUAL_DIM + BOX_DIM else None
    figures.append(
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
        _check_boxes(boxes, problem)


def _check_boxes(boxes, problem):
    """Six values a box: x1/W, y1/H, x2/W, y2/H, w/W, h/H; [R, 6] float64."""
    corners, names = boxes[:, :4], ("x1", "y1", "x2", "y2", "w", "h")
    sides = corners[:, 2:] - corners[:, :2]
    if (at := _first((corners < -BOX_TOLERANCE) | (corners > 1 + BOX_TOLERANCE))) is not None:
        region, column = at
        value = boxes[region, column]
        pixels = " (pixels?)" if value > 2 else ""
        problem("box_outside", f"region {region + 1}: {names[column]} is {value:.4g}{pixels}; expected 0 to 1")
    elif (at := _first(sides < -BOX_TOLERANCE)) is not None:
        region, axis = at
        low, high = corners[region, axis], corners[region, axis + 2]
        problem("box_inverted", f"region {region + 1}: {names[axis]} is {low:.4g}, {names[axis + 2]} is {high:.4g}")
    elif (at := _first(np.abs(boxes[:, 4:] - sides) > BOX_TOLERANCE)) is not None:
        region, axis = at
        found, expected = boxes[region, 4 + axis], sides[region, axis]
        corner = f"{names[axis + 2]} - {names[axis]}"
        problem("box_size", f"region {region + 1}: {names[4 + axis]} is {found:.4g}; {corner} is {expected:.4g}")
    elif (sides <= 0).any():
        flat = np.flatnonzero((sides <= 0).any(axis=1))
        problem("box_flat", f"region {flat[0] + 1} of {len(boxes)} ({len(flat)} such regions)")


def _first(mask):
    """Where the first True of [R, n] is, (row, column), or None."""
    return divmod(int(mask.argmax()), mask.shape[1]) if mask.any() else None


class TagChecker:
    """Looks into rows of predictions.tsv (a row checker of `scan_range`).

    Args:
        wanted: set of image ids, None = all.
        show: set of image ids to keep drawings of.
    """

    damage, absence, has_id_map = "bad_tags", "no_tag_row", False

    def __init__(self, wanted=None, show=()):
        self.wanted, self.show = wanted, frozenset(show)

    def new_figures(self):
        return TagFigures()

    def check(self, key, fields, where, figures, problem):
        """See `scan_range`."""
        value, objects = parse_detections(fields, where)
        size = _picture_size(value, problem)
        classes = [item.get("class") if isinstance(item, dict) else None for item in objects]
        for number, name in enumerate(classes):
            if not isinstance(name, str) or not name.strip():
                return problem("bad_tags", f"detection {number + 1}: 'class' is {str(name)[:40]!r}; expected a word")
        if not objects:
            problem("no_tags", "no detections")
        figures.add(key, " ".join(classes), classes)
        if size is not None:
            figures.sizes[key] = size
        rects = [item.get("rect") for item in objects]
        for number, rect in enumerate(rects):
            if not isinstance(rect, list) or len(rect) != 4 or not all(map(_is_finite, rect)):
                return problem("bad_tags", f"detection {number + 1}: 'rect' is {str(rect)[:60]}; expected four numbers")
        wrong = _check_rects(rects, size, problem)
        confidences = [conf for item in objects if _is_finite(conf := item.get("conf"))]
        if any(later > earlier + 1e-6 for earlier, later in zip(confidences, confidences[1:], strict=False)):
            problem("order", f"confidence rises from {min(confidences):.3g} to {max(confidences):.3g} within the row")
        height, width = size or DEFAULT_SIZE.values()
        if rects and size is not None:
            x1, y1, x2, y2 = rects[0]
            figures.boxes[key] = (x1 / width, y1 / height, x2 / width, y2 / height)
        if wrong or key in self.show:
            boxes = list(zip(classes, rects, strict=True))
            if wrong:
                figures.mark(key, ([boxes.pop(wrong[0]), *boxes][:DRAWN], height, width))
            else:
                figures.drawings[key] = (boxes[:DRAWN], height, width)


def _picture_size(value, problem):
    """(height, width) that a row of tags gives, or None with a finding."""
    size = [value.get(name) for name in DEFAULT_SIZE] if isinstance(value, dict) else []
    if size and all(_is_finite(side) and side > 0 for side in size):
        return tuple(size)
    if size and value.keys() & DEFAULT_SIZE:
        problem("bad_tags", f"image_h is {size[0]!r}, image_w is {size[1]!r}; expected sizes in pixels")
    else:
        problem("no_size", "image_h and image_w are missing")
    return None


def _check_rects(rects, size, problem):
    """The numbers of the boxes in pixels that are wrong, by themselves or in a picture of (height, width) or None."""
    wrong = [number for number, (x1, y1, x2, y2) in enumerate(rects) if x2 < x1 or y2 < y1]
    kind, more = "rect_inverted", ""
    if not wrong and size is not None:
        height, width = size
        slack_x, slack_y = max(1, BOX_TOLERANCE * width), max(1, BOX_TOLERANCE * height)
        for number, (x1, y1, x2, y2) in enumerate(rects):
            if min(x1 + slack_x, y1 + slack_y) < 0 or x2 > width + slack_x or y2 > height + slack_y:
                wrong.append(number)
        kind, more = "rect_outside", f"; the picture is {width:g} x {height:g}"
    if wrong:
        rect = ", ".join(f"{value:.5g}" for value in rects[wrong[0]])
        problem(kind, f"detection {wrong[0] + 1}: rect is [{rect}] ({len(wrong)} in all){more}")
    return wrong


def _is_finite(value):
    return type(value) in (int, float) and -1e300 < value < 1e300  # also false for NaN, and safe for endless integers
