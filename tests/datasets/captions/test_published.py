"""Captions, key lists and candidate lists as the authors and the Paddle ports published them."""

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.published import read_caption_index, read_captions, read_image_keys

FILES = Path(__file__).resolve().parents[2] / "golden" / "torch_files"


@pytest.fixture
def write(tmp_path):
    def write(value, name="test_captions.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(value, 2))
        return tmp_path

    return write


def refused(read, *arguments, message):
    with pytest.raises(DataError, match=message) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- captions ----


@pytest.mark.parametrize("split", ["test", "minival", "train"])  # JSON strings, JSON strings, lists
def test_the_published_captions(golden, split):
    captions = read_captions(golden / "coco_ir", split)
    assert all(type(image_id) is int and len(texts) >= 5 for image_id, texts in captions.items())
    assert captions[359332][:2] == [
        "Snow shirt blue and people beach two ",
        "Two people's café-table: naïve Ünïcode, 人 and 狗!",
    ]
    assert list(captions)[0] == 359332


def test_each_value_is_read_for_itself_and_order_is_kept(write):
    value = {"30": ["a", "b"], 4: '["c"]', np.int64(2): ("d",), 1: json.dumps(["人", '["not", "again"]'])}
    captions = read_captions(write(value), "test")
    assert list(captions.items()) == [(30, ["a", "b"]), (4, ["c"]), (2, ["d"]), (1, ["人", '["not", "again"]'])]
    assert all(type(image_id) is int for image_id in captions)


@pytest.mark.parametrize("name", ["captions_old.pt", "captions_zip.pt", "captions.pd"])
def test_every_container(tmp_path, name):
    (tmp_path / f"val_captions{Path(name).suffix}").write_bytes((FILES / name).read_bytes())
    assert read_captions(tmp_path, "val") == {1: ["a cat", "café"], 2: ["a dog", "人"]}


def test_pt_comes_before_pd(write):
    write({1: ["from pd"]}, "test_captions.pd")
    assert read_captions(write({1: ["from pt"]}), "test") == {1: ["from pt"]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([["a"]], "holds an object of type list; expected a dictionary image id -> captions"),
        ({}, "holds an empty dictionary"),
        ({5: "a dog"}, "image 5 has 'a dog'; expected a list or its JSON text"),
        ({5: '"a dog"'}, "image 5 has .*; expected a list of captions"),
        ({5: []}, "image 5 has an empty list"),
        ({5: "[]"}, r"image 5 has '\[\]'"),
        ({5: ["a", 3]}, "caption 2 of image 5 is 3; expected text"),
        ({5: [["a"]]}, "caption 1 of image 5 is an object of type list; expected text"),
        ({5: None}, "image 5 has None"),
        ({5: np.zeros(3)}, "image 5 has an object of type ndarray"),
        ({5: "[" * 100_000}, "image 5 has"),
        ({"dog.jpg": ["a"]}, "the key 'dog.jpg' is no integer; where images have names, use a JSONL with .image."),
        ({True: ["a"]}, "the key True is no image id"),
        ({2.5: ["a"]}, "the key 2.5 is no image id"),
        ({"": ["a"]}, "the key '' is no image id"),
        ({5: ["a"], "5": ["b"]}, "image 5 is there twice"),
    ],
)
def test_files_that_are_not_captions(write, value, message):
    folder = write(value)
    assert str(folder / "test_captions.pt") in refused(read_captions, folder, "test", message=message)


