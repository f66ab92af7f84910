"""Captions written in the published layout, and the generated dev candidates."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.candidates import candidate_lists
from oscar_paddle.datasets.captions.own_pictures import SharedFeatures, read_names, read_split_captions, use_names
from oscar_paddle.datasets.captions.prepare import DevLists, prepare
from oscar_paddle.datasets.captions.published import read_caption_index, read_captions, read_image_keys
from oscar_paddle.datasets.formats.torch_writer import write_torch_file

ANIMALS = ("dog", "cat", "cow")


def captions_of(count, per_image=5):
    return {10 * i: [f"caption {n} of {i}" for n in range(per_image)] for i in range(count)}


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(1, 7), st.integers(2, 20), st.integers(0, 20), st.integers(0, 9))
def test_candidates_are_different_captions_with_the_own_ones(count, per_image, size, hard, seed):
    captions = captions_of(count, per_image)
    words = {image_id: ANIMALS[image_id % 3] for image_id in captions}
    total = count * min(5, per_image)
    if total < size:
        with pytest.raises(DataError, match=f"lists of {size} captions need as many captions; found {total} "):
            candidate_lists(captions, words, size, hard, seed=seed)
        return
    lists = candidate_lists(captions, words, size, hard, seed=seed)
    assert list(lists) == list(captions)
    for image_id, pairs in lists.items():
        assert len(pairs) == size == len(set(map(tuple, pairs)))
        assert all(0 <= number < min(5, per_image) and other in captions for other, number in pairs)
        own = sum(other == image_id for other, _ in pairs)
        assert own == min(5, per_image, size)
    assert lists == candidate_lists(captions, words, size, hard, seed=seed)


def test_hard_candidates_share_rare_tags():
    captions = captions_of(60)
    words = {image_id: f"tree {ANIMALS[i % 3]} dog{i // 12}" for i, image_id in enumerate(captions)}
    lists = candidate_lists(captions, words, 20, num_hard=11)
    for i, image_id in enumerate(captions):
        others = {other // 10 for other, _ in lists[image_id] if other != image_id}
        assert len(others) == 15  # one caption from each
        group = {other for other in range(60) if other // 12 == i // 12 and other != i}
        assert group <= others, "the 11 images with the rarest tag"
    other_seed = candidate_lists(captions, words, 20, num_hard=11, seed=1)
    assert other_seed != lists
    orders = np.array([[other == image_id for other, _ in pairs] for image_id, pairs in lists.items()])
    assert 0.1 < orders[:, 0].mean() < 0.45, "the right ones do not stand in one place"


@pytest.fixture
def karpathy(tmp_path):
    """A file in Karpathy's form: 30 train, 4 restval, 25 val, 3 test."""
    splits = ["train"] * 30 + ["restval"] * 4 + ["val"] * 25 + ["test"] * 3
    images = [
        {
            "filename": f"COCO_val2014_{1000 - i:012d}.jpg",
            "split": split,
            "cocoid": 1000 - i,
            "imgid": i,
            "sentences": [{"raw": f"A {ANIMALS[i % 3]} number {i}, {n}. "} for n in range(5 + i % 2)],
        }
        for i, split in enumerate(splits)
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return path


def test_the_published_files_are_written(karpathy, tmp_path):
    folder = tmp_path / "out"
    splits, chosen_by = prepare(karpathy, folder, DevLists(images=21))
    assert {split: len(captions) for split, captions in splits.items()} == {
        "train": 34,
        "val": 25,
        "test": 3,
        "minival": 21,
    }
    assert "words of the captions" in chosen_by
    for split, captions in splits.items():
        assert read_captions(folder, split) == captions
        assert list(read_captions(folder, split)) == read_image_keys(folder / f"{split}_img_keys.tsv")
    assert splits["train"][1000] == [f"A dog number 0, {n}." for n in range(5)]
    assert list(splits["val"]) == list(range(966, 941, -1))
    drawn = list(splits["minival"])
    assert drawn == sorted(drawn, reverse=True) and set(drawn) < set(splits["val"])
    index = read_caption_index(folder / "minival_caption_indexs_top20.pt")
    assert list(index) == drawn and all(len(pairs) == 20 for pairs in index.values())
    for image_id, pairs in index.items():
        others = {other for other, _ in pairs} - {image_id}
        alike = {other for other in drawn if other % 3 == image_id % 3}
        assert len(alike & others) >= len(alike) - 1
    assert read_names(folder)[999] == "COCO_val2014_000000000999.jpg"


def test_tags_choose_the_hard_ones(karpathy, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    for number in range(1, 1001):
        if number > 930:
            np.savez(folder / f"{number}.npz", features=np.ones((1, 2054), np.float32), tags=[f"group{number % 2}"])
    prepare(karpathy, tmp_path / "words", DevLists(images=0))
    splits, chosen_by = prepare(karpathy, tmp_path / "tags", DevLists(images=0, num_hard=10), feat_file=folder)
    assert chosen_by == f"the object tags in {folder}" and len(splits["minival"]) == 25
    by_words, by_tags = (
        read_caption_index(tmp_path / name / "minival_caption_indexs_top20.pt") for name in ("words", "tags")
    )
    assert by_words != by_tags
    same = [other % 2 == image_id % 2 for image_id, pairs in by_tags.items() for other, _ in pairs if other != image_id]
    assert sum(same) >= 25 * 10
    with pytest.raises(DataError, match=r"none: no such file.*DATASET\.FEAT_FILE"):
        prepare(karpathy, tmp_path / "other", DevLists(), feat_file=tmp_path / "none")


def test_files_that_are_there_are_kept(karpathy, tmp_path):
    prepare(karpathy, tmp_path / "out")
    assert not (tmp_path / "out" / "minival_captions.pt").exists()
    before = (tmp_path / "out" / "test_captions.pt").read_bytes()
    (tmp_path / "out" / "test_captions.pt").write_bytes(b"published")
    with pytest.raises(DataError, match=r"train_captions\.pt: is already there \(with 5 others\).*--overwrite"):
        prepare(karpathy, tmp_path / "out")
    assert (tmp_path / "out" / "test_captions.pt").read_bytes() == b"published"
    prepare(karpathy, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "test_captions.pt").read_bytes() == before


def jsonl(path, split, names, captions="A {name}.", **more):
    lines = [{"image": name, "captions": [captions.format(name=name)], "split": split, **more} for name in names]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_second_file_joins_the_first_or_says_which_ids_collide(tmp_path):
    out = tmp_path / "out"
    val = jsonl(tmp_path / "val.jsonl", "val", ["a.jpg", "b.jpg", "c.jpg"])
    prepare(val, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    test = jsonl(tmp_path / "test.jsonl", "test", ["d.jpg", "e.jpg", "f.jpg"])  # numbered from 1 as well
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"out: ids 1 to 3 already belong to pictures of split 'val'; give the pic"):
            prepare(test, out, overwrite=overwrite)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    other = tmp_path / "more.jsonl"
    other.write_text(
        "".join(json.dumps({**json.loads(line), "id": 7}) for line in jsonl(test, "test", ["d.jpg"]).open())
    )
    prepare(other, out)
    assert read_names(out) == {1: "a.jpg", 2: "b.jpg", 3: "c.jpg", 7: "d.jpg"}
    assert read_captions(out, "val") == {1: ["A a.jpg."], 2: ["A b.jpg."], 3: ["A c.jpg."]}
    prepare(jsonl(val, "val", ["x.jpg"]), out, overwrite=True)  # a split that is written anew loses its old names
    assert read_names(out) == {1: "x.jpg", 7: "d.jpg"}


def test_pictures_without_names_are_told_by_their_captions(tmp_path):
    write_torch_file(tmp_path / "val_captions.pt", {1: ["A a.jpg."], 2: ["A dog."]})
    prepare(jsonl(tmp_path / "m.jsonl", "test", ["a.jpg"]), tmp_path)  # the same picture in two splits is a leak only
    with pytest.raises(DataError, match="ids 2 already belong to pictures of split 'val'"):
        prepare(jsonl(tmp_path / "n.jsonl", "test", ["a.jpg", "b.jpg"]), tmp_path, overwrite=True)


def test_changed_sources_and_other_captions_are_noticed(tmp_path, caplog):
    source = jsonl(tmp_path / "mine.jsonl", "test", ["a.jpg", "b.jpg"])
    prepare(source, tmp_path, command="python tools/prepare_captions.py --annotations mine.jsonl")
    assert read_split_captions(tmp_path, "test") == {1: ["A a.jpg."], 2: ["A b.jpg."]} and not caplog.records
    jsonl(source, "test", ["a.jpg", "b.jpg"], captions="A corrected {name}.")
    assert read_split_captions(tmp_path, "test") == {1: ["A a.jpg."], 2: ["A b.jpg."]}
    again = "python tools/prepare_captions.py --annotations mine.jsonl --overwrite"
    assert f"mine.jsonl has changed since test_captions.pt was made of it; make both again: {again}" in caplog.text
    caplog.clear()
    prepare(source, tmp_path, overwrite=True)
    write_torch_file(tmp_path / "test_captions.pt", {1: ["Other."], 2: ["Another."]})
    read_split_captions(tmp_path, "test")
    assert "test_captions.pt holds other captions than those whose pictures image_names.json names" in caplog.text


def test_one_source_two_feature_files_for_a_picture(tmp_path):
    class Features:
        def use_names(self, names):
            raise DataError("features: both")

    source = jsonl(tmp_path / "mine.jsonl", "test", ["b/1_img.jpg", "a/img.jpg", "b/img.jpg"])
    expected = r"both \(mine.jsonl line 2; mine.jsonl line 3\)"
    for place in (source, tmp_path):
        with pytest.raises(SharedFeatures, match=expected):
            use_names(Features(), {}, place)


def test_what_cannot_be_prepared(karpathy, tmp_path):
    with pytest.raises(
        DataError, match=r"no split 'dev' to take dev images.*'val', 'test'\]: name one with --dev_split, or"
    ):
        prepare(karpathy, tmp_path / "out", DevLists(split="dev"))
    with pytest.raises(DataError, match="need as many captions; found 15 of 3 images: .* --candidates"):
        prepare(karpathy, tmp_path / "out", DevLists(split="test"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: cannot be written"):
        prepare(karpathy, tmp_path / "file")
    assert not (tmp_path / "out").exists()
