"""LMDB stores: what is read, in which processes and threads, and what is said of those that are none."""

import base64
import hashlib
import multiprocessing
import os
import pickle
import shutil
import threading
from collections import OrderedDict

import lmdb
import numpy as np
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.lmdb_store import LmdbRegions, check_whole
from oscar_paddle.datasets.regions.source import EmptyImage

WIDTH = 8


def record(count=3, width=WIDTH, seed=0, **changes):
    """A record as vilbert_beta writes it."""
    rng = np.random.RandomState(seed)
    arrays = {"boxes": rng.rand(count, 4) * 50, "features": rng.rand(count, width)}
    text = {name: base64.b64encode(values.astype("<f4").tobytes()).decode() for name, values in arrays.items()}
    return {"image_id": "7", "image_w": "80", "image_h": "60", "num_boxes": str(count), **text, **changes}


def raw(found):
    """The same as vilbert-multi-task writes it."""
    values = {name: np.frombuffer(base64.b64decode(found[name]), "<f4") for name in ("boxes", "features")}
    count = int(found["num_boxes"])
    numbers = {name: int(found[name]) for name in ("image_w", "image_h", "num_boxes")}
    return {"image_id": "7", **numbers, **{name: array.reshape(count, -1) for name, array in values.items()}}


@pytest.fixture
def write(tmp_path):
    def make(records, name="store.lmdb", **extra):
        path = tmp_path / name
        with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
            for key, value in {**records, **extra}.items():
                value = value if isinstance(value, bytes) else pickle.dumps(value, 3)
                transaction.put(str(key).encode(), value)
            transaction.put(b"keys", pickle.dumps([str(key).encode() for key in records]))
        return path

    return make


def test_both_kinds_of_records_are_read_alike(write):
    kinds = {1: record(), 2: OrderedDict(record()), 3: raw(record()), 4: record(num_boxes=b"3", image_w=80.0)}
    kinds[5] = {name: value.encode() for name, value in record().items()}  # csv of Python 2
    store = LmdbRegions(write(kinds))
    assert store.ids == [1, 2, 3, 4, 5] and 3 in store and "3" in store and 6 not in store
    for image_id in kinds:
        found = store[image_id]
        assert (found.width, found.height) == (80, 60)
        np.testing.assert_array_equal(found.boxes, raw(record())["boxes"])
        np.testing.assert_array_equal(found.features, raw(record())["features"])
        assert found.features.dtype == np.float32 and not found.features.flags.writeable


def test_a_store_is_only_read_and_needs_no_lock_file(write, tmp_path):
    path = write({1: record()})
    (path / "lock.mdb").unlink()
    before = hashlib.sha256((path / "data.mdb").read_bytes()).digest()
    for place in (path, path / "data.mdb", shutil.copy(path / "data.mdb", tmp_path / "alone.mdb")):
        assert len(LmdbRegions(place)[1].boxes) == 3
    assert os.listdir(path) == ["data.mdb"]
    assert hashlib.sha256((path / "data.mdb").read_bytes()).digest() == before


def test_processes_and_threads_share_a_store(write):
    """Opened before a fork, twice in one process, after pickling, and by many threads at once."""
    path = write({number: record(seed=number) for number in range(1, 60)})
    store, twice = LmdbRegions(path, cache_bytes=0), LmdbRegions(path, cache_bytes=0)
    wanted = [store[number].features.sum() for number in store.ids]
    again = pickle.loads(pickle.dumps(store))
    found = {}

    def read(name, source):
        found[name] = [source[number].features.sum() for number in source.ids]

    threads = [threading.Thread(target=read, args=(n, (store, twice, again)[n % 3])) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with multiprocessing.get_context("fork").Pool(2, _take_store, (store,)) as pool:
        assert pool.map(_sum_of, store.ids) == wanted
    assert list(found.values()) == [wanted] * 6


def _take_store(store):
    global _store, _inherited
    _store, _inherited = store, store._opened.environment


def _sum_of(number):
    assert _inherited is None and _store._store().environment is not None  # LMDB's must not be used after a fork
    return _store[number].features.sum()


def test_a_store_that_is_replaced_is_read_anew(write):
    path = write({1: record(seed=1)})
    first = LmdbRegions(path)[1].features
    shutil.rmtree(path)
    write({1: record(seed=2)})
    assert (LmdbRegions(path)[1].features != first).any()


@pytest.mark.parametrize(
    ("name", "entry", "detector"),
    [
        ("refcoco+_resnet101_faster_rcnn_genome.lmdb", None, "resnet101"),
        ("refcoco_gt_resnext152_faster_rcnn.lmdb", None, "resnext152"),
        ("store.lmdb", None, ""),
        ("refcoco+_resnet101_faster_rcnn_genome.lmdb", b"scenes", "scenes"),
    ],
)
def test_what_says_which_detector(write, name, entry, detector):
    store = LmdbRegions(write({1: record()}, name, **({"detector": entry} if entry else {})))
    assert store.detector == detector and store.ids == [1]


def nan():
    values = np.zeros((3, WIDTH), "<f4")
    values[1, 4] = np.nan
    return base64.b64encode(values.tobytes()).decode()


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (record(features=nan()), "features of region 1 hold NaN"),
        (record(num_boxes="4"), "boxes have 12 values; expected 4 x 4"),
        (record(num_boxes="three"), "num_boxes is 'three'"),
        (record(boxes="AAAA!AAA"), "boxes: broken base64"),
        (record(image_w="0"), "the picture is 0 x 60"),
        ({"image_w": "3"}, "no field 'image_h'"),
        ([1, 2], "holds a list; expected a dict"),
        (b"junk", "damaged, or no pickled data"),
        (b"cos\nsystem\n(S'true'\ntR.", "refuses the global 'os.system'"),
    ],
)
def test_damaged_records(write, damaged, words):
    path = write({1: record(), 7: damaged})
    store = LmdbRegions(path)
    with pytest.raises(DataError) as error:
        store[7]
    assert words in str(error.value) and "store.lmdb, image 7" in str(error.value)
    assert len(store[1].boxes) == 3


def test_an_image_without_regions(write):
    store = LmdbRegions(write({1: record(), 7: record(0)}))
    assert store.is_empty(7) and not store.is_empty(1)
    with pytest.raises(EmptyImage, match="image 7: num_boxes is 0"):
        store[7]
    with pytest.raises(DataError, match=r"image 9 is missing \(the store has 2 images\); its ids look like '1'"):
        store[9]


def test_what_is_no_store(write, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.mdb").write_text("<html>" + 5000 * " ")
    (tmp_path / "short.mdb").write_bytes(b"\0" * 10)
    cases = {
        "nothing": "no such file; hint",
        "empty": "no data.mdb in this folder",
        "page.mdb": "an HTML page",
        "short.mdb": "zero bytes only",
    }
    for name, words in cases.items():
        with pytest.raises(DataError) as error:
            LmdbRegions(tmp_path / name, hint="; hint")
        assert words in str(error.value) and str(tmp_path / name) in str(error.value)
    with pytest.raises(DataError, match="a store without images"):
        LmdbRegions(write({}))


def test_a_store_that_is_cut_off_is_refused_before_it_ends_the_process(write):
    file = write({number: record(20, 256) for number in range(1, 9)}) / "data.mdb"
    whole = file.read_bytes()
    check_whole(file)
    for size in (len(whole) - 1, len(whole) // 2, 8192, 4096, 200, 20):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match="cut off|not LMDB's|zero bytes"):
            check_whole(file)
