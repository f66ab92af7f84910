"""The written data set: the published layout, byte for byte the same, complete or not there."""

import hashlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.published import read_caption_index, read_captions, read_image_keys
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures
from oscar_paddle.datasets.scenes import build as scenes_module
from oscar_paddle.datasets.scenes.build import candidate_lists, read_truth, write_scenes
from oscar_paddle.datasets.scenes.captions import vocabulary
from oscar_paddle.datasets.scenes.drawing import draw_scene
from oscar_paddle.datasets.scenes.model import init_config
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.world import object_set

FILES = {  # sha256, first 16 digits
    "coco_ir/minival_caption_indexs_top20.pt": "2a8af8e1b274b666",
    "coco_ir/minival_captions.pt": "8993b13ec072db28",
    "coco_ir/minival_img_keys.tsv": "c241c58a019fb644",
    "coco_ir/test_captions.pt": "76fca66b5291e5fb",
    "coco_ir/test_img_keys.tsv": "c5e0636f5d9e986a",
    "coco_ir/train_captions.pt": "6938114a5c2cdf11",
    "coco_ir/train_img_keys.tsv": "cc5e00902ed9e5ee",
    "init/config.json": "3a2dae9752dd104d",
    "init/vocab.txt": "90a10ad62d053e04",
    "model_0060000/features.lineidx": "0559219dfcd8af53",
    "model_0060000/features.tsv": "b181d51aaefb5df4",
    "model_0060000/imageid2idx.json": "b99999fb860da100",
    "model_0060000/predictions.lineidx": "1865f994de92ac31",
    "model_0060000/predictions.tsv": "2b679388c65d54fd",
    "scenes.json": "f37895c452550058",
    "scenes_truth.jsonl": "4989a1914f112a1d",
}

SIZES = {"train": 40, "minival": 8, "test": 10}
SETTINGS = {"num_train": 40, "num_dev": 8, "num_test": 10, "seed": 1}


def digests(root):
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes") / "data", **SETTINGS, workers=0)


def test_the_bytes_never_change(root):
    assert {name: value[:16] for name, value in digests(root).items() if "images" not in name} == FILES


def test_processes_do_not_change_the_bytes(root, tmp_path):
    again = write_scenes(tmp_path / "again", num_train=62, num_dev=4, num_test=3, seed=1, workers=2)
    assert (again / "images" / "3000002.png").read_bytes() == (root / "images" / "3000002.png").read_bytes()
    first, second = read_captions(root / "coco_ir", "train"), read_captions(again / "coco_ir", "train")
    assert {key: second[key] for key in first} == first  # a larger split begins with the smaller one
    here, there = (RegionFeatures(r / "model_0060000" / "features.tsv") for r in (root, again))
    assert (here[1000039] == there[1000039]).all()
    assert read_truth(root)["test"][:3] == read_truth(again)["test"]


def test_every_file_agrees_with_the_facts(root):
    features = RegionFeatures(root / "model_0060000" / "features.tsv")
    tags = ObjectTags(root / "model_0060000" / "predictions.tsv")
    assert len(features.ids) == 58
    for split, size in SIZES.items():
        records, captions = read_truth(root)[split], read_captions(root / "coco_ir", split)
        assert len(records) == size
        assert read_image_keys(root / "coco_ir" / f"{split}_img_keys.tsv") == list(captions)
        for record in records:
            scene = record["scene"]
            assert captions[scene.image_id] == [caption["text"] for caption in record["captions"]]
            assert tags[scene.image_id] == " ".join(region["tag"] for region in record["regions"])
            rows = features[scene.image_id]
            boxes = np.array([region["box"] for region in record["regions"]]) / [192, 144, 192, 144]
            np.testing.assert_allclose(rows[:, 2048:2052], boxes, atol=1e-6)
            assert rows.shape[1] == 2054


def test_line_offsets_and_row_numbers(tmp_path):
    # A folder of its own: the project's reader mends a wrong .lineidx at first use.
    folder = write_scenes(tmp_path / "data", 3, 4, 2, seed=1, workers=0) / "model_0060000"
    rows = json.loads((folder / "imageid2idx.json").read_text())
    for name in ("features", "predictions"):
        data = (folder / f"{name}.tsv").read_bytes()
        starts = [int(line) for line in (folder / f"{name}.lineidx").read_text().split()]
        assert len(starts) == len(rows) == 9
        for image_id, row in rows.items():
            assert data[starts[row] :].split(b"\t", 1)[0].decode() == image_id


def test_detections_are_in_the_published_form(root):
    line = (root / "model_0060000" / "predictions.tsv").read_text().splitlines()[0]
    record = json.loads(line.split("\t")[1])
    assert (record["image_h"], record["image_w"]) == (144, 192)
    assert record["num_boxes"] == len(record["objects"])
    assert all(set(item) == {"class", "conf", "rect"} and len(item["rect"]) == 4 for item in record["objects"])


def test_pictures_of_dev_and_test(root):
    names = {path.stem for path in (root / "images").iterdir()}
    assert names == {str(r["scene"].image_id) for split in ("minival", "test") for r in read_truth(root)[split]}
    scene = read_truth(root)["test"][0]["scene"]
    image = Image.open(io.BytesIO((root / "images" / f"{scene.image_id}.png").read_bytes()))
    assert (np.asarray(image) == draw_scene(scene, 1)).all()


