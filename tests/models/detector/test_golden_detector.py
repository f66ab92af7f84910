"""The detector against what the official code gives on tiny pictures: every stage, and the three selections."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from oscar_paddle.datasets.regions.values import box_values
from oscar_paddle.models.detector.boxes import clip_boxes
from oscar_paddle.models.detector.detector import DetectorRules, regressed
from oscar_paddle.models.detector.heads import cut, sample_weights
from oscar_paddle.models.detector.pictures import InputRules, detector_input
from oscar_paddle.models.detector.proposals import ProposalRules, cell_anchors
from oscar_paddle.models.detector.selection import SelectionRules, select
from oscar_paddle.models.detector.weights import load_detector

GOLDEN = Path(__file__).parents[2] / "golden" / "region_features"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
ARRAYS = np.load(GOLDEN / "expected_arrays.npz")
RULES = DetectorRules(
    input=InputRules(96, 160),
    proposals=ProposalRules(before_nms=300, after_nms=45),
    selection=SelectionRules(filter=1, threshold=0.2, fewest=6, most=18),
)
IMAGES = sorted(map(int, EXPECTED["images"]))


@pytest.fixture(scope="module")
def model():
    return load_detector(GOLDEN / "checkpoint" / "model_final.pth")


def picture(number):
    rows = (GOLDEN / "data" / "tiny.img.tsv").read_text().splitlines()
    row = dict(line.split("\t", 1) for line in rows)[EXPECTED["images"][str(number)]["key"]]
    return Image.open(io.BytesIO(base64.b64decode(row.split("\t")[-1])))


def wanted(number, name):
    return ARRAYS[f"image{number}_{name}"]


@pytest.mark.parametrize("number", IMAGES)
def test_input_and_stages(model, number):
    facts = EXPECTED["images"][str(number)]
    pixels = detector_input(picture(number), RULES.input)
    assert list(pixels.shape[:0:-1]) == facts["resized_size"]
    np.testing.assert_allclose(pixels[:, ::7, ::7], wanted(number, "input_sample"), atol=1e-3)
    outputs = [output.numpy() for output in model.backbone.body.stages(paddle.to_tensor(pixels[None]))]
    for name, output in zip(("stem", "layer1", "layer2", "layer3"), outputs, strict=True):
        assert list(output.shape) == facts[name]["shape"]
        assert np.abs(output).sum(dtype=np.float64) == pytest.approx(facts[name]["abs_sum"], rel=1e-4)
        assert np.square(output, dtype=np.float64).sum() == pytest.approx(facts[name]["sq_sum"], rel=1e-4)
    np.testing.assert_allclose(outputs[0][0].mean((1, 2)), wanted(number, "stem_channel_mean"), atol=1e-3)
    layer3 = outputs[3][0] if number == 0 else outputs[3][0][:, ::2, ::2]
    np.testing.assert_allclose(layer3, wanted(number, "layer3"), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("number", IMAGES)
def test_proposals_regions_and_classes(model, number):
    pixels = detector_input(picture(number), RULES.input)
    features = model.backbone.body(paddle.to_tensor(pixels[None]))
    scores, corrections = model.rpn.head(features)
    np.testing.assert_allclose(scores[0].numpy(), wanted(number, "rpn_logits"), atol=1e-3)
    np.testing.assert_allclose(corrections[0].numpy(), wanted(number, "rpn_deltas"), atol=1e-3)
    boxes, objectness = model.proposals(features, pixels.shape[1:], RULES.proposals)
    np.testing.assert_allclose(boxes, wanted(number, "proposals"), atol=0.02)
    np.testing.assert_allclose(objectness, wanted(number, "proposal_objectness"), atol=1e-4)
    weights = map(paddle.to_tensor, sample_weights(boxes, features.shape[2:]))
    regions = cut(features, *weights).numpy()
    np.testing.assert_allclose(regions[0], wanted(number, "roi_align_first"), atol=1e-3)
    np.testing.assert_allclose(regions.mean((2, 3)), wanted(number, "roi_align_channel_mean"), atol=1e-3)
    found = model.roi_heads.box.feature_extractor.head(features, boxes)
    np.testing.assert_allclose(found.numpy(), wanted(number, "proposal_features"), atol=1e-3, rtol=1e-3)
    probabilities, deltas = model.roi_heads.box.predictor(found)
    np.testing.assert_allclose(probabilities.numpy(), wanted(number, "class_probabilities"), atol=1e-4)
    if f"image{number}_box_deltas" in ARRAYS:
        np.testing.assert_allclose(deltas.numpy(), wanted(number, "box_deltas"), atol=1e-3)


@pytest.mark.parametrize("number", IMAGES)
def test_detections(model, number):
    image = picture(number)
    found = model.detect(image, RULES)
    assert found.labels.tolist() == wanted(number, "detection_labels").tolist()
    np.testing.assert_allclose(found.scores, wanted(number, "detection_scores"), atol=1e-3)
    np.testing.assert_allclose(found.boxes, wanted(number, "rect"), atol=0.05)
    np.testing.assert_allclose(found.features, wanted(number, "detection_features"), atol=1e-3, rtol=1e-3)
    rows = np.concatenate([found.features, box_values(found.boxes, *found.size)], axis=1)
    np.testing.assert_allclose(rows, wanted(number, "row"), atol=1e-3, rtol=1e-3)
    labels, scores = found.attributes
    np.testing.assert_allclose(scores, wanted(number, "attr_scores"), atol=1e-3)
    real = wanted(number, "attr_scores") > 0
    assert (labels[real] == wanted(number, "attr_labels")[real]).all()


CASES = sorted(name.removesuffix("_boxes") for name in ARRAYS.files if name.startswith("filter") and "_boxes" in name)


@pytest.mark.parametrize("case", CASES)
def test_selection(case):
    kind, how, threshold, image = case.split("_")
    number = int(image.removeprefix("image"))
    size = EXPECTED["images"][str(number)]["resized_size"][::-1]
    boxes = clip_boxes(wanted(number, "proposals"), size)
    if how == "regressed":
        boxes = regressed(boxes, wanted(number, "box_deltas"), size)
    rules = RULES.selection._replace(filter=int(kind[-1]), threshold=float(threshold.removeprefix("thr")))
    found = select(boxes, wanted(number, "class_probabilities"), rules)
    assert found.labels.tolist() == ARRAYS[f"{case}_labels"].tolist()
    np.testing.assert_allclose(found.scores, ARRAYS[f"{case}_scores"], atol=1e-6)
    np.testing.assert_allclose(found.boxes, ARRAYS[f"{case}_boxes"], atol=0.02)


def test_anchors_are_the_published_ones():
    table = cell_anchors().reshape(3, 5, 4).astype(int).tolist()
    assert (
        table[0][0] == [-15, -4, 30, 19] and table[1][2] == [-56, -56, 71, 71] and table[2][4] == [-168, -344, 183, 359]
    )
