"""Where something might be: anchors, their scores and corrections, and the boxes that are left of them.

Boxes are (x1, y1, x2, y2) in pixels of the resized picture. Widths count the last pixel (x2 - x1 + 1) where boxes are
decoded and do not where they are compared: both as upstream (docs/reference.md, proposals).
Shape letters: A anchors of a cell, h, w cells of the map, n boxes.
"""

import math
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddle.vision import ops

from oscar_paddle.models.detector.boxes import check_boxes, clip_boxes

STRIDE = 16  # pixels of the picture to a cell of the map
MOST_GROWTH = math.log(1000 / 16)  # a side grows by at most this power of e


class ProposalRules(NamedTuple):
    """Which boxes are left.

    Attributes:
        before_nms, after_nms: how many of the highest scores go into the suppression, and at most come out.
        overlap: a box goes whose intersection over union with a better one is larger.
        min_size: shortest side that a box may have, in pixels of the resized picture; 0 = any.
    """

    before_nms: int = 6000
    after_nms: int = 300
    overlap: float = 0.7
    min_size: float = 0.0


class ProposalHead(nn.Layer):
    """3x3 convolution, ReLU, and for every cell A scores and 4 A corrections."""

    def __init__(self, width, inner, anchors):
        super().__init__()
        self.conv = nn.Conv2D(width, inner, 3, padding=1)
        self.cls_logits = nn.Conv2D(inner, anchors, 1)
        self.bbox_pred = nn.Conv2D(inner, 4 * anchors, 1)

    def forward(self, features):
        """[N, C, h, w] -> scores [N, A, h, w] before the sigmoid, corrections [N, 4 A, h, w]."""
        hidden = F.relu(self.conv(features))
        return self.cls_logits(hidden), self.bbox_pred(hidden)


def cell_anchors(sizes=(32, 64, 128, 256, 512), ratios=(0.5, 1.0, 2.0), stride=STRIDE):
    """The boxes around the first cell, [len(ratios) * len(sizes), 4] float32, in the order of the channels.

    Source: the legacy rule of Faster R-CNN (generate_anchors.py): the sides of a square of `stride` pixels are changed
    to each ratio and rounded, then scaled to each size around the same centre.
    """
    centre, found = (stride - 1) / 2, []
    for ratio in ratios:
        width = np.round(np.sqrt(stride * stride / ratio))
        height = np.round(width * ratio)
        for size in sizes:
            half = np.array([width, height]) * (size / stride) / 2 - 0.5
            found.append([centre - half[0], centre - half[1], centre + half[0], centre + half[1]])
    return np.array(found, np.float32)


def all_anchors(cells, height, width, stride=STRIDE):
    """The boxes [A, 4] around every cell of a map of height x width cells: [h * w * A, 4], row, column, anchor."""
    y, x = np.mgrid[:height, :width] * stride
    shift = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4).astype(np.float32)
    return (shift + cells).reshape(-1, 4)


def decode(anchors, corrections, weights=(1.0, 1.0, 1.0, 1.0)):
    """Boxes [n, 4] changed by corrections [n, 4] (of the centre in sides, of the sides as logarithms), float32."""
    anchors, corrections = np.asarray(anchors, np.float32), np.asarray(corrections, np.float32)
    sides = anchors[:, 2:] - anchors[:, :2] + 1  # widths count the last pixel
    centres = anchors[:, :2] + 0.5 * sides
    corrections = corrections / np.array(weights, np.float32)
    centres = corrections[:, :2] * sides + centres
    sides = np.exp(np.minimum(corrections[:, 2:], np.float32(MOST_GROWTH))) * sides
    return np.concatenate([centres - 0.5 * sides, centres + 0.5 * sides - np.float32(1)], axis=1)


def propose(scores, corrections, cells, size, rules):
    """The proposals of one picture, the best first.

    Args:
        scores: [A, h, w] float32 array, before the sigmoid. corrections: [4 A, h, w] float32 array.
        cells: [A, 4], see `cell_anchors`.
        size: (height, width) of the picture in pixels, without padding.
        rules: ProposalRules.
    Returns:
        boxes [n, 4] float32, objectness [n] float32 in (0, 1); n is 1 at least: the best box of all where rules leave
        none.
    """
    count, height, width = scores.shape
    objectness = 1 / (1 + np.exp(-scores.transpose(1, 2, 0).reshape(-1).astype(np.float64)))
    objectness = objectness.astype(np.float32)
    corrections = corrections.reshape(count, 4, height, width).transpose(2, 3, 0, 1).reshape(-1, 4)
    order = np.argsort(-objectness, kind="stable")[: rules.before_nms]
    anchors = all_anchors(cells, height, width)[order]
    boxes = clip_boxes(decode(anchors, corrections[order]), size)
    objectness = objectness[order]
    if rules.min_size:
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= rules.min_size).all(axis=1)
        large[0] |= not large.any()
        boxes, objectness = boxes[large], objectness[large]
    kept = suppress(boxes, rules.overlap)[: rules.after_nms]
    return boxes[kept], objectness[kept]


def suppress(boxes, overlap):
    """Which of the boxes [n, 4], the best first, overlap no better one that stays by more than `overlap`: [k] int."""
    check_boxes(boxes)
    # Without scores: the operator sorts them in an order of its own where they are equal (paddlepaddle 3.3.1).
    return ops.nms(paddle.to_tensor(boxes), overlap).numpy()
