"""The data set check: a clean data set passes, and every kind of damage is found, named, located and counted."""

import base64
import json
import os
import pickle
import time

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.captions.prepare import DevLists, prepare
from oscar_paddle.datasets.checks import scan as check_scan
from oscar_paddle.datasets.checks import text as text_checks
from oscar_paddle.datasets.checks.dataset import check_dataset
from oscar_paddle.datasets.checks.findings import KEPT_EXAMPLES, NOTICES, PROBLEMS, Findings
from oscar_paddle.datasets.checks.rows import FeatureChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_range
from oscar_paddle.datasets.checks.text import RowLengths, measure
from oscar_paddle.datasets.regions.packing import pack
from oscar_paddle.datasets.regions.rows import Columns
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures

TRAIN, DEV, TEST = (101, 102, 103, 104), (201, 202), (301, 302, 303)
EVERYTHING = TRAIN + DEV + TEST
WIDTH, HEIGHT = 640, 480
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "image", "caption", "dog", "red", "ball", "cat"]
VOCABULARY += [f"{start}{digit}" for start in ("", "##") for digit in range(10)]
RECTS = [[0, 0, 640, 480], [64, 48, 320, 240]]


def regions_of(image_id, rects=RECTS):
    """[R, 2054] float32 with the six box values of the rects."""
    visual = np.random.default_rng(image_id).random((len(rects), 2048), np.float32)
    corners = np.array(rects, np.float32) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    return np.concatenate([visual, corners, corners[:, 2:] - corners[:, :2]], axis=1).astype("<f4")


def feature_row(image_id, regions, num_boxes=None):
    text = base64.b64encode(np.asarray(regions, "<f4").tobytes()).decode()
    return f"{image_id}\t{len(regions) if num_boxes is None else num_boxes}\t{text}"


def detections(rects=RECTS, names=("dog", "red ball")):
    return [{"class": name, "conf": 0.9 - 0.1 * i, "rect": rect} for i, (name, rect) in enumerate(zip(names, rects))]  # noqa: B905


def tag_row(image_id, objects=None, **more):
    value = {"image_h": HEIGHT, "image_w": WIDTH, "objects": detections() if objects is None else objects, **more}
    return f"{image_id}\t{json.dumps(value)}"


class Data:
    """A small clean data set whose parts a test changes before `write`."""

    def __init__(self, root):
        self.root = root
        self.captions = {
            "train": {i: [f"image {i} caption {n}" for n in range(5)] for i in TRAIN},
            "minival": {i: [f"image {i} caption {n}" for n in range(5)] for i in DEV},
            "test": {i: [f"image {i} caption {n}" for n in range(6)] for i in TEST},
        }
        self.features = [feature_row(i, regions_of(i)) for i in EVERYTHING]
        self.tags = [tag_row(i) for i in EVERYTHING]
        pairs = [[i, n] for i in DEV for n in range(5)]
        self.candidates = {i: json.dumps(pairs) for i in DEV}
        self.settings = {
            "DATASET.DATA_DIR": str(root / "coco_ir"),
            "PRETRAINED.DIR": str(root / "model"),
            "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": 10,
            "EVAL.EVAL_CAPTION_INDEX_FILE": "top.pt",
        }
        self.model_dir = root / "model_0060000"
        (root / "model").mkdir()
        (root / "model" / "vocab.txt").write_text("\n".join(VOCABULARY))

    def write(self):
        folder = self.root / "coco_ir"
        folder.mkdir(parents=True, exist_ok=True)
        self.model_dir.mkdir(exist_ok=True)
        for split, captions in self.captions.items():
            entries = {i: json.dumps(v) if isinstance(v, list) else v for i, v in captions.items()}
            (folder / f"{split}_captions.pt").write_bytes(pickle.dumps(entries, 2))
        (folder / "top.pt").write_bytes(pickle.dumps(self.candidates, 2))
        for name, rows in (("features", self.features), ("predictions", self.tags)):
            lines = [f"{row}\n".encode() for row in rows]
            starts = np.cumsum([0, *map(len, lines)])[:-1]
            (self.model_dir / f"{name}.tsv").write_bytes(b"".join(lines))
            (self.model_dir / f"{name}.lineidx").write_text("".join(f"{start}\n" for start in starts))
        ids = [row.split("\t")[0] for row in self.features]
        (self.model_dir / "imageid2idx.json").write_text(json.dumps({i: n for n, i in enumerate(ids)}))
        return self

    def check(self, split_names=None, **options):
        (self.root / "run.yaml").write_text("")
        words = [word for pair in self.settings.items() for word in pair]
        return check_dataset(load_config(self.root / "run.yaml", words), split_names, **options)


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def found(check):
    """{kind: total} of everything but that there is no vocabulary here."""
    counts = {}
    for (kind, _), count in check.findings.counts.items():
        if kind != "no_check":
            counts[kind] = counts.get(kind, 0) + count
    return counts


def examples(check, kind, file):
    """The examples of a kind in the file of this name: [(row from 1 or None, text), ...]."""
    for (name, path), texts in check.findings.examples.items():
        if name == kind and path.endswith(str(file)):
            return [(None if e.row is None else e.row + 1, e.text) for e in texts]
    return []


