"""What stands in a region: features, class, box corrections and attributes.

Shape letters: n regions, C channels of the map, h, w cells, F values of a feature (2048), K classes (0: background).
"""

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddle.vision import ops

from oscar_paddle.models.detector.backbone import average, build_stage
from oscar_paddle.models.detector.boxes import check_boxes
from oscar_paddle.models.detector.proposals import STRIDE

SIDE = 14  # cells of a region that is cut out
CHUNK = 50  # regions that are worked on at once, which bounds memory


class RegionFeatures(nn.Layer):
    """Cuts regions out of the map and runs the last stage on them (upstream `feature_extractor.head`).

    Args:
        width: C. stage: Stage, of the last stage.
        pooling: "align" (bilinear samples, VinVL) or "max" (rounded cells, Caffe's bottom-up attention).
    """

    def __init__(self, width, stage, pooling="align"):
        super().__init__()
        self.layer4 = build_stage(width, stage)
        self.pooling = pooling

    def cut(self, features, boxes):
        """Map [1, C, h, w] and boxes [n, 4] in pixels -> [n, C, 14, 14]."""
        check_boxes(np.asarray(boxes))
        boxes, count = paddle.to_tensor(boxes), paddle.to_tensor([len(boxes)], dtype="int32")
        if self.pooling == "max":
            return ops.roi_pool(features, boxes, count, SIDE, 1 / STRIDE)
        # Not aligned, as upstream: no shift by half a cell, a region has one cell at least.
        return ops.roi_align(features, boxes, count, SIDE, 1 / STRIDE, sampling_ratio=-1, aligned=False)

    def forward(self, features, boxes):
        """The same -> region features [n, F], at least 0."""
        parts = [boxes[start : start + CHUNK] for start in range(0, len(boxes), CHUNK)]
        return paddle.concat([average(self.layer4(self.cut(features, part))) for part in parts])


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
