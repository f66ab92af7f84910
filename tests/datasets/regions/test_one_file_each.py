"""One file for each image: .npz of one's own, whose box values are computed, and .npy of the Paddle ports."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import from_bfloat16
from oscar_paddle.datasets.regions.one_file_each import NpyFeatures, NpzFeatures
from oscar_paddle.datasets.regions.oscar_v1 import DictionaryFeatures
from oscar_paddle.datasets.regions.values import box_values

VISUAL = np.random.default_rng(0).random((3, 2048), np.float32)
BOXES = np.array([[0, 0, 640, 480], [10, 20, 30, 60], [320.5, 0, 640, 240]])
SIX = [[0, 0, 1, 1, 1, 1], [1 / 64, 1 / 24, 3 / 64, 1 / 8, 1 / 32, 1 / 12], [320.5 / 640, 0, 1, 0.5, 319.5 / 640, 0.5]]


@pytest.fixture
def write(tmp_path):
    def write(name="dog", **changes):
        arrays = {"features": VISUAL, "boxes": BOXES, "image_w": 640, "image_h": 480, "tags": ["dog", "red car"]}
        arrays = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return tmp_path

    return write


def test_six_box_values_are_computed(write):
    found = NpzFeatures(write())["dog"]
    assert found.shape == (3, 2054) and found.dtype == np.float32 and not found.flags.writeable
    np.testing.assert_array_equal(found[:, :2048], VISUAL)
    np.testing.assert_array_equal(found[:, 2048:], np.array(SIX, np.float32))


def test_complete_regions_need_no_boxes(write):
    whole = np.random.default_rng(1).random((2, 2054), np.float32)
    folder = write(features=whole, boxes=None, image_w=None, image_h=None)
    np.testing.assert_array_equal(NpzFeatures(folder)["dog"], whole)
    np.testing.assert_array_equal(NpzFeatures(folder, max_region=1)["dog"], whole[:1])
    np.testing.assert_array_equal(NpzFeatures(write(features=VISUAL), feature_dim=2048)["dog"], VISUAL)


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.data())
def test_box_values_of_boxes_inside_the_picture(size, data):
    width, height = size
    x1, x2 = sorted(data.draw(st.tuples(*[st.floats(0, width, width=32)] * 2)))
    y1, y2 = sorted(data.draw(st.tuples(*[st.floats(0, height, width=32)] * 2)))
    (values,) = box_values([[x1, y1, x2, y2]], width, height)
    assert values.dtype == np.float32 and (values >= 0).all() and (values <= 1).all()
    np.testing.assert_allclose(values[[4, 5]], values[[2, 3]] - values[[0, 1]], atol=2e-7)
    np.testing.assert_allclose(values[:4] * [width, height, width, height], [x1, y1, x2, y2], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [(["dog", "red car", "dog"], "dog red car dog"), ("dog red car", "dog red car"), ([], ""), ([""], "")],
)
def test_tags(write, tags, expected):
    features = NpzFeatures(write(tags=tags))
    labels = features.open_tags("", "train", "vg")
    assert labels["dog"] == expected and "dog" in labels and "cat" not in labels


@pytest.mark.parametrize(
    ("tags", "message"),
    [(None, "no array 'tags'.*ADD_OD_LABEL"), (7, "'tags' is int64"), ([["a", "b"]], "'tags' is <U1"), ([1.0], "fl")],
)
def test_tags_that_are_none(write, tags, message):
    features = NpzFeatures(write(tags=tags))
    with pytest.raises(DataError, match=rf"dog\.npz \(image dog\): .*{message}"):
        features.open_tags("", "train", "vg")["dog"]
    assert features["dog"].shape == (3, 2054)


def with_box(row, *box):
    boxes = BOXES.copy()
    boxes[row] = box
    return boxes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "no array 'features'.*; found boxes, image_w, image_h, tags$"),
        (
            {"features": None, "boxes": None, "x": VISUAL, "bbox": BOXES, "num_bbox": 3},
            "found image_w, image_h, tags, x, bbox, num_bbox: rename x to features and rename bbox to boxes",
        ),
        ({"boxes": None, "rois": BOXES}, "no array 'boxes'; found .*: rename rois to boxes"),
        ({"image_w": None, "width": 640}, "'image_w' is missing; .*: rename width to image_w"),
        ({"features": VISUAL.T}, r"regions have 3 values; .*; are rows and columns exchanged\?"),
        ({"features": VISUAL.view("<u2")[:, 1::2]}, r"uint16: 3 boxes x 2048 values .*: float16 or bfloat16"),
        (
            {"boxes": BOXES / [640, 480, 640, 480]},
            r"the boxes lie between 0 and 1: fractions\? expected pixels, .* 640 x 480",
        ),
        ({"features": VISUAL[0]}, r"the regions are float32 \[2048\]"),
        ({"features": VISUAL[:0], "boxes": BOXES[:0]}, "number of boxes is 0"),
        ({"features": VISUAL[:, :2000]}, "regions have 2000 values; expected 2054"),
        ({"features": VISUAL.astype(np.int64)}, r"the regions are int64 \[3, 2048\]"),
        ({"boxes": None}, "2048 values: the six box values are missing .*, and no array 'boxes'"),
        ({"boxes": BOXES[:2]}, r"'boxes' is float64 \[2, 4\]; expected \[3, 4\] numbers"),
        ({"boxes": with_box(1, 30, 20, 10, 60)}, r"the box of region 2 is \[30.0, 20.0, 10.0, 60.0\]"),
        ({"boxes": with_box(2, 0, 0, 1300, 20)}, "the box of region 3 .* in a picture of 640 x 480"),
        ({"boxes": with_box(0, 0, 0, np.nan, 20)}, "the box of region 1 is"),
        ({"image_w": None}, "'image_w' is missing; expected the size of the picture in pixels"),
        ({"image_h": 0}, "'image_h' is 0"),
        ({"image_h": "480"}, "'image_h' is 480"),
        ({"image_w": [640, 640]}, r"'image_w' is \(2,\)"),
        ({"features": np.where(np.isin(VISUAL, VISUAL[1, 7]), np.inf, VISUAL)}, "region 2 column 8 is inf"),
    ],
)
def test_damaged_npz(write, changes, message):
    folder = write(**changes)
    with pytest.raises(DataError, match=message) as caught:
        NpzFeatures(folder)["dog"]
    assert str(caught.value).startswith(f"{folder / 'dog.npz'} (image dog): ")


@pytest.mark.parametrize("dtype", ["<f2", "<f8", "V2", "<u2", "<i2"])
def test_other_types_of_numbers(write, dtype, tmp_path):
    whole = np.concatenate([VISUAL, np.array(SIX, np.float32)], axis=1)
    words = np.ascontiguousarray(whole.view("<u2")[:, 1::2])  # the bits of bfloat16, as ml_dtypes and as Paddle give it
    stored = words.view(dtype) if dtype in ("V2", "<u2", "<i2") else whole.astype(dtype)
    expected = from_bfloat16(words) if dtype in ("V2", "<u2", "<i2") else stored.astype(np.float32)
    np.testing.assert_array_equal(NpzFeatures(write(features=stored))["dog"], expected)
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "9.npy", stored)
    np.testing.assert_array_equal(NpyFeatures(tmp_path / "npy")[9], expected)
    torch_file = tmp_path / "train_img_frcnn_feats.pd"
    torch_file.write_bytes(pickle.dumps({9: stored}, 4))
    if dtype != "V2":  # Paddle gives uint16
        np.testing.assert_array_equal(DictionaryFeatures(torch_file)[9], expected)


def test_boxes_of_a_picture_of_one_pixel_are_no_fractions(write):
    found = NpzFeatures(write(boxes=np.array([[0, 0, 1, 1]] * 3), image_w=2, image_h=2))["dog"]
    assert found[0, 2048:].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5]


def test_box_values_in_pixels_are_said_once(write, caplog):
    pixels = np.concatenate([VISUAL, np.array(SIX) * 640], axis=1).astype(np.float32)
    features = NpzFeatures(write("dog", features=pixels))
    write("cat", features=pixels)
    features = NpzFeatures(features.path)
    assert features["dog"].shape == features["cat"].shape
    assert caplog.text.count("the box values reach 640: pixels?") == 1


def test_boxes_a_little_outside_are_fine(write):
    assert NpzFeatures(write(boxes=with_box(0, -2.5, -1, 641, 482)))["dog"][0, 2048] < 0


def test_npy_of_the_paddle_ports(tmp_path):
    folder = tmp_path / "train_img_frcnn_feats"
    folder.mkdir()
    with pytest.raises(DataError, match=r"train_img_frcnn_feats: no \.npy files"):
        NpyFeatures(folder)
    whole = np.random.default_rng(1).random((2, 2054), np.float32)
    np.save(folder / "000000391895.npy", whole)  # as COCO pads ids
    np.save(folder / "9.npy", whole[:, :2048])
    features = NpyFeatures(folder)
    assert features.ids == [391895, 9] and "391895" in features and 8 not in features
    np.testing.assert_array_equal(features[391895], whole)
    with pytest.raises(DataError, match=r"9\.npy \(image 9\): .*the six box values are missing"):
        features[9]
    with pytest.raises(DataError, match=r"8\.npy: no such file \(image 8\)"):
        features[8]
    np.save(folder / "09.npy", whole)
    with pytest.raises(DataError, match=r"09\.npy and 9\.npy are for the same image 9"):
        NpyFeatures(folder)
    with pytest.raises(DataError, match="none: no such file"):
        NpyFeatures(tmp_path / "none")


def test_files_are_found_by_picture_names_or_by_ids(write):
    features = NpzFeatures(write("dog"))
    features.use_names({4: "photos/dog.jpg", 5: "cat.jpg"})
    assert 4 in features and 5 not in features and features[4].shape == (3, 2054)
    assert features.open_tags("", "train", "vg")[4] == "dog red car"
    features = NpzFeatures(write("7"))
    features.use_names({7: "COCO_val2014_000000000007.jpg"})  # nothing is called that: by ids
    assert 7 in features
