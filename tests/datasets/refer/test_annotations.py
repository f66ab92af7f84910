"""refs(...).p and instances.json: splits, boxes, and files that do not belong together."""

import json
import pickle

import numpy as np
import pytest

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.refer.annotations import read_expressions, read_refs
from oscar_paddle.datasets.refer.masks import box_of, decode_counts


def ref(number, split, **changes):
    sentences = [{"raw": f"Text {number}", "sent": "", "sent_id": 10 * number, "tokens": []}]
    ids = {"ref_id": number, "ann_id": 100 + number, "image_id": number, "category_id": 1}
    return {**ids, "file_name": "x.jpg", "sent_ids": [10 * number], "sentences": sentences, "split": split, **changes}


@pytest.fixture
def folder(tmp_path):
    def make(refs, split_by="unc", annotations=None, protocol=2):
        (tmp_path / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol))
        if annotations is None:
            kinds = {"category_id": 1, "bbox": [1, 2, 3, 4]}
            annotations = [{"id": each["ann_id"], "image_id": each["image_id"], **kinds} for each in refs]
        images = [{"id": each["image_id"], "file_name": f"{each['image_id']}.jpg"} for each in refs]
        values = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cow"}]}
        (tmp_path / "instances.json").write_text(json.dumps(values))
        return tmp_path

    return make


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_splits(folder, protocol):
    names = ["train", "val", "testA", "testB", "testAB", "testC"]
    path = folder([ref(number, name) for number, name in enumerate(names)], protocol=protocol)
    wanted = {"train": [0], "val": [1], "testA": [2, 4], "testB": [3, 4], "test": [2, 3, 4, 5]}
    for split, numbers in wanted.items():
        found, pictures = read_expressions(path, "unc", split)
        assert [each.ref_id for each in found] == numbers and pictures == {n: f"{n}.jpg" for n in numbers}
    assert found[0].text == "Text 2" and found[0].category == "cow"


def test_splits_that_are_not_there(folder):
    path = folder([ref(1, "train"), ref(2, "val")], "google")
    assert len(read_expressions(path, "google", "val")[0]) == 1
    with pytest.raises(DataError, match=r"no expressions of split 'test' \(it has train, val\)"):
        read_expressions(path, "google", "test")
    with pytest.raises(ConfigError, match=r"split 'testA': refs\(umd\).p has train, val, test"):
        read_expressions(path, "umd", "testA")


def test_objects_of_a_class_are_counted_in_their_image(folder):
    kinds = [(101, 1, 1), (102, 1, 1), (103, 1, 2), (104, 2, 1)]
    names = ("id", "image_id", "category_id")
    annotations = [{**dict(zip(names, each, strict=True)), "bbox": [0, 0, 9, 9]} for each in kinds]
    (found,), _ = read_expressions(folder([ref(1, "val")], annotations=annotations), "unc", "val")
    assert found.alike == 2


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ([], "ann_id 101 is not in"),
        ([{"id": 101, "image_id": 5, "category_id": 1}], "is in image 5"),
        ([{"id": 101, "image_id": 1, "category_id": 1}], "annotation 101 (of ref_id 1): neither bbox nor a mask"),
        ([{"id": 101, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}], "bbox is [1, 2, 3]"),
        ([{"id": 101, "image_id": 1, "category_id": 1, "bbox": [1, 2, -3, 4]}], "a negative side"),
        ([{"id": 101, "category_id": 1}], "annotation 0: 'image_id' is 'None'"),
        (["x"], "entry 0 of 'annotations' is 'x'"),
    ],
)
def test_files_that_do_not_belong_together_and_objects_without_a_box(folder, annotations, words):
    path = folder([ref(1, "val")], annotations=annotations)
    with pytest.raises(DataError) as error:
        read_expressions(path, "unc", "val")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>refused", "an HTML page"),
        (pickle.dumps({"a": 1}), "holds a dict; expected a list of refs"),
        (pickle.dumps([1]), "ref 0: is a int"),
        (pickle.dumps([ref(3, "val", sentences=[])]), "ref 0 (ref_id 3): 'sentences' is []"),
        (pickle.dumps([ref(3, "val", ref_id="x")]), "ref 0: 'ref_id' is 'x'"),
        (b"cos\nsystem\n(S'true'\ntR.", "refuses the global 'os.system'"),
        (pickle.dumps([ref(3, "val")])[:-9], "damaged, or no pickled data"),
    ],
)
def test_refs_that_are_none(tmp_path, content, words):
    (tmp_path / "refs(unc).p").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_refs(tmp_path / "refs(unc).p")
    assert words in str(error.value) and "refs(unc).p" in str(error.value)
    with pytest.raises(DataError, match="DATASET.DATA_DIR and REFER.DATASET say where"):
        read_refs(tmp_path / "missing.p")


# Compressed by pycocotools 2.0.11: a 7 x 9 mask of rows 2-4, columns 3-6, and one of column 2 whole to column 3 row 1.
MASK = np.zeros((7, 9), np.uint8)
MASK[2:5, 3:7] = 1


def runs(mask):
    flat = np.concatenate([[0], mask.flatten(order="F"), [1 - mask[-1, -1]]])
    ends = np.flatnonzero(np.diff(flat))
    return [int(count) for count in np.diff([0, *ends[:-1], mask.size] if ends[-1] == mask.size else [0, *ends])]


def compressed(counts):
    """The writer that COCO's format describes, for what the reader takes."""
    text = b""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += bytes([(bits | (32 if more else 0)) + 48])
            if not more:
                break
    return text.decode()


@pytest.mark.parametrize("packed", [False, True])
def test_boxes_of_masks(packed):
    whole = np.zeros((70, 90), np.uint8)
    whole[:, 20] = 1
    for mask in (MASK, whole, np.pad(MASK, ((0, 60), (300, 0)))):
        counts = runs(mask)
        if packed:
            assert decode_counts(compressed(counts)) == counts
        counts = compressed(counts) if packed else counts
        rows, columns = np.nonzero(mask)
        wanted = (columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min())
        assert box_of({"segmentation": {"size": list(mask.shape), "counts": counts}}, "here") == wanted


def test_boxes_of_polygons_and_masks_that_are_none():
    polygons = [[10, 20, 30, 20, 30, 45.5], [5, 25, 6, 26, 5, 26]]
    assert box_of({"segmentation": polygons}, "here") == (5, 20, 25, 25.5)
    for mask in (
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2, 2], "counts": "~"},
        {"counts": [4]},
        [[1, 2, 3]],
        "x",
    ):
        with pytest.raises(DataError, match="here: "):
            box_of({"segmentation": mask}, "here")
