"""A detector's published weights into ours: batch norms folded into convolutions, every tensor used.

A batch norm with fixed statistics is x * s + (bias - mean * s) with s = weight / sqrt(variance); VinVL's has no epsilon
(docs/reference.md, detector backbone).
"""

import re

import numpy as np

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.models.checkpoints.weights import load_into
from oscar_paddle.models.detector.backbone import Stage
from oscar_paddle.models.detector.detector import Detector, DetectorShape
from oscar_paddle.models.detector.proposals import cell_anchors

ANCHORS = "rpn.anchor_generator.cell_anchors.0"
BODY, LAST = "backbone.body.layer", "roi_heads.box.feature_extractor.head.layer4"
SHARED = "attribute.feature_extractor.", "roi_heads.box.feature_extractor."  # one module under two names
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_START = re.compile(r"(?:^|\.)(?=(?:backbone\.body|rpn|roi_heads|attribute)\.)")  # of a name, behind any prefix


def load_detector(path):
    """The Detector of a weights file such as vinvl_vg_x152c4.pth, in evaluation mode.

    Raises:
        WeightsError: no such network: tensors that are missing, unexpected, doubled with other values, or of another
            shape, all named.
    """
    state = read_detector(path)
    model = Detector(shape_of(state, path))
    load_into(model, folded(state, path), path)
    model.eval()
    return model


def read_detector(path):
    """{upstream name: array} of a weights file, whatever stands before the names; anchors checked and left out."""
    found = torch_files.load(path)
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise WeightsError(f"{path}: expected a dictionary of tensors, perhaps under 'model', as detectors are saved")
    state = {}
    for stored, value in found.items():
        start = _START.search(stored)
        if not start:
            raise WeightsError(
                f"{path}: {stored!r} is no tensor of a detector (backbone.body, rpn, roi_heads, attribute)"
            )
        name = stored[start.end() :]
        shared = name.replace(*SHARED, 1) if name.startswith(SHARED[0]) else name
        if shared in state and not np.array_equal(state[shared], value):
            raise WeightsError(
                f"{path}: {stored!r} differs from {shared}; expected one extractor for boxes and attributes"
            )
        state[shared] = value
    anchors = state.pop(ANCHORS, None)
    if anchors is not None and not np.array_equal(anchors, cell_anchors()):
        raise WeightsError(f"{path}: {ANCHORS} are not those of sizes 32 to 512 and ratios 0.5, 1 and 2")
    return state


def folded(state, where=""):
    """The same with every batch norm as part of its convolution: {name: array} of a Detector."""
    found = {}
    for name, value in state.items():
        part, _, last = name.rpartition(".")
        norm = _norm_of(part)
        if norm is not None and last == "weight" and f"{norm}.running_var" in state:
            weight, bias, mean, variance = (state[f"{norm}.{each}"].astype(np.float64) for each in _STATISTICS)
            if not (variance > 0).all():
                raise WeightsError(f"{where}: {norm}.running_var holds {variance.min():g}; expected values above 0")
            scale = weight / np.sqrt(variance)
            found[name] = (value * scale[:, None, None, None]).astype(np.float32)
            found[f"{part}.bias"] = (bias - mean * scale).astype(np.float32)
        elif not (part.rpartition(".")[2].startswith("bn") or part.endswith("downsample.1")):
            found[name] = value
    return found


def _norm_of(convolution):
    """Name of the batch norm behind a convolution of the network, or None."""
    head, _, last = convolution.rpartition(".")
    if last.startswith("conv") and last[4:].isdigit():
        return f"{head}.bn{last[4:]}"
    return f"{head}.1" if convolution.endswith("downsample.0") else None


def shape_of(state, where=""):
    """DetectorShape of a network like VinVL's, from the sizes of its tensors."""
    try:
        stages = tuple(_stage(state, f"{BODY}{number}", 1 if number == 1 else 2) for number in (1, 2, 3))
        attributes = "attribute.predictor.attr_score.weight" in state
        return DetectorShape(
            stem=len(state["backbone.body.stem.conv1.weight"]),
            stages=stages,
            last=_stage(state, LAST, 2),
            proposal_width=len(state["rpn.head.conv.weight"]),
            anchors=len(state["rpn.head.cls_logits.weight"]),
            classes=len(state["roi_heads.box.predictor.cls_score.weight"]),
            attributes=len(state["attribute.predictor.attr_score.weight"]) if attributes else 0,
            class_width=state["attribute.predictor.cls_embedding.weight"].shape[1] if attributes else 0,
            attribute_width=len(state["attribute.predictor.fc_attr.weight"]) if attributes else 0,
        )
    except KeyError as error:
        raise WeightsError(f"{where}: no tensor {error}; is this a detector of VinVL's kind?") from None


def _stage(state, name, stride):
    blocks = 0
    while f"{name}.{blocks}.conv1.weight" in state:
        blocks += 1
    middle, out = state[f"{name}.0.conv2.weight"], state[f"{name}.0.conv3.weight"]
    return Stage(blocks, len(middle), len(out), len(middle) // middle.shape[1], stride)