def test_missing_and_foreign_caption_files(tmp_path):
    text = refused(read_captions, tmp_path, "val", message="no such file")
    assert "val_captions.pt and " in text and "val_captions.pd" in text
    (tmp_path / "val_captions.pt").write_text("<html>Sign in</html>")
    refused(read_captions, tmp_path, "val", message="HTML page")


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.integers(0, 10**12) | st.text(max_size=3),
        st.lists(st.text(max_size=5) | st.integers(), max_size=3) | st.text(max_size=8) | st.none(),
        max_size=4,
    )
)
def test_any_dictionary_is_captions_or_one_clear_error(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp()
    (folder / "any_captions.pt").write_bytes(pickle.dumps(value))
    try:
        captions = read_captions(folder, "any")
    except DataError as error:
        assert str(error).startswith(str(folder / "any_captions.pt"))
    else:
        assert len(captions) == len(value)
        assert all(texts and all(isinstance(text, str) for text in texts) for texts in captions.values())


def test_113287_images_take_seconds(write):
    texts = json.dumps(["a man riding a wave on top of a surfboard"] * 5)
    value = {number * 5: texts + " " * (number % 3) for number in range(113287)}
    folder = write(value)
    start = time.monotonic()
    captions = read_captions(folder, "test")
    assert len(captions) == 113287 and len(captions[5]) == 5
    assert time.monotonic() - start < 30  # about 1 second measured on an idle machine


# ---- candidates ----


def test_the_published_candidates(golden):
    index = read_caption_index(golden / "coco_ir" / "minival_caption_indexs_top20.pt")
    captions = read_captions(golden / "coco_ir", "minival")
    assert list(index) == list(captions)
    for pairs in index.values():
        assert all(number < len(captions[image_id]) for image_id, number in pairs)
    assert index[359332][0] == (359332, 4)


def test_candidates_of_every_form(write):
    folder = write({"7": "[[7, 1], [8, 0]]", 8: [(7, 0), ["8", 2]]}, "top20.pd")
    for name in ("top20.pd", "top20.pt"):  # the config may name either
        assert read_caption_index(folder / name) == {7: [(7, 1), (8, 0)], 8: [(7, 0), (8, 2)]}


@pytest.mark.parametrize(
    "value",
    [[], "[]", [7, 1], [[7]], [[7, 1, 2]], [[7, -1]], [["a", 1]], [[7, 1.5]], [[7, True]], "[[7, 1]", {"7": 1}, None],
)
def test_values_that_are_not_candidates(write, value):
    folder = write({7: value}, "top20.pt")
    refused(read_caption_index, folder / "top20.pt", message=r"top20\.pt: image 7 has .*; expected")


def test_missing_candidates(tmp_path):
    refused(read_caption_index, tmp_path / "top20.pt", message=r"top20\.pd: no such file \(EVAL\.EVAL_CAPTION_INDEX")


# ---- key lists ----


def test_the_published_key_list(golden):
    keys = read_image_keys(golden / "coco_ir" / "test_img_keys.tsv")
    assert len(keys) == 10 and keys[:2] == [231159, 359332]


def test_blank_lines_and_windows_files(tmp_path):
    path = tmp_path / "keys.tsv"
    path.write_bytes(b"\xef\xbb\xbf9\r\n\r\n 31 \r\n7")
    assert read_image_keys(path) == [9, 31, 7]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"9\n31\n9\n", "line 3: image 9 is already on line 1"),
        (b"9\n\n09\n", "line 3: image 9 is already on line 1"),
        (b"9\nimage31\n", "line 2: 'image31'; expected one integer"),
        (b"9\t31\n", "line 1: '9.t31'; expected one integer"),
        (b"9\n3.5\n", "line 2"),
        (b"-9\n", "line 1"),
        (b"", "no image ids"),
        (b"\n \n", "no image ids"),
        (b"\xff\xfe9\n", "not UTF-8 text"),
    ],
)
def test_lists_that_are_not_keys(tmp_path, content, message):
    path = tmp_path / "keys.tsv"
    path.write_bytes(content)
    assert refused(read_image_keys, path, message=message).startswith(str(path))


def test_a_missing_key_list(tmp_path):
    refused(read_image_keys, tmp_path / "keys.tsv", message=r"no such file \(EVAL\.EVAL_IMG_KEYS_FILE\)")


@pytest.mark.shared
def test_real_captions(shared):
    for name in ("coco_ir", "coco_ir_zh"):
        folder = shared / "data" / "flickr8k_regions" / name
        for split, count in (("train", 1000), ("test", 200), ("minival", 100)):
            captions = read_captions(folder, split)
            assert len(captions) == count
            assert set(read_image_keys(folder / f"{split}_img_keys.tsv")) == set(captions)
        assert len(read_caption_index(folder / "minival_caption_indexs_top20.pt")) == 100