# ---- clean ----


def test_a_clean_data_set_has_no_findings_and_right_figures(data):
    check = data.write().check()
    assert found(check) == {}
    assert check.findings.total() == 0
    assert check.regions == dict.fromkeys(EVERYTHING, 2)
    assert check.tags == dict.fromkeys(EVERYTHING, "dog red ball")
    assert check.classes == {"dog": 9, "red ball": 9} and check.tag_counts == [2] * 9
    assert check.agreement == (9, 9) and check.negative == 0 and check.other_rows == 0
    expected = np.mean([np.linalg.norm(regions_of(i)[:, :2048], axis=1).mean() for i in EVERYTHING])
    assert check.norm == pytest.approx(expected, rel=1e-4)


def test_nothing_is_written(data):
    data.write()
    (data.model_dir / "features.lineidx").unlink()
    (data.model_dir / "imageid2idx.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in data.root.rglob("*")}
    check = data.check()
    (data.root / "run.yaml").unlink()
    assert {path: path.stat().st_mtime_ns for path in data.root.rglob("*")}.keys() == before.keys()
    assert found(check) == {"no_lineidx": 1, "no_id_map": 1}
    assert check.findings.total() == 0, "both are built again by the readers: notices"


def test_the_golden_set(golden, tmp_path):
    """Awkward on purpose: equal splits, one image without tags, one row that is a bare list, made-up boxes."""
    (tmp_path / "run.yaml").write_text("")
    opts = ["DATASET.DATA_DIR", golden / "coco_ir", "PRETRAINED.DIR", golden / "checkpoint", "INPUT.MAX_SEQ_LEN", 40]
    opts += ["INPUT.MAX_REGION", 12, "EVAL.EVAL_CROSS_IMAGE", True, "EVAL.EVAL_IMG_KEYS_FILE", "test_img_keys.tsv"]
    check = check_dataset(load_config(tmp_path / "run.yaml", opts))
    assert found(check) == {
        "leak_id": 24,
        "shared_id": 12,
        "no_tags": 1,
        "no_size": 1,
        "boxes_differ": 10,
        "tags_cut": 7,
        "regions_cut": 3,
    }
    assert examples(check, "no_tags", "predictions.tsv") == [(7, "image 170709: no detections")]
    assert check.captions.words == {"café-table:": 1}
    assert max(check.regions.values()) == 23


# ---- captions ----


def test_a_missing_model_is_a_problem(data):
    data.settings["PRETRAINED.DIR"] = str(data.root / "none")
    data.settings["EVAL.CHECKPOINT_DIR"] = str(data.root / "model")  # whose vocabulary would do
    check = data.write().check()
    assert found(check) == {"missing_file": 1} and check.findings.total() == 1
    assert examples(check, "missing_file", "none") == [
        (None, "no such folder (PRETRAINED.DIR); training starts from it")
    ]


def test_damaged_captions_are_all_named(data):
    data.captions["train"][102] = "not JSON"
    data.captions["train"][103] = "[]"
    data.captions["minival"][201] = data.captions["minival"][201][:3]
    data.captions["test"][301][4] = "  "
    data.captions["test"][302][1] = data.captions["test"][302][0]
    data.candidates = {i: json.dumps([[202, n % 5] for n in range(10)]) for i in DEV}
    check = data.write().check()
    counts = found(check)
    assert counts.pop("repeated_candidate") == 2 and counts.pop("no_positive") == 1
    assert counts == {"bad_captions": 2, "few_captions": 1, "blank_caption": 1, "same_captions": 1}
    assert [text for _, text in examples(check, "bad_captions", "train_captions.pt")] == [
        "image 102 has 'not JSON'; expected a list of captions",
        "image 103 has '[]'; expected a list of captions",
    ]
    assert examples(check, "few_captions", "minival_captions.pt") == [(None, "image 201: 3 captions; expected 5")]
    assert "caption 5 is '  '" in examples(check, "blank_caption", "test_captions.pt")[0][1]


def test_missing_and_unreadable_caption_files(data):
    data.write()
    (data.root / "coco_ir" / "train_captions.pt").unlink()
    (data.root / "coco_ir" / "minival_captions.pt").write_bytes(b"<html>403</html>")
    (data.root / "coco_ir" / "test_captions.pt").unlink()
    check = data.check()
    assert "no such file" in examples(check, "missing_file", "train_captions.pt")[0][1]
    assert "HTML page" in examples(check, "bad_captions", "minival_captions.pt")[0][1]
    assert not examples(check, "missing_file", "test_captions.pt"), "training does not need the test split"
    assert examples(data.check(["test"]), "missing_file", "test_captions.pt"), "unless it is asked for"


def test_leaks(data):
    data.captions["minival"][101] = data.captions["train"][101]
    data.captions["test"][303] = [text.upper() for text in data.captions["train"][104]]
    data.features[8] = feature_row(303, regions_of(104))
    data.candidates[101] = json.dumps([[101, n % 5] for n in range(5)] + [[201, n] for n in range(5)])
    check = data.write().check()
    assert found(check) == {"leak_id": 1, "leak_captions": 1, "leak_features": 1}
    assert check.images[101] == "train", "the first of its splits"
    assert examples(check, "leak_id", "minival_captions.pt") == [(None, "image 101 is in train and in minival")]
    assert "image 104 of train and image 303 of test" in examples(check, "leak_captions", "test_captions.pt")[0][1]
    assert "image 104 of train and image 303 of test" in examples(check, "leak_features", "features.tsv")[0][1]


def test_a_split_that_is_part_of_another_evaluation_split_is_no_leak(data):
    data.captions["test"].update(data.captions["minival"])
    assert found(data.write().check()) == {"shared_id": 2}
    del data.captions["test"][201]
    assert found(data.write().check()) == {"leak_id": 1}, "a partial overlap is one"


def test_one_id_for_two_pictures_is_never_fine(data):
    data.captions["test"].update({i: [f"Image {i + 100} caption {n}" for n in range(5)] for i in DEV})
    check = data.write().check()
    assert found(check) == {"two_pictures": 2, "repeated_captions": 20}
    expected = "image 201: 'image 201 caption 0' in minival, 'Image 301 caption 0' in test"
    assert examples(check, "two_pictures", "test_captions.pt")[0] == (None, expected)
    repeated = "'image 301 caption 0' of split 'test' is that of image 301 and 201"
    assert examples(check, "repeated_captions", "test_captions.pt")[0] == (None, repeated)


def test_what_prepared_captions_belong_to(data):
    data.write()
    folder, source = data.root / "coco_ir", data.root / "mine.jsonl"
    lines = [{"image": f"{i}.jpg", "captions": c, "split": "minival"} for i, c in data.captions["minival"].items()]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("minival_captions.pt", "top.pt"):
        (folder / name).unlink()
    prepare(source, folder, DevLists("minival", size=10), command="prepare it")
    (folder / "minival_caption_indexs_top10.pt").rename(folder / "top.pt")
    assert found(data.check()) == {}
    source.write_text(source.read_text().replace("caption 0", "caption zero"))
    check = data.check()
    assert found(check) == {"stale_captions": 1}
    text = "mine.jsonl has changed since minival_captions.pt was made of it; make both again: prepare it --overwrite"
    assert examples(check, "stale_captions", "minival_captions.pt")[0][1].endswith(text)
    other = {i: json.dumps([f"other {i} {n}" for n in range(5)]) for i in DEV}
    (folder / "minival_captions.pt").write_bytes(pickle.dumps(other, 2))
    check = data.check()
    assert found(check) == {"stale_captions": 1, "other_lists": 1}
    assert "chosen for other captions than those of split 'minival'" in examples(check, "other_lists", "top.pt")[0][1]
    (folder / "image_names.json").write_text('{"x": 1}')
    assert found(data.check()).keys() >= {"bad_list"}


def test_lists(data):
    data.candidates[202] = json.dumps([[201, 0]] * 9 + [[202, 5]])
    del data.candidates[201]
    data.settings["EVAL.EVAL_IMG_KEYS_FILE"] = "keys.tsv"
    data.write()
    (data.root / "coco_ir" / "keys.tsv").write_text("301\n303\n999\n")
    check = data.check()
    assert found(check) == {"short_candidates": 1, "unknown_in_list": 2, "repeated_candidate": 1}
    ((_, text),) = examples(check, "short_candidates", "top.pt")
    assert text == "image 201 of split 'minival' has 0 candidates; expected 10"
    assert "candidate [202, 5]" in examples(check, "unknown_in_list", "top.pt")[0][1]
    assert examples(check, "unknown_in_list", "keys.tsv") == [(3, "image 999 has no captions in split 'test'")]
    (data.root / "coco_ir" / "keys.tsv").write_text("301\n301\n")
    (data.root / "coco_ir" / "top.pt").unlink()
    check = data.check()
    assert "image 301 is already on line 1" in examples(check, "bad_list", "keys.tsv")[0][1]
    assert "no such file" in examples(check, "missing_file", "top.pt")[0][1]


# ---- features ----


def changed(image_id, region, column, value):
    regions = regions_of(image_id)
    regions[region, column] = value
    return regions


COLUMNS = Columns(3, num_boxes=1, features=2)  # VinVL's
DAMAGED_FEATURES = {
    "empty_image": [("102\t0\t", "number of boxes is 0")],
    "bad_row": [
        ("102", "1 columns"),
        ("102\t2", "2 columns"),
        ("102\ttwo\tAAAA", "number of boxes is 'two'"),
        (feature_row(102, regions_of(102))[:-1], "broken base64"),
        (feature_row(102, regions_of(102))[:-8] + "!!!!!!!!", "broken base64"),
        (feature_row(102, regions_of(102))[:-4], "expected 16432 (2 boxes x 2054 values x 4 bytes)"),
        (feature_row(102, regions_of(102), num_boxes=3), "expected 24648"),
        (
            feature_row(102, regions_of(102), num_boxes=1),
            "8 bytes each, expected 4 (float32): float64, or another number",
        ),
    ],
    "width": [
        (feature_row(102, regions_of(102)[:, :2048]), "regions have 2048 values: the six box values are missing"),
        (feature_row(102, regions_of(102)[:, :7]), "regions have 7 values; expected 2054"),
    ],
    "not_finite": [
        (feature_row(102, changed(102, 1, 7, np.nan)), "region 2 column 8 is nan, 1 such values"),
        (feature_row(102, changed(102, 0, 2053, -np.inf)), "region 1 column 2054 is -inf"),
    ],
    "zero_region": [(feature_row(102, changed(102, 1, slice(0, 2048), 0)), "region 2 of 2 is all zeros")],
    "box_outside": [
        (feature_row(102, changed(102, 1, 2050, 1.5)), "region 2: x2 is 1.5; expected 0 to 1"),
        (feature_row(102, changed(102, 1, 2049, -0.2)), "region 2: y1 is -0.2; expected 0 to 1"),
        (feature_row(102, changed(102, 0, slice(2048, 2052), [0, 0, 640, 480])), "x2 is 640 (pixels?)"),
    ],
    "box_inverted": [(feature_row(102, changed(102, 1, 2048, 0.9)), "region 2: x1 is 0.9, x2 is 0.5")],
    "box_size": [
        (feature_row(102, changed(102, 1, 2052, 0.5)), "region 2: w is 0.5; x2 - x1 is 0.4"),
        (feature_row(102, changed(102, 1, 2053, 0.1)), "region 2: h is 0.1; y2 - y1 is 0.4"),
    ],
}


@pytest.mark.parametrize(
    "kind, row, text", [(kind, *case) for kind, cases in DAMAGED_FEATURES.items() for case in cases]
)
def test_a_damaged_row_of_features_is_named_with_its_row(data, kind, row, text):
    data.features[1] = row
    check = data.write().check()
    assert check.findings.total() >= 1
    (number, words), *_ = examples(check, kind, "features.tsv")
    assert number == 2 and words.startswith("image 102: ") and text in words
    assert [(name, path) for (name, path) in check.findings.counts if name in DAMAGED_FEATURES and name != kind] == []
    if kind == "bad_row":
        with pytest.raises(DataError) as error:  # the reader judges by the same parser
            RegionFeatures(data.model_dir / "features.tsv")[102]
        assert str(error.value).endswith(words.removeprefix("image 102: "))


def test_very_large_values_and_more_columns_are_fine(data):
    data.features[1] = feature_row(102, changed(102, 0, 5, 3e38))
    data.features = ["\t".join([*line.split("\t")[:2], "more", line.split("\t")[2]]) for line in data.features]
    assert found(data.write().check()) == {}


def test_rows_that_ran_together(data):
    half = data.features[1][: len(data.features[1]) // 2]
    data.features[1:3] = [half + data.features[2]]
    check = data.write().check()
    ((number, words),) = examples(check, "bad_row", "features.tsv")
    assert number == 2 and words.startswith("image 102: 5 columns, the others have 3: two rows run together")


def test_missing_repeated_and_empty_rows(data):
    data.features[5] = feature_row(201, regions_of(201))  # the row of 202 repeats 201
    data.features.insert(2, "")
    data.features.append("\tx\ty")
    check = data.write().check()
    counts = found(check)
    assert counts.pop("id_map") == 1, "the repeated id and the rows without one make the map wrong, too"
    assert counts == {"no_features": 1, "repeated_id": 1, "blank_row": 1, "bad_row": 1}
    assert examples(check, "no_features", "features.tsv") == [(None, "image 202 of split 'minival'")]
    assert examples(check, "repeated_id", "features.tsv") == [(7, "image 201 is also in row 6")]
    assert examples(check, "blank_row", "features.tsv") == [(3, "nothing here")]


def test_blank_lines_at_the_end_are_no_rows(data):
    data.write()
    for name in ("features.tsv", "predictions.tsv"):
        with open(data.model_dir / name, "a") as file:
            file.write("\n\n")
    assert found(data.check()) == {}


def test_a_byte_order_mark_is_no_part_of_the_first_id(data):
    data.write()
    for name in ("features.tsv", "predictions.tsv"):
        path = data.model_dir / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        path.with_suffix(".lineidx").unlink()
    assert found(data.check()) == {"no_lineidx": 2}


def test_index_files_out_of_step(data):
    data.write()
    starts = (data.model_dir / "features.lineidx").read_text().split()
    starts[4] = str(int(starts[4]) + 1)
    (data.model_dir / "features.lineidx").write_text("\n".join(starts))
    (data.model_dir / "predictions.lineidx").write_text("0\n")
    mapping = json.loads((data.model_dir / "imageid2idx.json").read_text())
    mapping["101"], mapping["102"] = mapping["102"], mapping["101"]
    del mapping["103"]
    mapping["999"] = 0
    (data.model_dir / "imageid2idx.json").write_text(json.dumps(mapping))
    check = data.check()
    assert found(check) == {"lineidx": 2, "id_map": 4}
    ((row, text),) = examples(check, "lineidx", "features.lineidx")
    assert row == 5 and f"says that the row starts at byte {starts[4]}, it starts at byte {int(starts[4]) - 1}" in text
    assert "1 rows;" in examples(check, "lineidx", "predictions.lineidx")[0][1]
    texts = [text for _, text in examples(check, "id_map", "imageid2idx.json")]
    assert texts[0] == "image 101 is in row 0, the map says 1 (counted from 0)"
    assert "image 999 is in no row of the file" in texts and any("image 103 of row 2" in text for text in texts)


@pytest.mark.parametrize("content", ["x\ny\n", "1 99999999999999999999999999"])
def test_index_files_that_are_none(data, content):
    data.write()
    (data.model_dir / "features.lineidx").write_text(content)
    (data.model_dir / "imageid2idx.json").write_text("[1, 2")
    assert found(data.check()) == {"lineidx": 1, "id_map": 1}


def test_no_features_at_all(data):
    data.write()
    (data.model_dir / "features.tsv").unlink()
    check = data.check()
    assert found(check) == {"missing_file": 3}, "for each split"
    data.write()
    (data.model_dir / "features.tsv").write_text("")
    (data.model_dir / "predictions.tsv").unlink()
    check = data.check()
    assert found(check) == {"unreadable": 1, "missing_file": 1}
    assert "the file has no rows" in examples(check, "unreadable", "features.tsv")[0][1]


# ---- tags ----

DAMAGED_TAGS = {
    "bad_tags": [
        ("102", "one column"),
        ("102\t{", "malformed JSON"),
        ("102\t3", "expected a list of detections"),
        (tag_row(102, [{"rect": [0, 0, 1, 1]}]), "detection 1: 'class' is 'None'; expected a word"),
        (tag_row(102, ["dog"]), "detection 1: 'class'"),
        (tag_row(102, detections(names=("dog", " "))), "detection 2: 'class' is ' '"),
        (tag_row(102, detections(rects=[[0, 0, 1, 1], [0, 0, 1]])), "detection 2: 'rect' is [0, 0, 1]"),
        (tag_row(102, detections(rects=[[0, 0, 1, 10**400]])), "expected four numbers"),
        (tag_row(102, detections(rects=[[0, 0, 0.5, 1], [0.1, 0.2, 0.3, 0.4]])), "between 0 and 1: fractions?"),
        (tag_row(102) + tag_row(103), "102: 3 columns, the others have 2: two rows run together"),
        (tag_row(102, image_h=0), "image_h is 0, image_w is 640"),
        (tag_row(102, image_w="640"), "image_w is '640'"),
    ],
    "no_tags": [(tag_row(102, []), "no detections")],
    "rect_outside": [(tag_row(102, detections([RECTS[0], [9, 9, 700, 99]])), "detection 2: rect is [9, 9, 700")],
    "rect_inverted": [(tag_row(102, detections([RECTS[0], [9, 9, 5, 99]])), "detection 2: rect is [9, 9, 5")],
}


@pytest.mark.parametrize("kind, row, text", [(kind, *case) for kind, cases in DAMAGED_TAGS.items() for case in cases])
def test_a_damaged_row_of_tags_is_named_with_its_row(data, kind, row, text):
    data.tags[1] = row
    check = data.write().check()
    assert found(check).pop(kind) == 1 and check.findings.total() == 1
    ((number, words),) = examples(check, kind, "predictions.tsv")
    assert number == 2 and words.startswith("image 102: ") and text in words
    if row in ("102", "102\t{", "102\t3"):
        with pytest.raises(DataError, match=text):
            ObjectTags(data.model_dir / "predictions.tsv")[102]
    if kind.startswith("rect_"):
        assert list(check.marked) == [102], "it is drawn on the page, the wrong box first"
        assert check.marked[102][0][0] == ("red ball", json.loads(row.split("\t")[1])["objects"][1]["rect"])


def test_the_first_images_with_wrong_boxes_are_drawn_whatever_range_they_are_in(data, monkeypatch):
    data.tags = [tag_row(i, detections([RECTS[0], [9, 9, 5, 99]])) for i in EVERYTHING]
    data.write()
    for range_bytes in (1 << 20, 100):
        monkeypatch.setattr(check_scan, "RANGE_BYTES", range_bytes)
        check = data.check()
        assert list(check.marked) == list(EVERYTHING[:6]) and check.drawings == {}
        assert check.classes == {"dog": 9, "red ball": 9}


def test_what_is_odd_about_tags_but_breaks_nothing(data):
    data.tags[0] = f"101\t{json.dumps(detections())}"
    data.tags[2] = tag_row(103, detections()[::-1])
    check = data.write().check()
    assert found(check) == {"no_size": 1, "order": 1, "boxes_differ": 1}
    assert check.findings.total() == 0
    assert check.agreement == (7, 8)


def test_missing_rows_of_tags(data):
    del data.tags[3]
    check = data.write().check()
    assert found(check) == {"no_tag_row": 1}
    assert examples(check, "no_tag_row", "predictions.tsv") == [(None, "image 104 of split 'train'")]
    (data.model_dir / "predictions.tsv").unlink()
    assert found(data.check()) == {"missing_file": 1}
    data.settings["INPUT.ADD_OD_LABEL"] = False
    assert found(data.check()) == {}, "without tags nothing needs the file"


def test_everything_wrong_at_once_is_all_found(data):
    """One damaged row must not hide another, in the same file or elsewhere."""
    data.features = [rows[0][0].replace("102", str(i), 1) for i, rows in zip(EVERYTHING, [*DAMAGED_FEATURES.values()])]  # noqa: B905
    data.tags = [rows[0][0].replace("102", str(i), 1) for i, rows in zip(EVERYTHING, DAMAGED_TAGS.values())]  # noqa: B905
    counts = found(data.write().check())
    assert {kind: counts[kind] for kind in DAMAGED_FEATURES} == dict.fromkeys(DAMAGED_FEATURES, 1)
    assert {kind: counts[kind] for kind in DAMAGED_TAGS} == dict.fromkeys(DAMAGED_TAGS, 1)
    assert counts["no_features"] == len(EVERYTHING) - len(DAMAGED_FEATURES)
    assert counts["no_tag_row"] == len(EVERYTHING) - len(DAMAGED_TAGS)


# ---- which rows ----


def test_only_the_asked_split_is_looked_into(data):
    data.features[1] = "102\tdamaged"
    check = data.write().check(["test"])
    assert found(check) == {} and check.regions.keys() == set(TEST) and check.other_rows == 6


def test_a_quick_look_reads_the_chosen_rows_only(data):
    data.write()
    check = data.check(max_images=4, seed=3)
    assert len(check.chosen) == 4 and check.regions.keys() == check.chosen == check.tags.keys()
    assert found(check) == {}
    victim = min(check.chosen)
    index = EVERYTHING.index(victim)
    data.features[index] = feature_row(victim, changed(victim, 0, 0, np.nan))
    assert examples(data.write().check(max_images=4, seed=3), "not_finite", "features.tsv")[0][0] == index + 1
    (data.model_dir / "imageid2idx.json").unlink()  # then the rows are found by reading the file
    assert examples(data.check(max_images=4, seed=3), "not_finite", "features.tsv")[0][0] == index + 1


def test_a_quick_look_does_not_believe_a_wrong_index(data):
    data.write()
    mapping = json.loads((data.model_dir / "imageid2idx.json").read_text())
    wrong = {name: (row + 1) % len(mapping) for name, row in mapping.items()}
    (data.model_dir / "imageid2idx.json").write_text(json.dumps(wrong))
    assert found(data.check(max_images=4)) == {"id_map": 4}
    (data.model_dir / "imageid2idx.json").write_text(json.dumps(mapping))
    starts = (data.model_dir / "features.lineidx").read_text().split()
    (data.model_dir / "features.lineidx").write_text("\n".join(["0", *(str(int(start) + 5) for start in starts[1:])]))
    assert found(data.check(max_images=8))["lineidx"] >= 7


def test_ranges_and_processes_give_what_one_reading_gives(data, monkeypatch):
    data.features[6] = "\n\nx\ty\tz"
    data.write()
    path = data.model_dir / "features.tsv"
    whole = scan_file(path, FeatureChecker(2054, COLUMNS))
    monkeypatch.setattr(check_scan, "RANGE_BYTES", 5000)
    monkeypatch.setattr(check_scan, "_PARALLEL_FROM", 1)
    for processes in (1, 2):
        parts = scan_file(path, FeatureChecker(2054, COLUMNS), processes)
        assert parts.starts == whole.starts and parts.keys == whole.keys
        assert parts.findings.examples == whole.findings.examples and parts.findings.counts == whole.findings.counts
        assert parts.figures == whole.figures
    for cut in range(0, path.stat().st_size, 997):
        first, second = (scan_range(path, FeatureChecker(2054, COLUMNS), ends) for ends in ((0, cut), (cut, 1 << 30)))
        assert first.keys + second.keys == whole.keys


def test_a_killed_process_is_an_error():
    with pytest.raises(DataError, match="^f: a checking process was killed"):
        list(check_scan._in_processes("f", os._exit, [3, 3], processes=2, bundle=1))


def test_a_file_without_line_ends_takes_little_memory(data, monkeypatch):
    monkeypatch.setattr(check_scan, "LONGEST_ROW", 10_000)
    data.write()
    path = data.model_dir / "features.tsv"
    endless = path.read_bytes()[:30_000].replace(b"\n", b" ")
    path.write_bytes(endless + b"\n" + feature_row(9, regions_of(9)[:, :9]).encode())
    scan = scan_file(path, FeatureChecker(9, COLUMNS))
    assert scan.keys == ["", 9] and scan.findings.counts == {("bad_row", str(path)): 1}


# ---- other layouts ----


def v1_layout(data):
    """Oscar v1: a dictionary of arrays and one of tag strings for each split."""
    data.write()
    for path in data.model_dir.iterdir():
        path.unlink()
    for split, captions in data.captions.items():
        folder = data.root / "coco_ir"
        arrays = {image_id: regions_of(image_id) for image_id in captions}
        labels = {image_id: "dog red ball" for image_id in captions}
        (folder / f"{split}_img_frcnn_feats.pt").write_bytes(pickle.dumps(arrays))
        (folder / f"{split}_vg_labels.pt").write_bytes(pickle.dumps(labels))
    return folder


def test_oscar_v1(data):
    folder = v1_layout(data)
    check = data.check()
    assert found(check) == {} and check.regions == dict.fromkeys(EVERYTHING, 2)
    assert check.tags == dict.fromkeys(EVERYTHING, "dog red ball")
    arrays = {101: regions_of(101), 102: changed(102, 1, 3, np.nan), 103: regions_of(103)[:, :2048], 999: regions_of(9)}
    arrays[101][1, 2050] = 7
    (folder / "train_img_frcnn_feats.pt").write_bytes(pickle.dumps(arrays))
    (folder / "train_vg_labels.pt").write_bytes(pickle.dumps({101: "", 102: 3, 103: [{"class": "cat"}]}))
    check = data.check()
    assert found(check) == {
        "not_finite": 1,
        "width": 1,
        "box_outside": 1,
        "no_features": 1,
        "no_captions": 1,
        "no_tags": 1,
        "bad_tags": 1,
        "no_tag_row": 1,
    }
    ((_, text),) = examples(check, "box_outside", "train_img_frcnn_feats.pt")
    assert text == "image 101: region 2: x2 is 7 (pixels?); expected 0 to 1"
    assert "image 104 of split 'train'" in examples(check, "no_features", "train_img_frcnn_feats.pt")[0][1]
    assert "image 999" in examples(check, "no_captions", "train_img_frcnn_feats.pt")[0][1]
    (folder / "train_vg_labels.pt").unlink()
    (folder / "test_img_frcnn_feats.pt").write_bytes(b"PK")
    assert {"missing_file": 1, "unreadable": 1}.items() <= found(data.check()).items()


def test_ones_own_images(data):
    """A JSONL file and one .npz for each picture, called by its name."""
    folder = data.root / "own"
    (folder / "features").mkdir(parents=True)
    lines = []
    for split, captions in data.captions.items():
        for image_id, texts in captions.items():
            name = f"picture {image_id}"
            lines.append(json.dumps({"image": f"{name}.jpg", "id": image_id, "captions": texts, "split": split}))
            arrays = {"features": regions_of(image_id)[:, :2048], "boxes": np.array(RECTS, np.float32)}
            if image_id == 302:
                arrays["boxes"] = arrays["boxes"] * 3
            np.savez(
                folder / "features" / f"{name}.npz", **arrays, image_w=WIDTH, image_h=HEIGHT, tags=["dog", "red ball"]
            )
    (folder / "captions.jsonl").write_text("\n".join(lines))
    data.settings.update({"DATASET.DATA_DIR": str(folder), "EVAL.EVAL_CAPTION_INDEX_FILE": ""})
    check = data.check()
    assert found(check) == {"bad_row": 1}
    assert "picture 302.npz" in examples(check, "bad_row", "features")[0][1]
    assert check.tags == dict.fromkeys(EVERYTHING, "dog red ball") and len(check.regions) == 8
    assert check.classes == {"dog": 9, "red ball": 9} and check.tag_counts == [2] * 9  # tags, not words
    np.savez(folder / "features" / "picture 302.npz", features=regions_of(302)[:0], tags=[])
    assert found(data.check()) == {"empty_image": 1, "no_tags": 1}
    data.settings["DATASET.EMPTY_IMAGES"] = "skip"
    assert found(data.check()) == {"skipped_image": 1, "no_tags": 1}
    (folder / "captions.jsonl").write_text("\n".join(lines).replace("picture 303.jpg", "more/picture 301.png"))
    check = data.check()
    assert found(check)["shared_features"] == 3  # splits
    ((_, text), *_) = examples(check, "shared_features", "features")
    assert "picture 301.jpg (image 301) and more/picture 301.png (image 303) both read" in text
    assert "(captions.jsonl line 7; " in text and "captions.jsonl line 9)" in text


def test_rows_with_the_names_of_pictures(data):
    """features.tsv and predictions.tsv as VinVL's extractor writes them; ids are numbers of the captions file."""
    names = {i: f"COCO_{i}" for i in EVERYTHING}
    for rows in (data.features, data.tags):
        rows[:] = [f"{names[int(row.split(chr(9))[0])]}\t{row.split(chr(9), 1)[1]}" for row in rows]
    data.write()
    (data.root / "coco_ir" / "image_names.json").write_text(json.dumps({i: f"a/{n}.jpg" for i, n in names.items()}))
    for options in ({}, {"max_images": 4}):
        check = data.check(**options)
        assert found(check) == {} and set(check.regions) <= set(EVERYTHING) and len(check.regions) in (4, 9)
        assert check.tags.keys() == check.regions.keys() and check.agreement[0] == len(check.regions)
    data.features[2] = feature_row("COCO_103", [], 0)
    check = data.write().check()
    assert found(check) == {"empty_image": 1}
    assert examples(check, "empty_image", "features.tsv") == [
        (3, "image 103: number of boxes is 0; expected at least 1")
    ]


def test_a_packed_store_beside_the_features(data):
    data.write()
    source = RegionFeatures(data.model_dir / "features.tsv")
    store = data.model_dir / "features.packed"
    pack(source, store)
    check = data.check()
    assert found(check) == {} and check.stores == [str(store)]
    content = bytearray(store.read_bytes())
    content[16 + 2054 * 4 * 5 + 40] ^= 1  # a bit of the sixth region: the third image's
    store.write_bytes(content)
    check = data.check()
    assert found(check) == {"packed_damaged": 1}
    assert "image 103" in examples(check, "packed_damaged", "features.packed")[0][1]
    data.features[0] = feature_row(101, regions_of(1)[:1])
    check = data.write().check()
    assert found(check) == {"packed_stale": 1} and check.stores == []


# ---- text, pictures ----


class FirstLetters:
    """A tokenizer that gives one id a letter; x is unknown."""

    unk_id = 0

    def encode(self, text):
        return [0 if letter == "x" else 1 for letter in text if letter != " "]


def test_word_pieces():
    findings = Findings()
    captions = measure({1: ["aab xx", "b"], 2: ["a" * 12, "b xx c"]}, FirstLetters(), "captions", "f", findings)
    assert (captions.pieces, captions.unknown) == (5 + 1 + 12 + 4, 4)
    assert captions.most_unknown() == [("xx", 2)]
    tags = measure({1: ["bbb"], 2: [""]}, FirstLetters(), "tags", "f", findings)
    rows = RowLengths(captions.lengths, tags.lengths, max_seq_len=10)
    assert rows.rows.tolist() == [5 + 2 + 4, 1 + 2 + 4, 12 + 2, 4 + 2]
    assert rows.captions_cut == 1 and rows.cut == [(2, 0, 12)]
    assert rows.tags_cut == 1 and (rows.tag_pieces, rows.tag_pieces_kept) == (6, 5)


def test_unknown_words_and_cuts_are_reported(data, monkeypatch):
    monkeypatch.setattr(text_checks, "build_tokenizer", lambda source, lower: FirstLetters())
    data.settings.update({"PRETRAINED.DIR": "", "INPUT.MAX_SEQ_LEN": 20, "INPUT.MAX_REGION": 1})
    data.captions["train"][101][0] = "x" * 25
    check = data.write().check()
    share = check.captions.unknown / check.captions.pieces
    assert check.captions.unknown == 25 and 0 < share < 0.05
    assert found(check) == {"caption_cut": 1, "tags_cut": 45, "regions_cut": 9} and check.findings.total() == 0
    check = data.check(["train"], max_images=2)
    assert len(check.rows.rows) == 10, "the captions of the images whose tags were looked into"
    ((_, text),) = examples(data.check(), "caption_cut", "train_captions.pt")
    assert text == "image 101 caption 1: 25 word pieces; 18 fit"
    data.captions["train"][102] = ["x" * 30] * 5
    check = data.write().check()
    assert found(check).pop("unknown_pieces") == 1 and check.findings.total() == 1
    assert f"as in '{'x' * 30}' (5)" in examples(check, "unknown_pieces", "train_captions.pt")[0][1]


def test_pictures_of_another_size(data):
    data.write()
    folder = data.root / "images"
    folder.mkdir()
    for image_id, size in ((301, (640, 480)), (302, (480, 640))):
        Image.new("RGB", size).save(folder / f"{image_id}.png")
    (folder / "303.png").write_bytes(b"no picture")
    check = data.check(picture_files={path.stem: path for path in folder.iterdir()}, shown=2)
    assert found(check) == {"picture_size": 1, "unreadable": 1, "no_picture": 6}
    assert "image 302: 480 x 640 pixels" in examples(check, "picture_size", "images")[0][1]
    assert set(check.drawings) <= set(TEST) and len(check.drawings) == 2, "images with a picture are shown first"


# ---- findings ----


def test_findings_stay_small_and_count_everything():
    findings = Findings()
    for row in range(10_000):
        findings.add("bad_row", "f", DataError("f: " + "text\n\x00" * 1000), row)
    other = Findings()
    other.add("bad_row", "f", "second", 3)
    other.merge(findings, rows_before=50)
    assert other.total() == 10_001
    kept = other.examples["bad_row", "f"]
    assert len(kept) == KEPT_EXAMPLES and kept[1].row == 50 and kept[0].text == "second"
    assert len(kept[1].text) <= 300 and kept[1].text.isprintable()
    assert kept[1].text.startswith("text "), "the file's name stands above the examples"
    ((kind, total, files),) = other.groups(True)
    assert (kind, total, files) == (PROBLEMS["bad_row"], 10_001, [("f", 10_001 - KEPT_EXAMPLES, kept)])
    other.add("tags_cut", "f", "7 rows", count=7)
    assert other.groups(False) == [(NOTICES["tags_cut"], 7, [("f", 0, [(None, "7 rows", 7)])])], "one text sums them up"


def test_speed(data):
    """A row costs about its base64 decoding, so that COCO's 50 GB take minutes, not hours."""
    row = feature_row(1, np.repeat(regions_of(1), 18, axis=0)) + "\n"
    data.write()
    path = data.model_dir / "features.tsv"
    path.write_text(row * 100)
    start = time.process_time()
    scan_file(path, FeatureChecker(2054, COLUMNS))
    assert path.stat().st_size / 1e6 / (time.process_time() - start) > 30, "MB/s of this process's CPU time"