def test_candidate_lists(root):
    lists = read_caption_index(root / "coco_ir" / "minival_caption_indexs_top20.pt")
    captions = read_captions(root / "coco_ir", "minival")
    assert list(lists) == list(captions)
    first_places = []
    for image_id, pairs in lists.items():
        assert len(pairs) == len(set(pairs)) == 20
        assert {pair for pair in pairs if pair[0] == image_id} == {(image_id, k) for k in range(5)}
        assert all(other in captions and 0 <= k < 5 for other, k in pairs)
        first_places.append(next(place for place, pair in enumerate(pairs) if pair[0] == image_id))
    assert len(set(first_places)) > 1  # shuffled


def test_some_candidates_are_hard():
    scenes = [sample_scene(9, "minival", i) for i in range(60)]
    words = {s.image_id: {word for pair in object_set(s.objects) for word in pair} for s in scenes}
    lists = candidate_lists(scenes, 9)
    shared, average = [], []
    for scene in scenes:
        mine = words[scene.image_id]
        others = [len(mine & words[i]) for i, _ in json.loads(lists[scene.image_id]) if i != scene.image_id]
        shared.append(np.mean(others))
        average.append(np.mean([len(mine & words[s.image_id]) for s in scenes if s is not scene]))
    assert np.mean(shared) > 1.15 * np.mean(average)


def test_every_word_is_in_the_vocabulary(root):
    words = (root / "init" / "vocab.txt").read_text().splitlines()
    assert words[0] == "[PAD]" and len(words) == len(set(words)) and words == vocabulary()
    records = [record for found in read_truth(root).values() for record in found]
    texts = [caption["text"] for record in records for caption in record["captions"]]
    texts += [region["tag"] for record in records for region in record["regions"]]
    assert {word for text in texts for word in text.split()} <= set(words)


def test_the_model_has_the_published_keys(golden):
    config = init_config(7, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, dropout=0.0)
    assert set(config) == set(json.loads((golden / "checkpoint" / "config.json").read_text()))
    assert (config["hidden_size"], config["num_hidden_layers"], config["hidden_dropout_prob"]) == (64, 2, 0.0)
    assert config["vocab_size"] == 7


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"hidden_size": 50}, "hidden_size 50: expected a multiple of num_attention_heads, 4"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0: expected at least 1"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"initializer_range": 0.0}, "initializer_range 0.0"),
    ],
)
def test_an_impossible_model_is_refused_before_the_work(tmp_path, model, message):
    with pytest.raises(DataError, match=message):
        write_scenes(tmp_path / "data", 1, 0, 1, seed=1, model=model)
    assert not (tmp_path / "data").exists()


def test_the_same_settings_are_kept_and_init_is_renewed(root, monkeypatch):
    monkeypatch.setattr(scenes_module, "_build", lambda *args: pytest.fail("built again"))
    before = digests(root)
    write_scenes(root, **SETTINGS, model={"hidden_size": 32})
    assert json.loads((root / "init" / "config.json").read_text())["hidden_size"] == 32
    write_scenes(root, **SETTINGS)
    assert digests(root) == before


def test_other_settings_need_permission(tmp_path):
    small = {"num_train": 2, "num_dev": 0, "num_test": 1, "workers": 0}
    write_scenes(tmp_path / "data", **small, seed=1)
    with pytest.raises(DataError, match=r"data: holds scenes with other settings: seed 1 \(asked 2\)"):
        write_scenes(tmp_path / "data", **small, seed=2)
    write_scenes(tmp_path / "data", **small, seed=2, overwrite=True)
    assert json.loads((tmp_path / "data" / "scenes.json").read_text())["seed"] == 2


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not delete")
    with pytest.raises(DataError, match="not a scenes data set"):
        write_scenes(tmp_path, 1, 0, 1, seed=1, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes_module, "detect", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_scenes(tmp_path / "data", 2, 0, 1, seed=1, workers=0)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leftover, alive = tmp_path / f".tmp-data-{gone.pid}-0123abcd", tmp_path / ".tmp-data-1-0123abcd"
    leftover.mkdir(), alive.mkdir()
    write_scenes(tmp_path / "data", 1, 0, 1, seed=1, workers=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "data"]


@pytest.mark.parametrize("sizes", [(-1, 4, 1), (3, 3, 1), (3, 4, -2)])
def test_impossible_sizes(tmp_path, sizes):
    with pytest.raises(DataError, match="num_dev 0 or at least 4"):
        write_scenes(tmp_path / "data", *sizes, seed=1)


def test_missing_truth(tmp_path):
    with pytest.raises(DataError, match="scenes_truth.jsonl: no such file"):
        read_truth(tmp_path)


def test_the_command_line(tmp_path, repository):
    command = [sys.executable, str(repository / "tools" / "make_scenes.py")]
    command += ["--root", str(tmp_path / "s"), "--train", "3", "--dev", "0", "--test", "2", "--hidden_size", "48"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "3 training, 0 development, 2 test" in done.stdout
    assert json.loads((tmp_path / "s" / "init" / "config.json").read_text())["hidden_size"] == 48
    refused = subprocess.run([*command, "--seed", "9"], capture_output=True, text=True, cwd=tmp_path)
    assert refused.returncode == 1 and refused.stderr.strip().count("\n") == 0
    assert "holds scenes with other settings" in refused.stderr and "seed 1 (asked 9)" in refused.stderr
