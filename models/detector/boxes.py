"""Boxes as numbers: cut to a picture, compared, and guarded before an operator of the framework sees them."""

import numpy as np

from oscar_paddle.config.errors import DataError


def clip_boxes(boxes, size):
    """Boxes [n, 4] within a picture of (height, width): edges from 0 to width - 1 and height - 1."""
    height, width = size
    return np.clip(boxes, 0, np.array([width - 1, height - 1] * 2, np.float32)).astype(np.float32)


def check_boxes(boxes, size=None, where="boxes"):
    """Refuse what is no box: the framework's operators on boxes do not look, and can end the process.

    Args:
        boxes: [n, 4] float array. size: (height, width) that they lie in, or None. where: what they are, for messages.
    Raises:
        DataError: another shape; a value that is not finite; edges in the wrong order; a box outside the picture.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise DataError(f"{where}: {list(boxes.shape)} values; expected [n, 4] with n from 1 on")
    wrong = ~np.isfinite(boxes).all(axis=1)
    what = "is not finite; the weights hold NaN, or overflow"
    if not wrong.any():
        # A decoded box counts its last pixel: one of less than a pixel ends up to 1 before it begins.
        wrong, what = (boxes[:, 2:] < boxes[:, :2] - 1).any(axis=1), "ends before it begins; expected x1, y1, x2, y2"
    if not wrong.any() and size is not None:
        height, width = size
        wrong = (boxes < 0).any(axis=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
        what = f"is outside the picture of {width} x {height} pixels"
    if wrong.any():
        number = int(wrong.argmax())
        raise DataError(f"{where}: box {number} {boxes[number].tolist()} {what}")


def overlaps(boxes, others):
    """Intersection over union of boxes [n, 4] and [m, 4]: [n, m] float32; 0 where both have no area."""

    def area(b):
        return (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])

    lower = np.maximum(boxes[:, None, :2], others[None, :, :2])
    upper = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.maximum(upper - lower, 0)
    inside = sides[..., 0] * sides[..., 1]
    union = area(boxes)[:, None] + area(others)[None] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
