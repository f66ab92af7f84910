"""From photographs to files that the tasks read: layouts, going on after a stop, damaged pictures."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import DataError, UserError
from oscar_paddle.datasets.pictures import Pictures
from oscar_paddle.datasets.regions.detections import LAYOUTS
from oscar_paddle.datasets.regions.label_map import LabelMap, find_label_map
from oscar_paddle.datasets.regions.layouts import open_regions, open_source
from oscar_paddle.solvers import detection
from oscar_paddle.solvers.detection import extract
from oscar_paddle.solvers.ranks import Ranks

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "region_features"
SETTINGS = {
    "WEIGHTS": str(GOLDEN / "checkpoint" / "model_final.pth"),
    "LABEL_MAP": str(GOLDEN / "data" / "labelmap.json"),
    "SHORT_SIDE": 96,
    "LONG_SIDE": 160,
    "PROPOSALS": 45,
    "PROPOSALS_BEFORE": 300,
    "MIN_BOXES": 6,
    "MAX_BOXES": 18,
}
IMAGES = GOLDEN / "data" / "tiny.img.tsv"


def settings(**changes):
    cfg = get_cfg_defaults()
    for key, value in {**SETTINGS, **changes}.items():
        cfg.DETECTOR[key] = value
    return cfg


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extracted")
    extract(settings(), Pictures(IMAGES), folder, layouts=LAYOUTS, ranks=Ranks(), name="tiny")
    return folder


def test_every_layout_reads_back_as_the_reference_gives_it(extracted):
    arrays = np.load(GOLDEN / "expected_arrays.npz")
    images = json.loads((GOLDEN / "expected.json").read_text())["images"]
    for number, facts in images.items():
        wanted = arrays[f"image{number}_row"]
        names = ("features.packed", "features.tsv", "features", "tiny.feature.tsv", "tiny.tsv")
        places = [extracted / name for name in names]
        sources = [open_regions("", "", str(places[0]), feature_dim=134)]
        sources += [open_source(place, feature_dim=134) for place in places[1:]]
        for source in sources:
            np.testing.assert_allclose(source[int(facts["key"])], wanted, atol=1e-3, rtol=1e-3)
        labels = LabelMap(SETTINGS["LABEL_MAP"]).classes
        tags = [labels[label] for label in arrays[f"image{number}_detection_labels"]]
        row = next(
            line for line in (extracted / "tiny.label.tsv").read_text().splitlines() if line.startswith(facts["key"])
        )
        assert [item["class"] for item in json.loads(row.split("\t")[1])] == tags


def test_the_reference_tool_writes_the_same_objects(extracted):
    """rect, class and conf of expected_tool/batch1.tsv, written by the official program."""
    found = dict(line.split("\t") for line in (extracted / "predictions.tsv").read_text().splitlines())
    for line in (GOLDEN / "expected_tool" / "batch1.tsv").read_text().splitlines():
        key, text = line.split("\t")
        theirs, ours = json.loads(text)["objects"], json.loads(found[key])["objects"]
        assert [item["class"] for item in ours] == [item["class"] for item in theirs]
        np.testing.assert_allclose([i["rect"] for i in ours], [i["rect"] for i in theirs], atol=0.05)
        np.testing.assert_allclose([i["conf"] for i in ours], [i["conf"] for i in theirs], atol=1e-3)
    facts = json.loads(found["31999"])
    assert (facts["image_w"], facts["image_h"]) == (160, 120)


def test_an_extraction_goes_on_and_leaves_the_same_bytes(extracted, tmp_path, monkeypatch):
    """Killed for good after every block, of one picture here."""
    monkeypatch.setattr(detection, "BLOCK", 1)
    folder, words = tmp_path / "o", "import oscar_paddle.solvers.detection as d; d.BLOCK = 1; real = d.write_block\n"
    words += (
        "import os, signal\ndef write(*a):\n real(*a)\n os.kill(os.getpid(), signal.SIGKILL)\nd.write_block = write\n"
    )
    words += "import sys; sys.path.insert(0, 'tests/solvers'); import test_detection as t\n"
    words += f"folder = t.Path({str(folder)!r})\n"
    words += "d.extract(t.settings(), t.Pictures(t.IMAGES), folder, layouts=t.LAYOUTS, ranks=t.Ranks(), name='tiny')"
    for blocks in (1, 2):
        done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr[-500:]
        assert len(list((folder / ".blocks").glob("0*.tsv"))) == blocks
    looked = []
    monkeypatch.setattr(detection, "_look", lambda *a, real=detection._look: looked.append(a[2]) or real(*a))
    extract(settings(), Pictures(IMAGES), folder, layouts=LAYOUTS, ranks=Ranks(), name="tiny")
    assert looked == [2]
    mine, theirs = ({n: b for n, b in contents(f).items() if ".blocks" not in n} for f in (folder, extracted))
    mine.pop("features.packed"), theirs.pop("features.packed")  # remembers when its source was written
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


def test_other_settings_are_another_extraction(extracted, tmp_path):
    shutil.copytree(extracted, tmp_path / "o")
    with pytest.raises(DataError, match="begun with other detector; choose another"):
        extract(settings(FILTER=2), Pictures(IMAGES), tmp_path / "o", layouts=["vinvl"], ranks=Ranks())


def test_what_cannot_look_leaves_nothing(tmp_path):
    for weights, said in ("", "WEIGHTS is not set; .*--what detector"), (str(tmp_path / "gone.pth"), "gone.pth"):
        with pytest.raises(UserError, match=said):
            extract(settings(WEIGHTS=weights), Pictures(IMAGES), tmp_path / "o", layouts=["vinvl"], ranks=Ranks())
        assert not (tmp_path / "o").exists()


def test_damaged_pictures_stop_or_are_named(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(photos / "good.png")
    (photos / "bad.jpg").write_bytes(b"no picture")
    options = {"layouts": ["npz"], "ranks": Ranks()}
    with pytest.raises(DataError, match=r"bad\.jpg: not a picture"):
        extract(settings(), Pictures(photos), tmp_path / "a", **options)
    extract(settings(), Pictures(photos), tmp_path / "b", skip_damaged=True, **options)
    assert [path.name for path in (tmp_path / "b" / "features").iterdir()] == ["good.npz"]
    assert "bad.jpg: not a picture" in json.loads((tmp_path / "b" / "skipped.jsonl").read_text())["why"]
    os.remove(photos / "good.png")
    with pytest.raises(DataError, match="no picture could be read"):
        extract(settings(), Pictures(photos), tmp_path / "c", skip_damaged=True, **options)


def test_label_maps(tmp_path):
    assert LabelMap(SETTINGS["LABEL_MAP"]).classes[0] == "__background__"
    (tmp_path / "objects_vocab.txt").write_text("yolk\ndog,puppy\n")
    (tmp_path / "attributes_vocab.txt").write_text("red\n")
    names = LabelMap(find_label_map(tmp_path / "w.pth"))
    assert names.classes == ["__background__", "yolk", "dog"] and names.attributes == ["__no_attribute__", "red"]
    with pytest.raises(DataError, match="names 2 classes, but w.pth tells 5 apart"):
        names.check(6, 0, "w.pth")
    (tmp_path / "l.json").write_text('{"label_to_idx": {"a": 1, "b": 3}}')
    with pytest.raises(DataError, match="label_to_idx does not number 2 names from 1 on"):
        LabelMap(tmp_path / "l.json")
    for content in '{"label_to_idx": ["a"]}', '{"label_to_idx": {"a": [1]}}', '{"idx_to_label": {"one": "a"}}':
        (tmp_path / "l.json").write_text(content)
        with pytest.raises(DataError, match="l.json: label_to_idx or idx_to_label: expected an object"):
            LabelMap(tmp_path / "l.json")
    with pytest.raises(DataError, match="found 2 of them; set DETECTOR.LABEL_MAP"):
        find_label_map(tmp_path / "w.pth")
