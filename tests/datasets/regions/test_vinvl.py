"""Regions and tags by image id: right values, and one clear line for each kind of damage."""

import base64
import json
import logging
import os
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures

DIM = 2054


def regions(count, dim=DIM, seed=0):
    return np.random.default_rng(seed).random((count, dim), np.float32)


def row(image_id, array, num_boxes=None):
    text = base64.b64encode(np.asarray(array, "<f4").tobytes()).decode()
    return f"{image_id}\t{len(array) if num_boxes is None else num_boxes}\t{text}"


@pytest.fixture
def write(tmp_path):
    def write(rows, mapping=None, name="features.tsv"):
        path = tmp_path / name
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        path.with_suffix(".lineidx").unlink(missing_ok=True)
        (tmp_path / "imageid2idx.json").unlink(missing_ok=True)
        if mapping is not None:
            (tmp_path / "imageid2idx.json").write_text(mapping if isinstance(mapping, str) else json.dumps(mapping))
        return path

    return write


@pytest.fixture
def three(write):
    arrays = {7: regions(2, seed=1), 31: regions(1, seed=2), 9: regions(5, seed=3)}
    return write([row(*item) for item in arrays.items()], {"7": 0, "31": 1, "9": 2}), arrays


# ---- regions ----


def test_values_types_and_ids(three):
    path, arrays = three
    features = RegionFeatures(path)
    assert features.ids == [7, 31, 9]
    for image_id, array in arrays.items():
        for key in (image_id, str(image_id), np.int64(image_id)):
            assert key in features
            found = features[key]
            assert found.dtype == np.float32 and not found.flags.writeable
            np.testing.assert_array_equal(found, array)
    assert 8 not in features and "x" not in features


def test_the_published_files(golden):
    features = RegionFeatures(golden / "model_0060000" / "features.tsv")
    expected = np.load(golden / "expected_arrays.npz")["img_feat_sum"]  # [pairs, 12 regions] of "cross"
    keys = [int(line) for line in (golden / "coco_ir" / "test_img_keys.tsv").read_text().split()]
    found = np.zeros(expected.shape[1])
    kept = features[keys[0]][: len(found)]
    found[: len(kept)] = kept.sum(axis=1)
    np.testing.assert_allclose(found, expected[0], rtol=1e-5)


def test_max_region_keeps_the_first_rows(three):
    path, arrays = three
    features = RegionFeatures(path, max_region=2)
    for image_id, array in arrays.items():
        np.testing.assert_array_equal(features[image_id], array[:2])
        assert not features[image_id].flags.writeable


def test_columns_between_the_second_and_the_last_are_not_read(write):
    array = regions(2)
    first, second, last = row(5, array).split("\t")
    path = write([f"{first}\t{second}\tsomething\telse\t{last}"], {"5": 0})
    np.testing.assert_array_equal(RegionFeatures(path)[5], array)


@pytest.mark.parametrize(
    ("mapping", "logged"),
    [
        (None, "taking the image ids from the rows"),
        ({"7": 1, "31": 0, "9": 2}, "is not image"),
        ({"7": 0, "31": 1}, "2 ids for 3 rows"),
        ({"7": 0, "31": 1, "9": 3}, "does not map image ids"),
        ({"7": 0, "31": 1, "9": "2"}, "does not map image ids"),
        ({"7": 0, "31": 1, "9": -1}, "does not map image ids"),
        ("[1, 2, 3]", "does not map image ids"),
        ("{", "cannot be used"),
    ],
)
def test_a_missing_or_wrong_map_is_rebuilt_from_the_rows(three, write, caplog, mapping, logged):
    _, arrays = three
    path = write([row(*item) for item in arrays.items()], mapping)
    with caplog.at_level(logging.INFO):
        features = RegionFeatures(path)
        for image_id, array in arrays.items():
            assert image_id in features
            np.testing.assert_array_equal(features[image_id], array)
    assert logged in caplog.text
    assert features.ids == [7, 31, 9]


def test_ids_that_are_no_numbers(write):
    path = write([row("n123", regions(1))], {"n123": 0})
    assert RegionFeatures(path)["n123"].shape == (1, DIM)


def test_repeated_ids_are_logged(write, caplog):
    path = write([row(5, regions(1, seed=1)), row(5, regions(1, seed=2))])
    np.testing.assert_array_equal(RegionFeatures(path)[5], regions(1, seed=2))
    assert "repeat the id" in caplog.text


def with_value(value, region, column):
    array = regions(4)
    array[region, column] = value
    return array


