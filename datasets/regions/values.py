"""The numbers of regions: which type bytes are of, which unit boxes have, and the six box values.

Shape letters: R regions of an image, D values of a region.
"""

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import from_bfloat16

VISUAL_DIM = 2048  # the detector's values
BOX_DIM = 6  # the box values that follow them
# Bytes of a value -> the types it may have but float32: name -> function of the bytes.
_OTHER_TYPES = {
    2: {
        "float16": lambda data: np.frombuffer(data, "<f2").astype("<f4"),
        "bfloat16": lambda data: from_bfloat16(np.frombuffer(data, "<u2")),
    },
    8: {"float64": lambda data: np.frombuffer(data, "<f8")},
}


class WrongWidth(DataError):
    """Regions have another number of values than INPUT.IMG_FEATURE_DIM says."""


def as_regions(array, feature_dim, where):
    """An array from a file as the regions of an image: [R, feature_dim] float32; R may be 0.

    Raises:
        DataError: another shape, or a type that is no float; begins with `where`, the file and image.
    """
    if isinstance(array, np.ndarray):
        found = f"{array.dtype} {list(array.shape)}"
    else:
        keys = f" with the keys {', '.join(map(str, list(array)[:6]))}" if isinstance(array, dict) and array else ""
        found, array = f"{type(array).__name__}{keys}", np.empty(())
    if array.ndim and not len(array):
        return np.zeros((0, feature_dim), "<f4")
    if array.ndim == 2 and array.dtype.kind in "iu" and array.itemsize == 2 and array.shape[1] == feature_dim:
        return _of_type(np.ascontiguousarray(array).tobytes(), array.shape, f"{where}: {array.dtype}")
    if array.dtype.kind != "f" or array.ndim != 2:
        raise DataError(f"{where}: the regions are {found}; expected float32 [regions, {feature_dim}]")
    if array.shape[1] != feature_dim:
        turned = array.shape[0] in (feature_dim, feature_dim - BOX_DIM) and "; are rows and columns exchanged?"
        raise WrongWidth(f"{where}: {explain_width(array.shape[1], feature_dim)}{turned or ''}")
    return np.ascontiguousarray(array, "<f4")


def regions_of_bytes(data, num_boxes, widths, where):
    """The values of an image's boxes, from bytes of float32, or of another type where there is no doubt of it:
    [num_boxes, one of `widths`] float32, of which the first is the expected one.

    Raises:
        DataError: another number of bytes, or a type that can only be guessed.
    """
    for width in widths:
        if len(data) == 4 * num_boxes * width:
            return np.frombuffer(data, "<f4").reshape(num_boxes, width)
    for width in widths:
        if len(data) in (2 * num_boxes * width, 8 * num_boxes * width):
            return _of_type(data, (num_boxes, width), where)
    width, rest = divmod(len(data), num_boxes * 4)
    if rest:
        expected = f"{num_boxes * widths[0] * 4} ({num_boxes} boxes x {widths[0]} values x 4 bytes)"
        raise DataError(f"{where}: {len(data)} bytes; expected {expected}")
    raise WrongWidth(f"{where}: {explain_width(width, widths[0])}")


def _of_type(data, shape, where):
    """Values of 2 or 8 bytes as float32, if exactly one type makes sense of them."""
    size = len(data) // (shape[0] * shape[1])
    found = {name: read(data).reshape(shape) for name, read in _OTHER_TYPES[size].items()}
    right = [values for values in found.values() if _has_box_values(values) or _was_float32(values)]
    if len(right) == 1:
        return np.ascontiguousarray(right[0], "<f4")
    raise DataError(
        f"{where}: {shape[0]} boxes x {shape[1]} values have {size} bytes each, expected 4 (float32): "
        f"{' or '.join(found)}, or another number of boxes? Write them as float32"
    )


def _has_box_values(regions):
    """Whether the last six values are x1, y1, x2, y2, x2 - x1, y2 - y1 as fractions: no other type's bytes pass."""
    boxes = regions[:, -BOX_DIM:].astype(np.float64)
    if regions.shape[1] in (BOX_DIM, VISUAL_DIM) or not np.isfinite(boxes).all() or not 0.05 < boxes.max() < 1.05:
        return False  # bytes of float16 read as bfloat16 are below 0.01, those of bfloat16 read as float16 above 1.4
    return bool(np.abs(boxes[:, 2:4] - boxes[:, :2] - boxes[:, 4:]).max() < 0.02)  # bfloat16 has 8 bits


def _was_float32(values):
    """Whether float64 values have no more digits than float32; two float32 read as one float64 have."""
    return values.dtype == np.float64 and not np.any(values.view("<u8") & 0x1FFFFFFF) and bool(values.any())


def explain_width(width, feature_dim):
    """What is wrong with regions of `width` values, in words."""
    if width == VISUAL_DIM and feature_dim == VISUAL_DIM + BOX_DIM:
        return "regions have 2048 values: the six box values are missing (expected 2054, INPUT.IMG_FEATURE_DIM)"
    return f"regions have {width} values; expected {feature_dim} (INPUT.IMG_FEATURE_DIM)"


def check_finite(regions, where):
    """Raises DataError, naming region and column (from 1), if a value is NaN or infinite."""
    finite = np.isfinite(regions)
    if not finite.all():
        region, column = np.argwhere(~finite)[0]
        value = regions[region, column]
        raise DataError(f"{where}: region {region + 1} column {column + 1} is {value}; expected a finite number")


def box_values(boxes, image_w, image_h):
    """The six box values of regions: [R, 6] float32 of x1/W, y1/H, x2/W, y2/H, (x2-x1)/W, (y2-y1)/H.

    Args:
        boxes: [R, 4] x1, y1, x2, y2 in pixels.
        image_w, image_h: size of the picture in pixels.
    Source: docs/reference.md, regions.
    """
    corners = np.asarray(boxes, np.float64) / np.array([image_w, image_h, image_w, image_h], np.float64)
    return np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1).astype(np.float32)


def checked_box_values(boxes, image_w, image_h, where):
    """The six values of boxes that somebody else wrote (see `box_values`).

    Raises:
        DataError: a box is none, lies far outside the picture, or all of them are fractions of it.
    """
    limits = np.array([image_w, image_h] * 2)
    size = f"{image_w:g} x {image_h:g}"
    good = np.isfinite(boxes).all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1) & (np.abs(boxes) <= 2 * limits).all(1)
    if not good.all():
        region = int(np.argmin(good))
        raise DataError(
            f"{where}: the box of region {region + 1} is {boxes[region].tolist()}; expected x1, y1, x2, y2 in pixels, "
            f"in a picture of {size}"
        )
    if are_fractions(boxes, image_w, image_h):
        remedy = f"(multiply x by {image_w:g} and y by {image_h:g})"
        raise DataError(f"{where}: {FRACTIONS}, in a picture of {size} {remedy}")
    return box_values(boxes, image_w, image_h)


FRACTIONS = "the boxes lie between 0 and 1: fractions? expected pixels"


def are_fractions(boxes, image_w, image_h):
    """Whether no box of a picture (rows of x1, y1, x2, y2) has a pixel of it; extractors round."""
    return len(boxes) > 0 and max(image_w, image_h) > 2 and np.max(boxes) <= 1.01
