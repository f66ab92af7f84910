"""The data set check: a clean data set passes, and every kind of damage is found, named, located and counted."""

import json
import pickle

import numpy as np
import pytest
from checked import DEV, EVERYTHING, HEIGHT, RECTS, TEST, WIDTH, changed, examples, feature_row, found, regions_of
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.captions.prepare import DevLists, prepare
from oscar_paddle.datasets.checks import text as text_checks
from oscar_paddle.datasets.checks.dataset import check_dataset
from oscar_paddle.datasets.checks.findings import KEPT_EXAMPLES, NOTICES, PROBLEMS, Findings
from oscar_paddle.datasets.checks.text import RowLengths, measure
from oscar_paddle.datasets.regions.packing import pack
from oscar_paddle.datasets.regions.vinvl import RegionFeatures
from oscar_paddle.datasets.tensorize import TextBuilder

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
    rows = RowLengths(captions.lengths, tags.lengths, TextBuilder(0, 0, 10))
    assert rows.rows.tolist() == [5 + 2 + 4, 1 + 2 + 4, 12 + 2, 4 + 2]
    assert rows.captions_cut == 1 and rows.cut == [(2, 0, 12, 8)]
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
