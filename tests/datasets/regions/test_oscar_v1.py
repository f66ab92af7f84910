"""Oscar v1's dictionaries, from files that PyTorch wrote: values, order, tags, and one clear line for what is wrong."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.regions.oscar_v1 import DictionaryFeatures, Labels, open_labels

FOLDER = Path(__file__).parents[2] / "golden" / "oscar_v1"
IDS = {"train": [31, 9, 527], "minival": [184613, 18]}  # a zip-style and an old-style file


def expected(k):
    return 100.0 * k + np.arange(10 * (k + 1), dtype=np.float32).reshape(k + 1, 10)


def features(split, **options):
    return DictionaryFeatures(FOLDER / f"{split}_img_frcnn_feats.pt", feature_dim=10, **options)


@pytest.mark.parametrize("map_from", [0, 1 << 30])  # memory-mapped, as large files are, and read
@pytest.mark.parametrize("split", IDS)
def test_values_and_order(split, map_from, monkeypatch):
    monkeypatch.setattr(torch_files, "load", partial(torch_files.load, map_from=map_from))
    found = features(split)
    assert found.ids == IDS[split] and found.orders_images
    for k, image_id in enumerate(IDS[split]):
        assert str(image_id) in found and np.int64(image_id) in found
        assert found[image_id].dtype == np.float32 and not found[image_id].flags.writeable
        np.testing.assert_array_equal(found[image_id], expected(k))
        np.testing.assert_array_equal(features(split, max_region=1)[image_id], expected(k)[:1])
    assert 8 not in found
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found))[IDS[split][1]], expected(1))


def test_tags_as_text_and_as_detections():
    strings, detections = (Labels(FOLDER / f"{split}_vg_labels.pt") for split in IDS)
    assert [strings[i] for i in (31, 9, "527")] == ["dog grass dog", "", "red car"]
    assert [detections[i] for i in (184613, 18)] == ["man tennis racket", ""]
    assert 31 in strings and 8 not in strings
    with pytest.raises(DataError, match=r"train_vg_labels\.pt: image 8 is missing \(the file has 3 images\)"):
        strings[8]


def dump(path, value):
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path


@pytest.mark.parametrize("value", [7, [1, 2], [{"name": "dog"}], ["dog", 3], {"class": "dog"}, None])
def test_tags_that_are_none(tmp_path, value):
    with pytest.raises(DataError, match=r"train_vg_labels\.pd image 5: expected a string of tags, or a list"):
        Labels(dump(tmp_path / "train_vg_labels.pd", {5: value}))[5]


def test_labels_are_looked_for_in_all_folders(tmp_path):
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir(), far.mkdir()
    with pytest.raises(DataError) as caught:
        open_labels([near, far], "test", "oid")
    for part in ("near/test_oid_labels.pt", "far/test_oid_labels.pd", "ADD_OD_LABEL", "DATASET.OD_LABEL_TYPE"):
        assert part in str(caught.value)
    dump(far / "test_oid_labels.pd", {1: "far"})
    assert open_labels([near, far], "test", "oid")[1] == "far"
    dump(near / "test_oid_labels.pd", {1: "near"})
    assert open_labels([near, far], "test", "oid")[1] == "near"


ONES = np.ones((2, 10), np.float32)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones((2, 9), np.float32), "regions have 9 values; expected 10"),
        (np.ones(10, np.float32), r"the regions are float32 \[10\]"),
        (np.ones((2, 10), np.int64), r"the regions are int64 \[2, 10\]"),
        (ONES[:0], "number of boxes is 0"),
        ([1.0], "the regions are list"),
        ({"feats": ONES, "bbox": ONES}, "the regions are dict with the keys feats, bbox"),
        (np.where(np.arange(20).reshape(2, 10) == 13, np.nan, ONES), "region 2 column 4 is nan"),
    ],
)
def test_damaged_images(tmp_path, value, message):
    path = dump(tmp_path / "train_img_frcnn_feats.pt", {5: value, 6: ONES})
    found = DictionaryFeatures(path, feature_dim=10)
    with pytest.raises(DataError, match=message) as caught:
        found[5]
    assert str(caught.value).startswith(f"{path} image 5: ") and "\n" not in str(caught.value)
    np.testing.assert_array_equal(found[6], ONES)  # the others stay readable
    with pytest.raises(DataError, match=r"image 7 is missing \(the file has 2 images\)"):
        found[7]


def test_the_box_values_are_missing(tmp_path):
    path = dump(tmp_path / "train_img_frcnn_feats.pt", {5: np.ones((1, 2048), np.float32)})
    with pytest.raises(DataError, match="2048 values: the six box values are missing"):
        DictionaryFeatures(path)[5]


@pytest.mark.parametrize(
    ("value", "message"),
    [({}, "an empty dictionary"), ([ONES], "type list"), ({5: ONES, "5": ONES}, "1 image ids are there twice")],
)
def test_files_without_a_dictionary(tmp_path, value, message):
    path = dump(tmp_path / "train_img_frcnn_feats.pt", value)
    with pytest.raises(DataError, match=message) as caught:
        DictionaryFeatures(path)
    assert str(caught.value).startswith(str(path))
