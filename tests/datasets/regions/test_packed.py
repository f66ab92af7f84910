"""The packed store: the same bits as its source, quicker, and never read when it might not be the source's."""

import json
import logging
import os
import pickle
import re
import shutil
import threading
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.one_file_each import NpzFeatures
from oscar_paddle.datasets.regions.packed import TAIL, PackedFeatures, store_path
from oscar_paddle.datasets.regions.packing import pack, reading_times, verify
from oscar_paddle.datasets.regions.vinvl import RegionFeatures

pack = partial(pack, progress=False)


@pytest.fixture
def folder(golden, tmp_path):
    for name in ("features.tsv", "features.lineidx", "imageid2idx.json", "predictions.tsv"):
        shutil.copy(golden / "model_0060000" / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def packed(folder):
    """The source, and the path of its float32 store."""
    source = RegionFeatures(folder / "features.tsv", cache_bytes=0)
    path = store_path(source.path)
    assert pack(source, path) == (len(source.ids), os.path.getsize(path))
    return source, path


def opened(folder, caplog, packed="auto", **options):
    """(what a run would read, what the log says about it)."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        return open_regions(folder, "test", packed=packed, **options), caplog.text


def test_same_bits_and_fingerprint(packed):
    source, path = packed
    store = PackedFeatures(path)
    assert store.ids == source.ids
    for image_id in source.ids:
        assert store[str(image_id)].tobytes() == source[image_id].tobytes()
        assert store[image_id].dtype == np.float32 and not store[image_id].flags.writeable  # second touch
        cut = PackedFeatures(path, max_region=3)
        assert cut[image_id].tobytes() == cut[image_id].tobytes() == source[image_id][:3].tobytes()
    assert store.fingerprint(source.ids) == source.fingerprint(source.ids) != source.fingerprint(source.ids[1:])
    assert verify(source, store, progress=False) == 0
    assert "x" not in store
    with pytest.raises(DataError, match=r"features\.packed: image 1 is missing \(the store has \d+ images\)"):
        store[1]


def test_used_when_it_is_there_and_up_to_date(folder, packed, caplog):
    source, path = packed
    regions, log = opened(folder, caplog, max_region=5)
    assert isinstance(regions, PackedFeatures) and "are read from" in log
    assert regions.path == source.path and regions.max_region == 5
    assert regions.open_tags(folder, "test", "vg")[source.ids[0]] is not None
    assert type(opened(folder, caplog, packed="off")[0]) is RegionFeatures
    os.utime(path, ns=(0, 0))  # a copy without times: the source is the one that was packed all the same
    assert isinstance(opened(folder, caplog)[0], PackedFeatures)
    (folder / "features.tsv").unlink()
    alone, _ = opened(folder, caplog)
    assert alone[source.ids[0]].tobytes() == source[source.ids[0]].tobytes()
    assert alone.open_tags(folder, "test", "vg")[source.ids[0]] == regions.open_tags("", "", "")[source.ids[0]]


def change_value(path):
    """Another number in the first row, of the same length."""
    content = path.read_bytes()
    at = content.index(b"\n") - 100
    path.write_bytes(content[:at] + (b"B" if content[at : at + 1] == b"A" else b"A") + content[at + 1 :])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda source, store: change_value(source), "has other content than when it was packed"),
        (lambda source, store: source.write_bytes(source.read_bytes() + b"\n"), r"has \d+ bytes; \d+ when it was"),
        (lambda source, store: os.utime(source), "is newer .*touch"),
        (lambda source, store: store.write_bytes(store.read_bytes()[:-1]), "truncated; pack it again"),
        (lambda source, store: store.write_bytes(store.read_bytes()[:-2000]), "truncated; pack it again"),
        (lambda source, store: store.write_bytes(b""), "cannot be read"),
        (lambda source, store: store.write_bytes(b"x" * 100), "not a packed feature store"),
        (lambda source, store: flip(store, -60), "index does not fit its checksum"),
        (lambda source, store: flip(store, index_end(store) - 1), "index does not fit its checksum"),
        (lambda source, store: flip(store, -30, b"\xff"), "damaged|truncated"),
    ],
)
def test_stale_or_damaged_stores_are_ignored_and_logged(folder, packed, caplog, damage, message):
    _, path = packed
    damage(folder / "features.tsv", folder / "features.packed")
    regions, log = opened(folder, caplog)
    assert type(regions) is RegionFeatures
    assert re.search(rf"features\.packed is not used: .*({message})", log)


def index_end(path):
    """Where the contents begin, behind the starts and checksums."""
    return path.read_bytes().rindex(b'{"dtype"')


def flip(path, at, value=None):
    content = bytearray(path.read_bytes())
    content[at] = value[0] if value else content[at] ^ 0x10
    path.write_bytes(content)


@settings(max_examples=60)
@given(
    key=st.sampled_from(["rows", "width", "dtype", "ids", "tags", "source", "orders_images"]),
    value=st.sampled_from([0, -1, 1 << 62, 2.0, None, True, "O", "float64", [], ["a", {}], {}, [1, 1], "absent"]),
)
def test_contents_that_lie_are_refused(golden, tmp_path_factory, key, value):
    """The checksum is right: whoever wrote the file meant it."""
    path = tmp_path_factory.getbasetemp() / "lie.packed"
    sound = path.with_name("truth.packed")
    if not sound.exists():
        pack(RegionFeatures(golden / "model_0060000" / "features.tsv"), sound)
    content = sound.read_bytes()
    at = index_end(sound)
    contents = json.loads(content[at:-24])
    values_end = 16 + contents["rows"] * contents["width"] * 4
    contents[key] = value
    if value == "absent":
        del contents[key]
    text = json.dumps(contents).encode()
    index = content[values_end:at] + text
    path.write_bytes(content[:values_end] + index + TAIL.pack(len(text), zlib.crc32(index), 0, b"PACKED-1"))
    if (key, value) in (("tags", None), ("orders_images", True)) or (key == "tags" and value == "absent"):
        assert len(PackedFeatures(path).ids) == len(contents["ids"])
    else:
        with pytest.raises(DataError, match="damaged"):
            PackedFeatures(path)


def test_images_that_overlap_are_refused(packed):
    path = Path(packed[1])
    content = bytearray(path.read_bytes())
    contents = json.loads(content[content.rindex(b'{"dtype"') : -24])
    starts_at = 16 + contents["rows"] * contents["width"] * 4
    content[starts_at : starts_at + 8] = (5).to_bytes(8, "little")
    length = TAIL.unpack(content[-24:])[0]
    content[-24:] = TAIL.pack(length, zlib.crc32(content[starts_at:-24]), 0, b"PACKED-1")
    path.write_bytes(content)
    with pytest.raises(DataError, match="its images do not follow each other"):
        PackedFeatures(path)


def test_a_store_of_another_width_is_ignored(folder, packed, caplog):
    regions, log = opened(folder, caplog, feature_dim=2048)
    assert type(regions) is RegionFeatures and "holds 2054 values a region; expected 2048" in log


@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_value_is_noticed(golden, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    source = RegionFeatures(golden / "model_0060000" / "features.tsv")
    folder.mkdir(exist_ok=True)
    path = folder / "features.packed"
    if not path.exists():
        pack(source, folder / "sound.packed")
    content = bytearray((folder / "sound.packed").read_bytes())
    values = sum(len(source[image_id]) for image_id in source.ids) * 2054 * 4
    content[data.draw(st.integers(16, 15 + values))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    alone, together = PackedFeatures(path), PackedFeatures(path, source=source)
    refused = 0
    for image_id in source.ids:
        assert together[image_id].tobytes() == source[image_id].tobytes()
        try:
            assert alone[image_id].tobytes() == source[image_id].tobytes()
        except DataError as error:
            assert f"features.packed (image {image_id}): the values do not fit their checksum" in str(error)
            refused += 1
    assert refused == 1


def test_float16_only_when_asked_for(folder, packed, caplog, tmp_path):
    source, path = packed
    os.unlink(path)
    half = store_path(source.path, "float16")
    pack(source, half, "float16")
    assert os.path.getsize(half) < os.path.getsize(source.path) / 2
    assert type(opened(folder, caplog)[0]) is RegionFeatures
    regions, _ = opened(folder, caplog, packed="float16")
    for image_id in source.ids:
        expected = source[image_id].astype(np.float16).astype(np.float32)
        assert regions[image_id].dtype == np.float32
        np.testing.assert_array_equal(regions[image_id], expected)
    rounded = tmp_path / "rounded"
    rounded.mkdir()
    for image_id in source.ids:
        np.savez(rounded / f"{image_id}.npz", features=regions[image_id])
    assert regions.fingerprint(source.ids) == NpzFeatures(rounded).fingerprint(source.ids)
    assert regions.fingerprint(source.ids) != source.fingerprint(source.ids)
    assert 0 < verify(source, regions, progress=False) < 0.01
    with pytest.raises(DataError, match=r"float16 values, which are not exact; set DATASET\.PACKED to 'float16'"):
        open_regions(folder, "test", half)
    os.unlink(half)
    regions, log = opened(folder, caplog, packed="float16")
    assert type(regions) is RegionFeatures and "no packed float16 features" in log


def npz_folder(folder, **arrays):
    folder.mkdir()
    for number, name in enumerate(("dog", "7")):
        features = np.full((number + 1, 2054), 0.1 + number, np.float32)
        np.savez(folder / f"{name}.npz", features=features, **arrays)
    return NpzFeatures(folder)


def test_ones_own_images_with_their_tags_and_names(tmp_path):
    source = npz_folder(tmp_path / "features", tags=["dog", "grass"])
    pack(source, store_path(source.path))
    alone = PackedFeatures(tmp_path / "features.packed")
    together = open_regions(tmp_path, "train")
    assert isinstance(together, PackedFeatures) and together.names_images and alone.names_images
    for store in (alone, together):
        store.use_names({31: "photos/dog.jpg", 32: "7.jpg"})
        assert store[31].shape == (1, 2054) and store[32].shape == (2, 2054)
        tags = store.open_tags(tmp_path, "train", "vg")
        assert tags[31] == "dog grass" and 32 in tags and 33 not in tags
        with pytest.raises(DataError, match="image 33 is missing"):
            tags[33]
    np.savez(tmp_path / "features" / "cat.npz", features=np.ones((1, 2054), np.float32), tags="cat")
    assert isinstance(open_regions(tmp_path, "train"), NpzFeatures)


def test_images_without_tags_are_packed_without(tmp_path):
    source = npz_folder(tmp_path / "features")
    np.savez(tmp_path / "features" / "7.npz", features=np.ones((1, 2054), np.float32), tags="seven")
    pack(source, store_path(source.path))
    regions = open_regions(tmp_path, "train")
    assert isinstance(regions, PackedFeatures)
    regions.use_names({1: "7.jpg", 2: "dog.jpg"})
    tags = regions.open_tags(tmp_path, "train", "vg")
    assert tags[1] == "seven"
    with pytest.raises(DataError, match=r"dog\.npz, dog \(image 2\): no array 'tags'"):
        tags[2]


def test_files_in_folders_of_the_folder_are_part_of_the_source(tmp_path):
    (tmp_path / "features" / "a").mkdir(parents=True)
    np.savez(tmp_path / "features" / "dog.npz", features=np.ones((1, 2054), np.float32))
    np.savez(tmp_path / "features" / "a" / "dog.npz", features=np.ones((1, 2054), np.float32))
    pack(NpzFeatures(tmp_path / "features"), tmp_path / "features.packed", progress=False)
    assert isinstance(open_regions(tmp_path, "train"), PackedFeatures)
    np.savez(tmp_path / "features" / "a" / "dog.npz", features=np.zeros((1, 2054), np.float32))
    assert isinstance(open_regions(tmp_path, "train"), NpzFeatures)


def test_what_cannot_be_packed_leaves_nothing_behind(folder, packed, tmp_path, monkeypatch):
    source, path = packed
    os.unlink(path)
    before = sorted(os.listdir(folder))
    large = npz_folder(tmp_path / "large")
    np.savez(tmp_path / "large" / "dog.npz", features=np.full((1, 2054), 7e4, np.float32))
    with pytest.raises(DataError, match=r"large \(image dog\): 70000 is too large for float16 .*--dtype float32"):
        pack(large, folder / "a.packed", "float16")
    np.savez(tmp_path / "large" / "dog.npz", features=np.full((1, 2054), np.nan, np.float32))
    with pytest.raises(DataError, match=r"dog\.npz \(image dog\): region 1 column 1 is nan"):
        pack(large, folder / "a.packed")
    usage = shutil.disk_usage(folder)._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"0\.1 GB free; the packed features need about .*--output"):
        pack(source, path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="none: cannot be used"):
        pack(source, folder / "none" / "a.packed")
    changing = RegionFeatures(source.path)
    monkeypatch.setattr(changing, "complete", lambda image_id, **_: (os.utime(source.path), source[image_id])[1])
    with pytest.raises(DataError, match=r"features\.tsv: changed while it was being packed"):
        pack(changing, path)
    assert sorted(os.listdir(folder)) == sorted([*before, "large"])


def test_verify_finds_other_values(folder, packed):
    source, path = packed
    store = PackedFeatures(path)
    change_value(folder / "features.tsv")
    with pytest.raises(DataError, match=r"\(image \d+\): has other values than"):
        verify(RegionFeatures(source.path), store, progress=False)


def test_threads_forks_and_pickling(packed):
    source, path = packed
    store = PackedFeatures(path, source=source)
    copy = pickle.loads(pickle.dumps(store))
    wrong = []

    def read(regions):
        wrong.extend(i for i in source.ids if not np.array_equal(regions[i], source[i]))

    threads = [threading.Thread(target=read, args=(regions,)) for regions in (store, store, copy)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    child = os.fork()
    if child == 0:
        read(store)
        os._exit(1 if wrong else 0)
    assert os.waitpid(child, 0)[1] == 0 and not wrong


def test_reading_is_many_times_as_fast(packed):
    source, path = packed
    best = 0
    for _ in range(3):  # the machine may be busy
        times = reading_times(source, PackedFeatures(path), rounds=5)
        best = max(best, times["source"] / times["store"])
        if best > 8:
            break
        time.sleep(0.5)
    assert best > 8  # about 20 measured
