"""The rows of features.tsv and predictions.tsv: every kind of damage is found, and the asked rows are read."""

import json
import os
import time

import numpy as np
import pytest
from checked import EVERYTHING, RECTS, TEST, changed, detections, examples, feature_row, found, regions_of, tag_row

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks import scan as check_scan
from oscar_paddle.datasets.checks.rows import FeatureChecker
from oscar_paddle.datasets.checks.scan import scan_file, scan_range
from oscar_paddle.datasets.regions.rows import Columns
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures

# ---- features ----


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


def test_speed(data):
    """A row costs about its base64 decoding, so that COCO's 50 GB take minutes, not hours."""
    row = feature_row(1, np.repeat(regions_of(1), 18, axis=0)) + "\n"
    data.write()
    path = data.model_dir / "features.tsv"
    path.write_text(row * 100)
    start = time.process_time()
    scan_file(path, FeatureChecker(2054, COLUMNS))
    assert path.stat().st_size / 1e6 / (time.process_time() - start) > 30, "MB/s of this process's CPU time"
