"""What must hold inside one row of `features.tsv` and of `predictions.tsv`, and the figures gathered on the way.

Shape letters: R regions of an image, D values of a region.
Source of the layout: specs/retrieval.md section 2.3, specs/region_features.md section 8.
"""

import binascii
import json
import math
import zlib
from array import array
from collections import Counter

import numpy as np

from oscar_paddle.datasets.regions.source import BOX_DIM, VISUAL_DIM

BOX_TOLERANCE = 0.01  # of the image; extractors round, and some count a pixel more
DRAWN = 12  # boxes kept of an image that is to be drawn
KEPT_DRAWINGS = 6  # of images with box problems
DEFAULT_SIZE = (600, 800)  # upstream: height and width where a row does not say


class FeatureSummary:
    """Figures of the rows of features that were looked into.

    Attributes:
        keys: list of image ids. counts: array, regions of each. boxes: array of 4 floats each, the first region's
        corners as fractions (NaN where there are none). marks: array, checksum of each row's values.
        negative: regions with a negative value among the sampled ones; sampled: how many those are.
        norm: sum of the regions' L2 norms.
    """

    def __init__(self):
        self.keys, self.counts, self.boxes, self.marks = [], array("q"), array("f"), array("Q")
        self.negative = self.sampled = 0
        self.norm = 0.0

    def merge(self, other):
        for name in ("keys", "counts", "boxes", "marks"):
            getattr(self, name).extend(getattr(other, name))
        for name in ("negative", "sampled", "norm"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class FeatureChecker:
    """Looks into rows `id <tab> R <tab> ... <tab> base64 of float32 [R, D]`.

    Args:
        feature_dim: D, INPUT.IMG_FEATURE_DIM.
        wanted: set of image ids, None = all.
    """

    def __init__(self, feature_dim, wanted=None):
        self.feature_dim, self.wanted = feature_dim, wanted

    def new_summary(self):
        return FeatureSummary()

    def check(self, key, line, row, summary, problem):
        """See `scan_range`."""
        regions = self._decode(line, problem)
        if regions is not None:
            check_regions(key, regions, summary, problem)

    def _decode(self, line, problem):
        first = line.find(b"\t")
        second, last = line.find(b"\t", first + 1), line.rfind(b"\t")
        if first < 0 or second < 0:
            columns = line.count(b"\t") + 1
            return problem("bad_row", f"{columns} columns; expected id, number of boxes, ..., base64")
        text = line[last + 1 :].strip()
        shown = line[first + 1 : min(second, first + 40)].strip()
        try:
            num_boxes = int(shown)
        except ValueError:
            return problem("bad_row", f"number of boxes is {shown[:20]!r}; expected an integer")
        if num_boxes < 1:
            return problem("bad_row", f"number of boxes is {num_boxes}; expected at least 1")
        try:
            data = binascii.a2b_base64(text)
        except binascii.Error as error:
            return problem("bad_row", f"broken base64 in the last column ({error}; {len(text)} characters)")
        if len(text) != (len(data) + 2) // 3 * 4:  # characters that are not base64 were passed over
            return problem("bad_row", f"broken base64 in the last column ({len(text)} characters, {len(data)} bytes)")
        width, rest = divmod(len(data), num_boxes * 4)
        if rest:
            expected = num_boxes * self.feature_dim * 4
            sizes = f"{num_boxes} boxes x {self.feature_dim} values x 4 bytes"
            return problem("bad_row", f"{len(data)} bytes; expected {expected} ({sizes})")
        if width != self.feature_dim:
            missing = width == VISUAL_DIM and self.feature_dim == VISUAL_DIM + BOX_DIM
            why = ": the six box values are missing" if missing else ""
            return problem("width", f"{num_boxes} boxes of {width} values{why}; expected {self.feature_dim}")
        return np.frombuffer(data, "<f4").reshape(num_boxes, width)


def check_regions(key, regions, summary, problem):
    """The checks that hold in every layout of the features.

    Args:
        regions: [R, D] float32 with R > 0.
        summary: FeatureSummary to add to.
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
    summary.keys.append(key)
    summary.counts.append(len(regions))
    summary.marks.append(zlib.crc32(np.ascontiguousarray(visual[0])) << 16 | len(regions) & 0xFFFF)
    summary.norm += float(np.sqrt(squares, dtype=np.float64).sum())
    summary.sampled += 1
    summary.negative += bool((visual[0] < 0).any())
    if regions.shape[1] == VISUAL_DIM + BOX_DIM:
        boxes = regions[:, VISUAL_DIM:].astype(np.float64)
        summary.boxes.extend(boxes[0, :4])
        _check_boxes(boxes, problem)
    else:
        summary.boxes.extend([math.nan] * 4)


def _check_boxes(boxes, problem):
    """Six values a box: x1/W, y1/H, x2/W, y2/H, w/W, h/H; [R, 6] float64."""
    corners, names = boxes[:, :4], ("x1", "y1", "x2", "y2", "w", "h")
    outside = np.argwhere((corners < -BOX_TOLERANCE) | (corners > 1 + BOX_TOLERANCE))
    if len(outside):
        region, column = outside[0]
        value = boxes[region, column]
        pixels = " (pixels?)" if value > 2 else ""
        problem("box_outside", f"region {region + 1}: {names[column]} is {value:.4g}{pixels}; expected 0 to 1")
        return
    sides = corners[:, 2:] - corners[:, :2]
    swapped = np.argwhere(sides < -BOX_TOLERANCE)
    if len(swapped):
        region, axis = swapped[0]
        low, high = corners[region, axis], corners[region, axis + 2]
        problem("box_inverted", f"region {region + 1}: {names[axis]} is {low:.4g}, {names[axis + 2]} is {high:.4g}")
        return
    wrong = np.argwhere(np.abs(boxes[:, 4:] - sides) > BOX_TOLERANCE)
    if len(wrong):
        region, axis = wrong[0]
        found, expected = boxes[region, 4 + axis], sides[region, axis]
        corner = f"{names[axis + 2]} - {names[axis]}"
        problem("box_size", f"region {region + 1}: {names[4 + axis]} is {found:.4g}; {corner} is {expected:.4g}")
        return
    flat = np.flatnonzero((sides <= 0).any(axis=1))
    if len(flat):
        problem("box_flat", f"region {flat[0] + 1} of {len(boxes)} ({len(flat)} such regions)")


class TagSummary:
    """Figures of the rows of tags that were looked into.

    Attributes:
        tags: image id -> the tag string as the readers give it.
        classes: Counter of class names. counts: array, detections of each image.
        boxes: image id -> the first detection's corners as fractions of the picture.
        sizes: image id -> (height, width), where the row says.
        drawings: image id -> ([(class, [x1, y1, x2, y2] in pixels), ...], height, width).
        marked: the same, of images whose boxes are wrong.
    """

    def __init__(self):
        self.tags, self.classes, self.counts = {}, Counter(), array("q")
        self.boxes, self.sizes, self.drawings, self.marked = {}, {}, {}, {}

    def merge(self, other):
        for name in ("tags", "boxes", "sizes", "drawings"):
            getattr(self, name).update(getattr(other, name))
        for key, drawing in other.marked.items():
            if len(self.marked) < KEPT_DRAWINGS:
                self.marked[key] = drawing
        self.classes.update(other.classes)
        self.counts.extend(other.counts)


class TagChecker:
    """Looks into rows `id <tab> JSON of the detections`.

    Args:
        wanted: set of image ids, None = all.
        show: set of image ids to keep drawings of.
    """

    def __init__(self, wanted=None, show=()):
        self.wanted, self.show = wanted, frozenset(show)

    def new_summary(self):
        return TagSummary()

    def check(self, key, line, row, summary, problem):
        """See `scan_range`."""
        fields = line.split(b"\t")
        if len(fields) < 2:
            return problem("bad_tags", "one column; expected id and JSON")
        try:
            value = json.loads(fields[1])
        except (ValueError, RecursionError) as error:
            return problem("bad_tags", f"malformed JSON ({error})")
        objects = value.get("objects") if isinstance(value, dict) else value
        if not isinstance(objects, list):
            return problem("bad_tags", "expected a list of detections or an object with 'objects'")
        size = picture_size(value)
        if size is None and isinstance(value, dict) and {"image_h", "image_w"} & value.keys():
            found = f"image_h is {value.get('image_h')!r}, image_w is {value.get('image_w')!r}"
            problem("bad_tags", f"{found}; expected sizes in pixels")
        elif size is None:
            problem("no_size", "image_h and image_w are missing")
        classes = [item.get("class") if isinstance(item, dict) else None for item in objects]
        for number, name in enumerate(classes):
            if not isinstance(name, str) or not name.strip():
                return problem("bad_tags", f"detection {number + 1}: 'class' is {str(name)[:40]!r}; expected a word")
        if not objects:
            problem("no_tags", "no detections")
        summary.tags[key] = " ".join(classes)
        summary.classes.update(classes)
        summary.counts.append(len(objects))
        if size is not None:
            summary.sizes[key] = size
        self._check_detections(key, objects, size, summary, problem)

    def _check_detections(self, key, objects, size, summary, problem):
        rects = [item.get("rect") for item in objects]
        for number, rect in enumerate(rects):
            if not isinstance(rect, list) or len(rect) != 4 or not all(map(_is_finite, rect)):
                return problem("bad_tags", f"detection {number + 1}: 'rect' is {str(rect)[:60]}; expected four numbers")
        wrong = check_rects(rects, size, problem)
        confidences = [item.get("conf") for item in objects if _is_finite(item.get("conf"))]
        if any(later > earlier + 1e-6 for earlier, later in zip(confidences, confidences[1:], strict=False)):
            problem("order", f"confidence rises from {min(confidences):.3g} to {max(confidences):.3g} within the row")
        height, width = size or DEFAULT_SIZE
        if rects and size is not None:
            x1, y1, x2, y2 = rects[0]
            summary.boxes[key] = (x1 / width, y1 / height, x2 / width, y2 / height)
        if wrong and len(summary.marked) < KEPT_DRAWINGS:
            others = [item for number, item in enumerate(objects) if number != wrong[0]]
            summary.marked[key] = (_drawn([objects[wrong[0]], *others]), height, width)
        elif key in self.show and not wrong:
            summary.drawings[key] = (_drawn(objects), height, width)


def _drawn(objects):
    return [(item["class"], item["rect"]) for item in objects[:DRAWN]]


def check_rects(rects, size, problem):
    """Boxes in pixels against each other and the picture.

    Args:
        rects: list of [x1, y1, x2, y2].
        size: (height, width), or None where it is not known.
    Returns:
        list of the numbers of boxes that are wrong.
    """
    wrong = [number for number, (x1, y1, x2, y2) in enumerate(rects) if x2 < x1 or y2 < y1]
    if wrong:
        problem("rect_inverted", f"detection {wrong[0] + 1}: rect is {_shown(rects[wrong[0]])} ({len(wrong)} in all)")
        return wrong
    if size is None:
        return []
    height, width = size
    slack_x, slack_y = max(1, BOX_TOLERANCE * width), max(1, BOX_TOLERANCE * height)
    for number, (x1, y1, x2, y2) in enumerate(rects):
        if min(x1 + slack_x, y1 + slack_y) < 0 or x2 > width + slack_x or y2 > height + slack_y:
            wrong.append(number)
    if wrong:
        found = f"detection {wrong[0] + 1}: rect is {_shown(rects[wrong[0]])} ({len(wrong)} in all)"
        problem("rect_outside", f"{found}; the picture is {width:g} x {height:g}")
    return wrong


def picture_size(value):
    """(height, width) that a row of tags gives, or None."""
    if not isinstance(value, dict):
        return None
    size = value.get("image_h"), value.get("image_w")
    return size if all(_is_finite(side) and side > 0 for side in size) else None


def _is_finite(value):
    return type(value) in (int, float) and -1e300 < value < 1e300  # also false for NaN, and safe for endless integers


def _shown(rect):
    return "[" + ", ".join(f"{value:.5g}" for value in rect) + "]"