GOOD = row(5, regions(4)).split("\t")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row(5, regions(4, 2048)), "2048 values: the six box values are missing"),
        (row(5, regions(4, 2055)), "regions have 2055 values; expected 2054"),
        (row(5, regions(4), 3), "bytes; expected 24648"),
        (row(5, regions(4), 0), "number of boxes is 0"),
        (row(5, regions(4), -4), "number of boxes is -4"),
        (row(5, regions(4), "four"), "number of boxes is 'four'"),
        (row(5, regions(4), "4.0"), "number of boxes is '4.0'"),
        ("\t".join(GOOD[:2]), "2 columns"),
        ("\t".join(GOOD[:2] + [GOOD[2][:-1]]), "broken base64"),
        ("\t".join(GOOD[:2] + [GOOD[2][:-4]]), "bytes; expected 32864"),
        ("\t".join(GOOD[:2] + [GOOD[2][:100] + "!" + GOOD[2][101:]]), "broken base64"),
        ("\t".join(GOOD[:2] + [GOOD[2][:100] + "!!!!" + GOOD[2][104:]]), "broken base64"),
        ("\t".join(GOOD[:2] + [GOOD[2][:100] + "*" + GOOD[2][100:]]), "broken base64"),
        ("\t".join(GOOD[:2] + [GOOD[2][:100] + "=" + GOOD[2][101:]]), "broken base64"),
        ("\t".join(GOOD[:2] + [""]), "0 bytes; expected|regions have 0 values"),
        ("\t".join(GOOD[:2] + ["é" * 40]), "broken base64"),
        (row(5, with_value(np.nan, 2, 9)), "region 3 column 10 is nan"),
        (row(5, with_value(np.inf, 0, 2053)), "region 1 column 2054 is inf"),
        (row(5, with_value(-np.inf, 3, 0)), "region 4 column 1 is -inf"),
    ],
)
def test_damaged_rows(write, line, message):
    path = write([row(3, regions(1)), line], {"3": 0, "5": 1})
    features = RegionFeatures(path)
    with pytest.raises(DataError, match=message) as caught:
        features[5]
    assert str(caught.value).startswith(f"{path} row 2 (image 5): ")
    assert "\n" not in str(caught.value)
    assert features[3].shape == (1, DIM)  # the other rows stay readable


def test_large_finite_values_are_fine(write):
    array = np.full((2, DIM), 3e38, np.float32)
    array[:, 2048:] = 1
    np.testing.assert_array_equal(RegionFeatures(write([row(5, array)]))[5], array)


@pytest.mark.parametrize("value", [3e30, -3e30])  # what exchanged bytes of a fraction often are
def test_bytes_in_another_order(write, value):
    array = regions(2)
    array[1, 2050] = value
    with pytest.raises(DataError, match=r"row 1 \(image 5\): the box values reach .*: bytes in another order\?"):
        RegionFeatures(write([row(5, array)]))[5]


@pytest.mark.parametrize("ids", [(5, 6), ("a", "b")])
def test_a_byte_order_mark_is_no_part_of_the_first_id(write, ids):
    array = regions(2)
    features = RegionFeatures(write([f"\ufeff{row(ids[0], array)}", row(ids[1], array * 0.5)]))
    assert features.ids == list(ids)
    np.testing.assert_array_equal(features[ids[0]], array)


def test_other_widths_can_be_asked_for(write):
    path = write([row(5, regions(2, 2048))])
    assert RegionFeatures(path, feature_dim=2048)[5].shape == (2, 2048)
    with pytest.raises(DataError, match="regions have 2048 values; expected 10"):
        RegionFeatures(path, feature_dim=10)[5]


def test_missing_ids_and_files(three, tmp_path):
    path, _ = three
    with pytest.raises(DataError, match="no row for image 8 .*3 rows") as caught:
        RegionFeatures(path)[8]
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=r"none\.tsv: no such file"):
        RegionFeatures(tmp_path / "none.tsv")


def test_the_cache_keeps_the_latest_within_its_bytes(three):
    path, arrays = three
    size = DIM * 4
    features = RegionFeatures(path, cache_bytes=7 * size)  # images of 2, 1 and 5 regions: 8 in all
    first, second = features[7], features[31]
    assert features[31] is second and features[7] is first
    third = features[9]  # 8 regions now: the least recently used one, 31, leaves
    assert features[9] is third and features[7] is first
    assert features[31] is not second
    assert RegionFeatures(path, cache_bytes=4 * size)[9].shape == (5, DIM)  # larger than the cache: not kept
    plain = RegionFeatures(path, cache_bytes=0)
    assert plain[7] is not plain[7]
    np.testing.assert_array_equal(plain[7], arrays[7])


def test_threads_forks_and_pickling(three):
    path, arrays = three
    features = RegionFeatures(path, cache_bytes=6 * DIM * 4)
    wrong = []

    def read(seed):
        for image_id in np.random.default_rng(seed).choice([7, 31, 9], 300).tolist():
            if not np.array_equal(features[image_id], arrays[image_id]):
                wrong.append(image_id)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    features._cache._lock.acquire()  # as when another thread is inside while this one forks
    child = os.fork()
    if child == 0:
        read(9)
        os._exit(1 if wrong else 0)
    features._cache._lock.release()
    deadline = time.monotonic() + 20
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if status == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == (child, 0)
    copy = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(copy[9], arrays[9])


