"""What stands in a region: features, class, box corrections and attributes.

Shape letters: n regions, C channels of the map, h, w cells, F values of a feature (2048), K classes (0: background).
"""

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from oscar_paddle.models.detector.backbone import average, build_stage
from oscar_paddle.models.detector.boxes import check_boxes
from oscar_paddle.models.detector.proposals import STRIDE

SIDE = 14  # cells of a region that is cut out
CHUNK = 25  # regions that are worked on at once, which bounds memory


class RegionFeatures(nn.Layer):
    """Cuts regions out of the map and runs the last stage on them (upstream `feature_extractor.head`).

    Args:
        width: C. stage: Stage, of the last stage.
    """

    def __init__(self, width, stage):
        super().__init__()
        self.layer4 = build_stage(width, stage)
        self.stride = stage.stride

    def forward(self, features, boxes):
        """Map [1, C, h, w] and boxes [n, 4] in pixels -> region features [n, F], at least 0."""
        check_boxes(boxes)
        maps = self.maps(features)
        parts = [self.describe(maps, *part) for part in self.parts(boxes, features.shape[2:])]
        return paddle.concat(parts)

    def maps(self, features):
        """What is computed once for all regions, of the map [1, C, h, w].

        These are the first 1x1 convolution and the shortcut's: as samples are sums with weights, it is the same to
        apply them before the samples are taken, and there are far fewer cells than samples.
        """
        first = self.layer4[0]
        return tuple(F.conv2d(features, conv.weight) for conv in (first.conv1, first.downsample[0]))

    def parts(self, boxes, size):
        """Boxes [n, 4] on a map of (h, w) cells as the inputs of `describe`, CHUNK at a time."""
        for start in range(0, len(boxes), CHUNK):
            weights = sample_weights(boxes[start : start + CHUNK], size)
            yield tuple(map(paddle.to_tensor, weights))

    def describe(self, maps, down, across):
        """Maps, and boxes as `parts` gives them -> [n, F]."""
        first = self.layer4[0]
        hidden = cut(maps[0], down, across) + first.conv1.bias.reshape([1, -1, 1, 1])
        every = self.stride  # the shortcut skips cells as the block does
        shortcut = cut(maps[1], down[:, ::every], across[:, ::every])
        hidden = first.rest(F.relu(hidden), shortcut + first.downsample[0].bias.reshape([1, -1, 1, 1]))
        return average(self.layer4[1:](hidden))


def sample_weights(boxes, size):
    """RoIAlign as sums with weights: its samples are products of a row's and a column's.

    Args:
        boxes: [n, 4] in pixels. size: (h, w) of the map.
    Returns:
        down [n, 14, h], across [n, 14, w], float32: how much of each row and column of the map is in each of the 14
        rows and columns of a region.
    Source: RoIAlign with aligned=False and sampling_ratio 0: a region has one cell at least, each of its parts the
        mean of ceil(cells / 14) samples each way; a sample beyond the map by more than a cell counts as 0.
    """
    boxes = boxes / np.float32(STRIDE)
    return tuple(_weights(boxes[:, axis], boxes[:, axis + 2], length) for axis, length in ((1, size[0]), (0, size[1])))


def _weights(start, stop, length):
    extent = np.maximum(stop - start, np.float32(1))
    step = extent / np.float32(SIDE)
    samples = np.ceil(step).astype(np.int64)
    most = int(samples.max())
    number = np.arange(most)[None, None, :]
    there = number < samples[:, None, None]
    part = np.arange(SIDE, dtype=np.float32)[None, :, None]
    count = samples.astype(np.float32)[:, None, None]
    place = start[:, None, None] + part * step[:, None, None] + (number + np.float32(0.5)) * step[:, None, None] / count
    there = there & (place >= -1) & (place <= length)
    place = np.maximum(place, np.float32(0))
    low = np.minimum(place.astype(np.int64), length - 1)
    high = np.minimum(low + 1, length - 1)
    rest = np.where(low == length - 1, np.float32(0), place - low)
    weights = np.zeros((len(start), SIDE, length), np.float32)
    box, part = (
        np.broadcast_to(np.arange(len(start))[:, None, None], low.shape),
        np.broadcast_to(np.arange(SIDE)[None, :, None], low.shape),
    )
    share = np.where(there, 1 / count, np.float32(0)).astype(np.float32)
    np.add.at(weights, (box, part, low), share * (1 - rest))
    np.add.at(weights, (box, part, high), share * rest)
    return weights


def cut(features, down, across):
    """Map [1, C, h, w] and weights [n, p, h], [n, q, w] -> [n, C, p, q]."""
    height, width = down.shape[2], across.shape[2]
    cells = features.transpose([0, 2, 3, 1]).reshape([height, -1])  # [h, w C]
    rows = paddle.matmul(down, cells).reshape([0, 0, width, features.shape[1]])  # [n, p, w, C]
    return paddle.matmul(across.unsqueeze(1), rows).transpose([0, 3, 1, 2])


class ClassHead(nn.Layer):
    """Class and box corrections of a region."""

    def __init__(self, width, classes):
        super().__init__()
        self.cls_score = nn.Linear(width, classes)
        self.bbox_pred = nn.Linear(width, 4 * classes)

    def forward(self, features):
        """[n, F] -> probabilities [n, K], corrections [n, 4 K]."""
        return F.softmax(self.cls_score(features), axis=-1), self.bbox_pred(features)


class AttributeHead(nn.Layer):
    """Attributes of a region of a known class.

    Args:
        width: F. classes: K. attributes: how many, 0: none. class_width, inner: of the class's embedding and of the
            layer between.
    """

    def __init__(self, width, classes, attributes, class_width, inner):
        super().__init__()
        self.cls_embedding = nn.Embedding(classes, class_width)
        self.fc_attr = nn.Linear(width + class_width, inner)
        self.attr_score = nn.Linear(inner, attributes)

    def forward(self, features, labels):
        """Features [n, F] and classes [n] int64 -> logits [n, attributes]."""
        together = paddle.concat([features, self.cls_embedding(labels)], axis=1)
        return self.attr_score(F.relu(self.fc_attr(together)))


MOST_ATTRIBUTES, ATTRIBUTE_THRESHOLD = 16, 0.05  # of an object; lower probabilities are none


def attributes_of(logits):
    """Attributes of regions, the likeliest first.

    Args:
        logits: [n, attributes] float32 array.
    Returns:
        labels [n, 16] int64, scores [n, 16] float32; 0 and 0 where there are no more.
    """
    logits = logits.astype(np.float32)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = odds / odds.sum(axis=1, keepdims=True)
    scores[:, 0] = 0
    scores[scores <= ATTRIBUTE_THRESHOLD] = 0
    labels = np.argsort(-scores, axis=1, kind="stable")[:, :MOST_ATTRIBUTES]
    scores = np.take_along_axis(scores, labels, axis=1)
    labels = np.where(scores > 0, labels, 0)
    room = [(0, 0), (0, MOST_ATTRIBUTES - labels.shape[1])] if labels.shape[1] < MOST_ATTRIBUTES else [(0, 0), (0, 0)]
    return np.pad(labels, room), np.pad(scores, room)
