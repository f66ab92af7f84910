"""VinVL's X152-C4 detector, and networks like it: a picture to boxes, classes, attributes and region features.

What shape a network has is read off its weights (`weights.py`). Shape letters: n proposals, k detections, F values of
a feature, K classes.
"""

from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn as nn

from oscar_paddle.models.detector.backbone import Backbone, Stage
from oscar_paddle.models.detector.boxes import check_boxes, clip_boxes
from oscar_paddle.models.detector.heads import AttributeHead, ClassHead, RegionFeatures, attributes_of
from oscar_paddle.models.detector.pictures import InputRules, detector_input
from oscar_paddle.models.detector.proposals import ProposalHead, ProposalRules, cell_anchors, decode, propose
from oscar_paddle.models.detector.selection import SelectionRules, select

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the corrections that go with a class


class DetectorShape(NamedTuple):
    """Sizes of a network; the defaults are those of VinVL's X152-C4.

    Attributes:
        stem: channels of the stem. stages: the Stages before the regions. last: the Stage that runs on them.
        proposal_width: channels inside the proposal head. classes: the background included.
        attributes, class_width, attribute_width: see `AttributeHead`; 0 attributes: there is no such head.
    """

    stem: int = 64
    stages: tuple = (Stage(3, 256, 256, 32, 1), Stage(8, 512, 512, 32), Stage(36, 1024, 1024, 32))
    last: Stage = Stage(3, 2048, 2048, 32)
    proposal_width: int = 1024
    anchors: int = 15
    classes: int = 1595
    attributes: int = 525
    class_width: int = 256
    attribute_width: int = 512


class DetectorRules(NamedTuple):
    """What is done with a network's outputs.

    Attributes:
        input, proposals, selection: see these.
        regress: whether a detection's box is the proposal corrected for its class, rather than the proposal itself.
    """

    input: InputRules = InputRules()
    proposals: ProposalRules = ProposalRules()
    selection: SelectionRules = SelectionRules()
    regress: bool = False


VINVL_RULES = DetectorRules()


class Found(NamedTuple):
    """What there is in a picture, the surest first.

    Attributes:
        size: (width, height) of the picture in pixels.
        boxes: [k, 4] float32, x1, y1, x2, y2 in pixels of the picture.
        labels: [k] int64, classes from 1 on. scores: [k] float32.
        features: [k, F] float32.
        attributes: (labels [k, 16] int64, scores [k, 16] float32), see `attributes_of`; None where there is no head.
    """

    size: tuple
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    attributes: tuple | None


class Detector(nn.Layer):
    """The network of a DetectorShape, with upstream names but for the batch norms, which are part of convolutions."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        width = shape.stages[-1].out
        self.backbone = nn.Layer()
        self.backbone.body = Backbone(shape.stem, shape.stages)
        self.rpn = nn.Layer()
        self.rpn.head = ProposalHead(width, shape.proposal_width, shape.anchors)
        self.roi_heads = nn.Layer()
        self.roi_heads.box = box = nn.Layer()
        box.feature_extractor = nn.Layer()
        box.feature_extractor.head = RegionFeatures(width, shape.last)
        box.predictor = ClassHead(shape.last.out, shape.classes)
        if shape.attributes:
            self.attribute = nn.Layer()
            sizes = shape.last.out, shape.classes, shape.attributes, shape.class_width, shape.attribute_width
            self.attribute.predictor = AttributeHead(*sizes)
        self.cells = cell_anchors()

    @paddle.no_grad()
    def detect(self, image, rules=VINVL_RULES):
        """A PIL image -> Found; one picture at a time, as a batch's padding would change the results."""
        pixels = detector_input(image, rules.input)
        features = self.backbone.body(paddle.to_tensor(pixels[None]))
        proposals, _ = self.proposals(features, pixels.shape[1:], rules.proposals)
        return self.describe(features, proposals, pixels.shape[1:], image.size, rules)

    def proposals(self, features, size, rules):
        """Map [1, C, h, w] of a picture of (height, width) -> proposals [n, 4], objectness [n]; see `propose`."""
        scores, corrections = self.rpn.head(features)
        return propose(scores[0].numpy(), corrections[0].numpy(), self.cells, size, rules)

    def describe(self, features, proposals, size, original, rules):
        """What stands in the proposals of a picture, as Found.

        Args:
            features: [1, C, h, w]. proposals: [n, 4] in pixels of the resized picture.
            size: (height, width) of the resized picture. original: (width, height) of the picture itself.
        """
        head, predictor = self.roi_heads.box.feature_extractor.head, self.roi_heads.box.predictor
        region_features = head(features, proposals)
        probabilities, corrections = (output.numpy() for output in predictor(region_features))
        boxes = clip_boxes(proposals, size)
        if rules.regress:
            boxes = regressed(boxes, corrections, size)
        found = select(boxes, probabilities, rules.selection)
        check_boxes(found.boxes, size, "detections")
        kept = paddle.gather(region_features, paddle.to_tensor(found.proposals))
        attributes = None
        if self.shape.attributes:
            if rules.regress:  # upstream looks at the corrected boxes again
                kept_again = head(features, found.boxes)
            logits = self.attribute.predictor(kept_again if rules.regress else kept, paddle.to_tensor(found.labels))
            attributes = attributes_of(logits.numpy())
        scale = np.array([original[0] / size[1], original[1] / size[0]] * 2, np.float32)
        return Found(original, found.boxes * scale, found.labels, found.scores, kept.numpy(), attributes)


def regressed(proposals, corrections, size):
    """Proposals [n, 4] with the corrections [n, 4 K] of every class: [n, K, 4], within the picture."""
    n, classes = len(proposals), corrections.shape[1] // 4
    boxes = decode(np.repeat(proposals, classes, axis=0), corrections.reshape(-1, 4), BOX_WEIGHTS)
    return clip_boxes(boxes, size).reshape(n, classes, 4)
