"""Feature rows with a byte-offset map."""

import base64
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.offset_map import OffsetMapFeatures, offset_map_of

DIM = 5


def write(path, images, order=None, counts=None):
    """Rows of {id: [R, DIM]}, the file in `order`, the map in the dictionary's."""
    starts, data = {}, b""
    for key in order or images:
        starts[str(key)] = len(data)
        count = (counts or {}).get(key, len(images[key]))
        data += f"{key}\t{count}\t".encode() + base64.b64encode(images[key].astype("<f4").tobytes()) + b"\n"
    path.write_bytes(data)
    offset_map = {str(key): starts[str(key)] for key in images}
    path.with_name(path.stem + "_offset_map.json").write_text(json.dumps(offset_map))
    return path


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return {7: random.random((3, DIM), np.float32), "n12": random.random((1, DIM), np.float32)}


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_order_of_rows(tmp_path_factory, regions, random):
    images = {10 + i: np.full((count, DIM), i, np.float32) for i, count in enumerate(regions)}
    order = list(images)
    random.shuffle(order)
    source = OffsetMapFeatures(write(tmp_path_factory.getbasetemp() / "any_order.tsv", images, order), feature_dim=DIM)
    assert source.ids == list(images)
    for key, rows in images.items():
        np.testing.assert_array_equal(source[key], rows)


def test_found_by_split_and_used_after_pickling(tmp_path, images):
    write(tmp_path / "val_img_frcnn_feats.tsv", images)
    source = open_regions(tmp_path, "val", feature_type="faster_r-cnn", feature_dim=DIM, max_region=2)
    again = pickle.loads(pickle.dumps(source))
    for each in (source, again):
        assert type(each) is OffsetMapFeatures and "n12" in each and 8 not in each
        np.testing.assert_array_equal(each["7"], images[7][:2])
    assert source.fingerprint([7]) == again.fingerprint(["7"])


def test_the_number_of_boxes_is_not_used(tmp_path, images):
    source = OffsetMapFeatures(write(tmp_path / "a.tsv", images, counts={7: 99}), feature_dim=DIM)
    assert source[7].shape == (3, DIM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.replace(b"7\t3\t", b"8\t3\t"), r"a.tsv byte 0 \(image 7\): the row begins with '8'"),
        (lambda data: data.replace(b"7\t3\t", b"7 3 "), "byte 0"),
        (lambda data: data[:40] + b"!" + data[41:], "broken base64"),
        (lambda data: b"7\t3\tAAAA" + data[data.index(b"\n") :], "3 bytes; expected 60"),
    ],
)
def test_damaged_rows(tmp_path, images, change, message):
    path = write(tmp_path / "a.tsv", images)
    path.write_bytes(change(path.read_bytes()).ljust(path.stat().st_size, b"\n"))
    with pytest.raises(DataError, match=message):
        OffsetMapFeatures(path, feature_dim=DIM)[7]


def test_another_width_is_explained(tmp_path):
    path = write(tmp_path / "a.tsv", {7: np.zeros((2, 2048), np.float32)})
    with pytest.raises(DataError, match="2048 values: the six box values are missing"):
        OffsetMapFeatures(path)[7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a JSON object image id -> byte offset"),
        ("{}", "expected a JSON object"),
        ('{"7": -1}', "expected a JSON object"),
        ('{"7": "0"}', "expected a JSON object"),
        ('{"7": 0, "8": 0}', "two images have one id or one offset"),
        ('{"7": 0, "07": 5}', "two images have one id"),
        ('{"7": 100000}', "reaches to byte 100000, but"),
        ("{", "malformed JSON"),
    ],
)
def test_damaged_maps(tmp_path, images, text, message):
    path = write(tmp_path / "a.tsv", images)
    (tmp_path / "a_offset_map.json").write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        OffsetMapFeatures(path, feature_dim=DIM)
    assert str(raised.value).startswith(offset_map_of(path))


def test_missing_files_and_images(tmp_path, images):
    with pytest.raises(DataError, match="a_offset_map.json: no such file"):
        OffsetMapFeatures(tmp_path / "a.tsv", feature_dim=DIM)
    path = write(tmp_path / "a.tsv", images)
    with pytest.raises(DataError, match=r"image 9 is missing \(the file has 2 images\)"):
        OffsetMapFeatures(path, feature_dim=DIM)[9]
    path.unlink()
    with pytest.raises(DataError, match="a.tsv: no such file"):
        OffsetMapFeatures(path, feature_dim=DIM)
