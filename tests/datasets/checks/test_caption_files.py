"""The check of captioning's data: the golden set passes, every kind of damage is found, named and located."""

import json
import shutil
from pathlib import Path

import pytest
from checked import found

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.datasets.checks.caption_files import check_caption_data
from oscar_paddle.tools.pages.dataset import figures, histograms

GOLDEN = Path(__file__).parents[2] / "golden" / "captioning"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN / "coco_caption", tmp_path / "coco_caption")
    return tmp_path / "coco_caption"


def check(folder, names=("train.yaml",), **changes):
    cfg = get_cfg_defaults()
    cfg.DATASET.DATA_DIR, cfg.DATASET.TRAIN, cfg.DATASET.TEST = str(folder), "train.yaml", "cbs.yaml"
    cfg.PRETRAINED.DIR = str(GOLDEN / "checkpoint")
    cfg.INPUT.IMG_FEATURE_DIM = json.loads((GOLDEN / "checkpoint" / "config.json").read_text())["img_feature_dim"]
    for key, value in changes.items():
        section, _, name = key.partition("__")
        cfg[section][name] = value
    cfg.freeze()
    return check_caption_data(cfg, list(names))


def test_the_golden_set(folder):
    result = check(folder)
    assert len(result.images) == 8 and len(result.features) == 8 and sum(map(len, result.splits[0].captions.values()))
    kinds = found(result)
    assert kinds.pop("no_tags") == 1  # image 3 has none, and is written about all the same
    assert kinds["caption_cut"] == 1 and kinds["tags_cut"] >= 1  # by the slot of 40 and what is left behind it
    assert not {"missing_file", "other_rows", "bad_row", "constraints", "bad_captions"} & set(kinds)
    text = next(group[0] for (kind, _), group in result.findings.examples.items() if kind == "caption_cut").text
    assert "38 fit" in text


def test_the_page_names_the_setting_that_cuts_captions(folder):
    cfg = get_cfg_defaults()
    cfg.INPUT.MAX_SEQ_LEN, cfg.CAPTION.MAX_SEQ_A_LEN = 60, 30
    result = check(folder, INPUT__MAX_SEQ_LEN=60, CAPTION__MAX_SEQ_A_LEN=30)
    words = dict(figures(result, cfg))["Words"]
    assert any(row[0] == "captions cut by MAX_SEQ_A_LEN 30" for row in words), words
    (chart,) = [chart for chart in histograms(result, cfg) if chart.title == "Word pieces of a caption"]
    assert "MAX_SEQ_A_LEN - 2" in chart.svg and "captions lose words" in chart.words


def test_constraints_are_tried(folder):
    assert "constraints" not in found(check(folder, ["cbs.yaml"], CAPTION__USE_CBS=True))
    table = folder / "cbs" / "constraint2tokens.tsv"
    table.write_text("\n".join(table.read_text().splitlines()[:1]) + "\n")
    result = check(folder, ["cbs.yaml"], CAPTION__USE_CBS=True)
    assert found(result)["constraints"] >= 1
    (folder / "cbs" / "hierarchy.json").unlink()
    assert found(check(folder, ["cbs.yaml"], CAPTION__USE_CBS=True))["missing_file"] == 1


@pytest.mark.parametrize(
    ("name", "change", "kind", "words"),
    [
        ("coco.label.tsv", lambda t: "7\t[]\n" + t.split("\n", 1)[1], "other_rows", "image 7; that row of "),
        ("coco.label.tsv", lambda t: t.split("\n", 1)[1], "other_rows", "7 rows; "),
        ("coco.feature.tsv", lambda t: t + t.split("\n")[0] + "\n", "repeated_id", "is also in row 1"),
        ("coco.feature.tsv", lambda t: t.replace('"num_boxes"', '"boxes"', 1), "bad_row", "expected {"),
        ("train_caption.json", lambda t: t.replace('"caption"', '"text"', 1), "bad_captions", "entry 1"),
        ("train_caption.json", lambda t: t[:-9], "unreadable", "JSON"),
        ("train_caption.json", lambda t: t.replace('"550744"', '"99"', 1), "no_features", "image 99"),
        ("train.yaml", lambda t: t.replace("coco.feature", "gone"), "missing_file", "no such file"),
        ("train.yaml", lambda t: t.replace("label:", "hw:"), "missing_file", "names no 'label' file"),
        ("train.yaml", lambda t: "- a", "unreadable", "holds a list"),
    ],
)
def test_damage_is_found(folder, name, change, kind, words):
    path = folder / name
    path.write_text(change(path.read_text()))
    path.with_suffix(".lineidx").unlink(missing_ok=True)
    result = check(folder)
    assert found(result).get(kind), found(result)
    texts = [example.text for (k, _), group in result.findings.examples.items() if k == kind for example in group]
    assert any(words in text for text in texts), texts


def test_captions_to_train_on_are_those_of_the_file_itself(folder):
    """The file in COCO's form beside it is enough for an evaluation."""
    (folder / "train_caption.json").unlink()
    assert found(check(folder))["missing_file"] == 1
    assert "missing_file" not in found(check(folder, ["test.yaml"]))


def test_images_without_references(folder):
    path = folder / "train_caption_coco_format.json"
    content = json.loads(path.read_text())
    gone = content["annotations"][0]["image_id"]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != gone]
    path.write_text(json.dumps(content))
    assert found(check(folder, ["test.yaml"]))["no_references"] == 1
    assert "no_references" not in found(check(folder, ["cbs.yaml"]))  # it names no captions at all
