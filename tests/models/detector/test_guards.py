"""What is refused before an operator of the framework sees it, and small sizes."""

import numpy as np
import paddle
import pytest
from paddle.vision import ops
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.detector.boxes import check_boxes, overlaps
from oscar_paddle.models.detector.heads import cut, sample_weights
from oscar_paddle.models.detector.pictures import InputRules, detector_input, resized_size
from oscar_paddle.models.detector.proposals import ProposalRules, cell_anchors, propose
from oscar_paddle.models.detector.selection import SelectionRules, select, survivors

BOX = [1.0, 2.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([[1.0, 2.0, np.nan, 6.0]], r"box 0 .* is not finite"),
        ([BOX, [1.0, 2.0, np.inf, 6.0]], r"box 1 .* is not finite"),
        ([BOX, BOX, [5.0, 2.0, 1.0, 6.0]], r"box 2 .* ends before it begins"),
        ([BOX, [1.0, 2.0, 50.0, 6.0]], r"box 1 .* outside the picture of 20 x 10 pixels"),
        (np.zeros((0, 4)), r"\[0, 4\] values; expected \[n, 4\]"),
        (np.zeros((2, 5)), r"\[2, 5\] values"),
    ],
)
def test_boxes(boxes, words):
    with pytest.raises(DataError, match=words):
        check_boxes(np.array(boxes), size=(10, 20))
    check_boxes(np.array([BOX, [0.0, 0.0, 20.0, 10.0], [3.0, 3.0, 2.5, 3.0]]), size=(10, 20))


def test_nan_scores_are_refused_and_something_is_always_proposed():
    cells, size = cell_anchors(), (32, 32)
    scores, corrections = np.zeros((15, 2, 2), np.float32), np.zeros((60, 2, 2), np.float32)
    rules = ProposalRules(min_size=1000.0)  # larger than all of them
    boxes, objectness = propose(scores, corrections, cells, size, rules)
    assert boxes.shape == (1, 4) and objectness.tolist() == [0.5]
    corrections[5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        propose(scores, corrections, cells, size, ProposalRules())


def test_equal_scores_stay_in_the_order_of_the_anchors():
    """The framework's own sorting has no order there."""
    boxes, _ = propose(
        np.zeros((15, 1, 3), np.float32), np.zeros((60, 1, 3), np.float32), cell_anchors(), (300, 600), ProposalRules()
    )
    assert boxes[0].tolist() == [0, 0, 30, 19] and boxes[1].tolist() == [0, 0, 53, 31]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((640, 480), (800, 600)), ((1000, 300), (1000, 300)), ((480, 640), (600, 800)), ((1, 1), (600, 600))],
)
def test_sizes(size, wanted):
    assert resized_size(*size, InputRules()) == wanted


@pytest.mark.parametrize("size", [(20_000, 7), (3, 5000), (1, 1)])
def test_extreme_shapes_have_a_pixel_each_way(size):
    pixels = detector_input(Image.new("RGB", size), InputRules(60, 100))
    assert pixels.shape[0] == 3 and min(pixels.shape[1:]) >= 1 and max(pixels.shape[1:]) <= 200


def test_survivors_equal_a_plain_loop():
    rng = np.random.default_rng(3)
    corner = rng.random((40, 2)) * 20
    boxes = np.concatenate([corner, corner + rng.random((40, 2)) * 15], axis=1).astype(np.float32)
    scores = np.round(rng.random((40, 5)), 1).astype(np.float32)  # with ties
    shared = np.broadcast_to(boxes[:, None], (40, 5, 4))
    found = survivors(shared, scores, 0.3)
    assert (survivors(np.ascontiguousarray(shared), scores, 0.3) == found).all()
    for c in range(5):
        kept = []
        for i in np.argsort(-scores[:, c], kind="stable"):
            if all(overlaps(boxes[[i]], boxes[[j]])[0, 0] <= np.float32(0.3) for j in kept):
                kept.append(i)
        assert np.flatnonzero(found[:, c]).tolist() == sorted(kept)


@pytest.mark.parametrize(
    ("kind", "wanted"), [(0, [(1, 0), (1, 1), (2, 1), (2, 0)]), (1, [(2, 1), (1, 0)]), (2, [(2, 1), (1, 0)])]
)
def test_fewer_proposals_than_wanted(kind, wanted):
    """All (class, proposal) there are: class by class, or the surest first."""
    boxes = np.array([BOX, [10.0, 10.0, 20.0, 20.0]], np.float32)
    probabilities = np.array([[0.9, 0.06, 0.04], [0.8, 0.05, 0.15]], np.float32)
    found = select(boxes, probabilities, SelectionRules(filter=kind))
    assert list(zip(found.labels.tolist(), found.proposals.tolist(), strict=True)) == wanted
    assert (found.scores == probabilities[found.proposals, found.labels]).all()
    assert (found.boxes == boxes[found.proposals]).all()


def test_samples_are_those_of_the_framework():
    """RoIAlign as two products equals paddle.vision.ops.roi_align, thin boxes at the edges and beyond them included."""
    rng = np.random.default_rng(4)
    features = rng.standard_normal((1, 5, 9, 13)).astype(np.float32)
    corner = rng.random((60, 2)) * [220, 150]
    boxes = np.concatenate([corner, corner + rng.random((60, 2)) ** 3 * 200], axis=1)
    boxes = np.concatenate([boxes, [[207, 10, 208, 143], [0, 143, 200, 144], [0, 0, 0, 0], [205, 140, 300, 290]]])
    boxes = boxes.astype(np.float32)
    count = paddle.to_tensor([len(boxes)], dtype="int32")
    options = {"spatial_scale": 1 / 16, "sampling_ratio": -1, "aligned": False}
    wanted = ops.roi_align(paddle.to_tensor(features), paddle.to_tensor(boxes), count, 14, **options).numpy()
    weights = map(paddle.to_tensor, sample_weights(boxes, (9, 13)))
    np.testing.assert_allclose(cut(paddle.to_tensor(features), *weights).numpy(), wanted, atol=1e-5)
