"""Annotation files of one's own and Karpathy's: captions, splits, ids, and one clear line for each thing wrong."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import (
    find_annotations,
    read_annotations,
    read_names,
    read_split_captions,
)
from oscar_paddle.datasets.formats.torch_writer import write_torch_file


def jsonl(path, *entries):
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def entry(image="dog.jpg", captions=("A dog.",), split="train", **more):
    return {"image": image, "captions": list(captions), "split": split, **more}


def image(filename="dog.jpg", split="train", texts=("A dog.",), **more):
    return {"filename": filename, "split": split, "sentences": [{"raw": text} for text in texts], **more}


def karpathy(path, *images):
    path.write_text(json.dumps({"dataset": "x", "images": list(images)}))
    return path


def told(pictures):
    return [(p.image_id, p.name, p.split, p.captions) for p in pictures]


def test_jsonl(tmp_path):
    path = jsonl(
        tmp_path / "mine.jsonl",
        entry("dog.jpg", [" A  dog\nruns. "]),
        "",
        {"image": "cat.jpg", "caption": "Une féline.", "split": "test"},
        entry("dog.jpg", ["Again."]),
    )
    assert told(read_annotations(path)) == [
        (1, "dog.jpg", "train", ["A dog runs.", "Again."]),
        (2, "cat.jpg", "test", ["Une féline."]),
    ]
    assert read_split_captions(tmp_path, "test") == {2: ["Une féline."]}
    assert read_names(tmp_path) == {1: "dog.jpg", 2: "cat.jpg"}


def test_where_ids_come_from(tmp_path):
    def ids(path):
        return [picture.image_id for picture in read_annotations(path)]

    path = tmp_path / "a.jsonl"
    assert ids(jsonl(path, entry("9.jpg", id=70), entry("b.jpg", id=3))) == [70, 3]
    assert ids(jsonl(path, entry("009.jpg"), entry("1000092795.jpg"))) == [9, 1000092795]  # as in Flickr30k
    assert ids(jsonl(path, entry("9.jpg"), entry("b.jpg"))) == [1, 2]
    path = tmp_path / "dataset_a.json"
    assert ids(karpathy(path, image("9.jpg", cocoid=391895, imgid=0), image("8.jpg", cocoid=7, imgid=1))) == [391895, 7]
    assert ids(karpathy(path, image("1000092795.jpg", imgid=0), image("36979.jpg", imgid=1))) == [1000092795, 36979]
    assert ids(karpathy(path, image("1_a.jpg", imgid=5), image("2_b.jpg", imgid=6))) == [5, 6]


def test_karpathy_restval_is_train_and_tokens_do_without_text(tmp_path):
    tokens = {"filename": "b.jpg", "split": "restval", "sentences": [{"tokens": ["a", "cat"]}], "cocoid": 2}
    path = karpathy(tmp_path / "dataset_coco.json", image(cocoid=9), tokens, image("c.jpg", "val", cocoid=4))
    assert told(read_annotations(path))[1] == (2, "b.jpg", "train", ["a cat"])
    assert list(read_split_captions(tmp_path, "train")) == [9, 2]
    with pytest.raises(DataError, match=r"no split 'test'; it has train \(2 images\), val \(1 images\)$"):
        read_split_captions(tmp_path, "test")
    with pytest.raises(DataError, match=r"no split 'minival'.*tools/prepare_captions\.py makes a minival of val"):
        read_split_captions(tmp_path, "minival")


def test_published_captions_come_first(tmp_path):
    jsonl(tmp_path / "a.jsonl", entry(split="test"))
    write_torch_file(tmp_path / "test_captions.pt", {5: json.dumps(["Published."])})
    assert read_split_captions(tmp_path, "test") == {5: ["Published."]}
    (tmp_path / "image_names.json").write_text('{"5": "five.jpg"}')
    assert read_names(tmp_path) == {5: "five.jpg"}
    (tmp_path / "image_names.json").write_text('{"five": "five.jpg"}')
    with pytest.raises(DataError, match=r"image_names\.json: expected an object image id -> name"):
        read_names(tmp_path)


def test_folders_without_or_with_several_annotation_files(tmp_path):
    assert find_annotations(tmp_path) is None and read_names(tmp_path) == {}
    with pytest.raises(DataError, match=r"train_captions\.pt and .*train_captions\.pd: no such file"):
        read_split_captions(tmp_path, "train")
    jsonl(tmp_path / "a.jsonl", entry()), karpathy(tmp_path / "dataset.json", image())
    with pytest.raises(
        DataError, match=r"a\.jsonl and .*dataset\.json: expected one file with captions, or tools/prepare_cap"
    ):
        find_annotations(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("{not json", "line 2: malformed JSON"),
        ("[" * 100_000, "line 2: malformed JSON"),
        ([1], "line 2: expected an object"),
        ({"captions": ["a"], "split": "train"}, "line 2: no 'image'"),
        (entry(7), "line 2: 'image' is 7; expected text"),
        (entry("b.jpg", split=""), "line 2: 'split' is ''"),
        (entry("b.jpg", ["a", " "]), r"line 2 \(b\.jpg\): caption 2 is empty"),
        (entry("b.jpg", ["a", 3]), r"line 2 \(b\.jpg\): caption 2 is no text"),
        ({"image": "b.jpg", "split": "train"}, r"line 2 \(b\.jpg\): expected a list of captions"),
        (entry("b.jpg", []), r"line 2 \(b\.jpg\): no captions"),
        (entry("b.jpg", id="x"), "line 2: 'id' is 'x'; expected an integer"),
        (entry("b.jpg", id="7"), "line 2: 'id' is '7'; expected an integer from 0 on, a number without quotes"),
        (entry("b.jpg", id=True), "line 2: 'id' is 'True'"),
        (entry("b.jpg", id=-1), "line 2: 'id' is '-1'"),
        (entry("b.jpg", id=4), r"line 1 \(dog\.jpg\): no image id, but other pictures have one"),
        (entry("dog.jpg", split="test"), r"line 2: 'dog\.jpg' has another split or id in .*line 1"),
    ],
)
def test_wrong_lines(tmp_path, wrong, message):
    path = jsonl(tmp_path / "a.jsonl", entry(), wrong)
    with pytest.raises(DataError, match=message) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "malformed JSON"),
        (b"{}", "expected Karpathy's JSON"),
        (b'{"images": []}', "no pictures"),
        (b'{"images": [[]]}', "picture 1: expected an object with"),
        (b'{"images": [{"filename": "a", "split": "train", "sentences": [{}]}]}', r"picture 1 \(a\): caption 1 is no"),
        (b"\xff\xfe", "not UTF-8 text"),
        (json.dumps({"images": [image(cocoid=1), image("b", cocoid=1)]}).encode(), "picture 2: the image id 1 is"),
    ],
)
def test_wrong_karpathy_files(tmp_path, content, message):
    path = tmp_path / "dataset_x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_annotations(path)


COCO = {
    "images": [{"id": 9, "file_name": "COCO_val2014_000000000009.jpg"}, {"id": 4, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 9, "id": 1, "caption": "A  dog. "}, {"image_id": 9, "id": 2, "caption": "A cat."}],
}
TOKENS = "1000092795.jpg#0\tTwo young guys.\n1000092795.jpg#1\tTwo men.\n36979494.jpg#0\tA dog.\n"


def test_the_files_of_coco_and_flickr30k_themselves(tmp_path):
    path = tmp_path / "captions_val2014.json"
    path.write_text(json.dumps(COCO))
    expected = (9, "COCO_val2014_000000000009.jpg", "val", ["A dog.", "A cat."])
    assert told(read_annotations(path)) == [expected]
    assert told(read_annotations(path, "test"))[0][2] == "test"
    tokens = tmp_path / "results_20130124.token"
    tokens.write_text(TOKENS)
    assert told(read_annotations(tokens, "val")) == [
        (1000092795, "1000092795.jpg", "val", ["Two young guys.", "Two men."]),
        (36979494, "36979494.jpg", "val", ["A dog."]),
    ]
    with pytest.raises(DataError, match=r"\.token: this file does not say which split .* --split"):
        read_annotations(tokens)
    with pytest.raises(DataError, match=r"no such file.*prepare_captions.py --annotations .*captions_val2014.json"):
        read_split_captions(tmp_path, "val")
    with pytest.raises(DataError, match=r"captions_val2014\.json: is a file; DATASET\.DATA_DIR is the folder"):
        read_split_captions(path, "val")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions_val.json", {**COCO, "images": [3]}, "expected COCO's captions"),
        ("captions_val.json", {**COCO, "images": COCO["images"][1:]}, "annotation 1: 'image_id' 9 is none of 'images'"),
        ("captions_val.json", {**COCO, "annotations": [{"image_id": 4}]}, "annotation 1: caption 1 is no text"),
        ("mine.json", COCO, "does not say which split"),
        ("f.token", "a.jpg\tx\n", "line 1: 'a.jpg.*expected name#number, tab, caption"),
        ("f.token", "a.jpg#0\t \n", r"line 1 \(a.jpg\): caption 1 is empty"),
    ],
)
def test_wrong_files_of_theirs(tmp_path, name, content, message):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path / name, "test" if name.endswith(".token") else "")


def test_a_second_annotation_file_beside_prepared_captions(tmp_path):
    write_torch_file(tmp_path / "test_captions.pt", {5: json.dumps(["Published."])})
    jsonl(tmp_path / "a.jsonl", entry()), jsonl(tmp_path / "b.jsonl", entry())
    assert read_split_captions(tmp_path, "test") == {5: ["Published."]}
    assert read_names(tmp_path, "test") == {}
    (tmp_path / "image_names.json").write_text('{"5": "five.jpg"}')
    assert read_names(tmp_path, "test") == {5: "five.jpg"}
    (tmp_path / "b.jsonl").unlink()  # a split that is in the annotation file only has its names there
    assert read_names(tmp_path, "train") == {1: "dog.jpg"} and read_names(tmp_path) == {5: "five.jpg"}


KEYS = st.sampled_from(["image", "captions", "caption", "split", "id", "filename", "sentences", "raw", "cocoid"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.lists(VALUES | st.dictionaries(KEYS, VALUES), max_size=3), st.booleans())
def test_any_json_is_read_or_refused(tmp_path_factory, values, karpathys):
    folder = tmp_path_factory.getbasetemp()
    path = folder / ("dataset_any.json" if karpathys else "any.jsonl")
    path.write_text(json.dumps({"images": values}) if karpathys else "\n".join(map(json.dumps, values)))
    try:
        pictures = read_annotations(path)
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert len({picture.image_id for picture in pictures}) == len(pictures) > 0
        for picture in pictures:
            assert picture.name and picture.split and picture.captions and all(map(str.strip, picture.captions))


def test_a_line_that_is_there_twice_counts_no_caption_twice(tmp_path):
    path = tmp_path / "a.jsonl"
    twice = entry("a.jpg", captions=["One.", "Two."])
    jsonl(path, entry("a.jpg", captions=["Three."]), twice, twice)
    with pytest.raises(DataError, match=r"line 3: 'a.jpg' has these captions already from .*line 2; take one of them"):
        read_annotations(path)
    jsonl(path, entry("a.jpg", captions=["One."]), entry("a.jpg", captions=["One."]))  # two people may say the same
    assert read_annotations(path)[0].captions == ["One.", "One."]