def test_reading_is_quick(write):
    path = write([row(number, regions(37, seed=number)) for number in range(8)])
    features = RegionFeatures(path, cache_bytes=0)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for number in range(8):
            features[number]
        best = min(best, (time.perf_counter() - start) / 8)
    assert best < 0.02  # about 0.8 ms measured, nearly all of it in base64


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_bytes_never_raise_anything_else(tmp_path_factory, changes):
    content = bytearray((row(3, regions(2, 10)) + "\n" + row(5, regions(3, 10)) + "\n").encode())
    for position, value in changes:
        content[position % len(content)] = value
    folder = tmp_path_factory.getbasetemp()
    (folder / "damaged.lineidx").unlink(missing_ok=True)
    (folder / "damaged.tsv").write_bytes(content)
    try:
        features = RegionFeatures(folder / "damaged.tsv", feature_dim=10)
        for image_id in [3, 5, *features.ids]:
            assert np.isfinite(features[image_id]).all()
    except DataError as error:
        assert str(error).startswith(str(folder / "damaged.tsv"))


# ---- tags ----

OBJECTS = [{"class": "dog", "rect": [0, 0, 5, 5.5], "conf": 0.9}, {"class": "red car", "rect": [1, 2, 3, 4]}]


@pytest.fixture
def predictions(write):
    def predictions(*values):
        rows = [f"{number}\t{v if isinstance(v, str) else json.dumps(v)}" for number, v in enumerate(values, start=10)]
        return write(rows, name="predictions.tsv")

    return predictions


def test_tags_of_both_row_forms(predictions):
    path = predictions({"objects": OBJECTS + OBJECTS[:1], "image_h": 480, "image_w": 640}, OBJECTS, {"objects": []})
    tags = ObjectTags(path)
    assert 10 in tags and "11" in tags and 13 not in tags
    assert [tags[number] for number in (10, 11, 12)] == ["dog red car dog", "dog red car", ""]
    rects = [[0, 0, 5, 5.5], [1, 2, 3, 4]]
    assert tags.boxes(10) == (rects + rects[:1], 480, 640)
    assert tags.boxes(11) == (rects, 600, 800)  # upstream's sizes for rows that are bare lists


def test_tags_of_the_published_file(golden):
    tags = ObjectTags(golden / "model_0060000" / "predictions.tsv")
    assert tags[78217] == "hat"
    assert tags[170709] == ""
    assert tags[455182].startswith("black sitting horse riding three")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{not json", "malformed JSON"),
        ("[" * 100_000, "malformed JSON"),
        ({"boxes": []}, "expected a list of detections"),
        ("7", "expected a list of detections"),
        ({"objects": {"class": "dog"}}, "expected a list of detections"),
        ([{"rect": [0, 0, 1, 1]}], "a detection has no 'class'"),
        ([{"class": 3}], "a detection has no 'class'"),
        (["dog"], "a detection has no 'class'"),
    ],
)
def test_damaged_tags(predictions, value, message):
    path = predictions([], value)
    with pytest.raises(DataError, match=message) as caught:
        ObjectTags(path)[11]
    assert str(caught.value).startswith(f"{path} row 2 (image 11): ")


@pytest.mark.parametrize(
    "value",
    [
        [{"class": "dog"}],
        [{"class": "dog", "rect": [1, 2, 3]}],
        [{"class": "dog", "rect": [1, 2, 3, "4"]}],
        {"objects": [], "image_h": "tall"},
        {"objects": [], "image_h": 5, "image_w": 0},
    ],
)
def test_damaged_boxes(predictions, value):
    path = predictions(value)
    with pytest.raises(DataError, match="rect|image_h"):
        ObjectTags(path).boxes(10)


def test_boxes_as_fractions(predictions):
    half = [0.0, 0.1, 0.5, 1.0]
    tags = ObjectTags(predictions([{"class": "dog", "rect": half}, {"class": "cat", "rect": [0, 0, 1, 1]}]))
    with pytest.raises(DataError, match=r"\(image 10\): the boxes lie between 0 and 1: fractions\? expected pixels"):
        tags.boxes(10)
    assert tags[10] == "dog cat"


def test_missing_tags(predictions, tmp_path):
    with pytest.raises(DataError, match="no row for image 99"):
        ObjectTags(predictions([]))[99]
    with pytest.raises(DataError, match=r"nowhere\.tsv: no such file.*INPUT\.ADD_OD_LABEL"):
        ObjectTags(tmp_path / "nowhere.tsv")
    path = tmp_path / "one_column.tsv"
    path.write_text("10\n")
    with pytest.raises(DataError, match="its rows have 1 columns"):
        ObjectTags(path)[10]


@pytest.mark.shared
def test_real_photographs(shared):
    folder = shared / "data" / "flickr8k_regions" / "model_0060000"
    features, tags = RegionFeatures(folder / "features.tsv"), ObjectTags(folder / "predictions.tsv")
    assert len(features.ids) == 1300
    for image_id in features.ids[::100]:
        array = features[image_id]
        rects, height, width = tags.boxes(image_id)
        assert len(array) == len(rects) <= len(tags[image_id].split())
        # The last six values are the box over the image's size (specs, common model 4.1).
        boxes = np.array(rects) / [width, height, width, height]
        np.testing.assert_allclose(array[:, -6:-2], boxes, atol=4e-3)  # stored with eight bits
