"""Which region features a run reads, and that the same data in any layout make the same batches."""

import base64
import json
import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.datasets.regions.layouts import find_regions, open_regions
from oscar_paddle.datasets.regions.one_file_each import NpyFeatures, NpzFeatures
from oscar_paddle.datasets.regions.oscar_v1 import DictionaryFeatures
from oscar_paddle.datasets.regions.packing import pack
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures
from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data, build_training_data
from oscar_paddle.datasets.tokenization import Tokenizer

V1 = Path(__file__).parents[2] / "golden" / "oscar_v1"


# ---- which files ----


@pytest.fixture
def place(tmp_path):
    """Function: an empty file, or a folder with one empty array file, at a path below tmp_path."""

    def place(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.touch()
        return str(path)

    return place


def test_the_usual_places_in_order(tmp_path, place):
    data_dir = tmp_path / "coco_ir"
    data_dir.mkdir()
    with pytest.raises(DataError) as caught:
        find_regions(data_dir, "train")
    for part in (
        str(data_dir),
        str(tmp_path / "model_0060000"),
        "features.tsv",
        "train_img_frcnn_feats.pt",
        "train_img_frcnn_feats/<image id>.npy",
        "features/<name>.npz",
        "set DATASET.FEAT_FILE",
    ):
        assert part in str(caught.value)
    place("coco_ir/stray.npz"), place("coco_ir/stray.npy")  # not in a folder of features
    with pytest.raises(DataError):
        find_regions(data_dir, "train")
    for name, found in (
        ("coco_ir/features.packed", None),
        ("coco_ir/features/dog.npz", "coco_ir/features"),
        ("coco_ir/train_img_frcnn_feats/9.npy", "coco_ir/train_img_frcnn_feats"),
        ("coco_ir/train_img_frcnn_feats.pd", None),
        ("coco_ir/train_img_frcnn_feats.pt", None),
        ("model_0060000/features.tsv", None),
        ("coco_ir/features.tsv", None),
    ):
        place(name)
        assert find_regions(data_dir, "train") == str(tmp_path / (found or name))
    place("coco_ir/test_img_grid_feats.pt"), (data_dir / "features.tsv").unlink()
    (tmp_path / "model_0060000" / "features.tsv").unlink()
    assert find_regions(data_dir, "test", feature_type="grid").endswith("test_img_grid_feats.pt")


def test_feat_file_may_be_a_file_a_folder_or_another_split(tmp_path, place):
    tsv, v1 = place("a/features.tsv"), place("b/test_img_frcnn_feats.pt")
    place("c/test_img_frcnn_feats/9.npy"), place("d/dog.npz")
    for feat_file in (tsv, tmp_path / "a"):
        assert find_regions("", "test", feat_file) == tsv
    for feat_file in (v1, tmp_path / "b", tmp_path / "b" / "train_img_frcnn_feats.pt"):
        assert find_regions("", "test", feat_file) == v1
    for name in ("c", "c/train_img_frcnn_feats", "c/train_img_frcnn_feats/"):
        assert find_regions("", "test", f"{tmp_path}/{name}") == str(tmp_path / "c" / "test_img_frcnn_feats")
    assert find_regions("", "test", tmp_path / "d") == str(tmp_path / "d")
    for name in ("other.tsv", "b/test_img_grid_feats.pt", "c/none"):
        with pytest.raises(DataError, match=r"no such file; .*\(DATASET\.FEAT_FILE\)") as caught:
            find_regions("", "test", tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


# ---- the same data in every layout ----


@pytest.fixture
def tokenizer(golden):
    words = (golden / "checkpoint" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return Tokenizer(words, do_lower_case=True)


@pytest.fixture
def build(golden, tmp_path, tokenizer):
    """Function: the golden test split as a layout gives it."""

    def build(data_dir=golden / "coco_ir", feat_file="", split="test", **changes):
        cfg = get_cfg_defaults()
        cfg.INPUT.MAX_SEQ_LEN, cfg.INPUT.MAX_REGION = 40, 12
        cfg.DATASET.DATA_DIR, cfg.DATASET.FEAT_FILE = str(data_dir), str(feat_file)
        cfg.DATASET.CACHE_DIR = str(tmp_path / "cache")
        cfg.EVAL.EVAL_CROSS_IMAGE = True
        cfg.merge_from_list([word for item in changes.items() for word in (item[0].replace("__", "."), item[1])])
        return build_evaluation_data(cfg, tokenizer, split) if split == "test" else build_training_data(cfg, tokenizer)

    return build


@pytest.fixture
def parts(golden):
    """(captions of the test split, its regions, its tags)."""
    captions = read_captions(golden / "coco_ir", "test")
    regions = RegionFeatures(golden / "model_0060000" / "features.tsv")
    tags = ObjectTags(golden / "model_0060000" / "predictions.tsv")
    return captions, {i: regions[i] for i in captions}, {i: tags[i] for i in captions}


def dump(path, value):
    path.write_bytes(pickle.dumps(value, protocol=4))


def paddle_port(folder, captions, regions, tags):
    dump(folder / "test_captions.pd", captions)
    dump(folder / "test_vg_labels.pd", tags)
    (folder / "test_img_frcnn_feats").mkdir()
    for image_id, array in regions.items():
        np.save(folder / "test_img_frcnn_feats" / f"{image_id}.npy", array)
    return NpyFeatures


def oscar_v1(folder, captions, regions, tags):
    dump(folder / "test_captions.pt", {i: json.dumps(texts) for i, texts in reversed(captions.items())})
    detections = {image_id: [{"class": tag} for tag in text.split()] for image_id, text in tags.items()}
    dump(folder / "test_vg_labels.pt", detections)
    dump(folder / "test_img_frcnn_feats.pt", regions)
    return DictionaryFeatures


def ones_own(folder, captions, regions, tags):
    with open(folder / "mine.jsonl", "w", encoding="utf-8") as file:
        for image_id, texts in captions.items():
            line = {"image": f"photos/p{image_id}.jpg", "id": image_id, "captions": texts, "split": "test"}
            file.write(json.dumps(line) + "\n")
    (folder / "features").mkdir()
    for image_id, array in regions.items():
        np.savez_compressed(folder / "features" / f"p{image_id}.npz", features=array, tags=tags[image_id])
    return NpzFeatures


def rows_by_name(folder, captions, regions, tags):
    """As VinVL's own extractor writes them: the first column is the name of the picture."""
    ones_own(folder, captions, regions, tags)
    shutil.rmtree(folder / "features")
    with open(folder / "features.tsv", "w") as features, open(folder / "predictions.tsv", "w") as predictions:
        for image_id, array in regions.items():
            features.write(f"p{image_id}\t{len(array)}\t{base64.b64encode(array.tobytes()).decode()}\n")
            found = [{"class": tag} for tag in tags[image_id].split()]
            predictions.write(f"p{image_id}\t{json.dumps(found)}\n")
    return RegionFeatures


def dictionary_by_name(folder, captions, regions, tags):
    ones_own(folder, captions, regions, tags)
    shutil.rmtree(folder / "features")
    dump(folder / "test_vg_labels.pt", {f"p{image_id}.jpg": text for image_id, text in tags.items()})
    dump(folder / "test_img_frcnn_feats.pt", {f"p{image_id}.jpg": array for image_id, array in regions.items()})
    return DictionaryFeatures


@pytest.mark.parametrize("layout", [paddle_port, oscar_v1, ones_own, rows_by_name, dictionary_by_name])
def test_every_layout_makes_the_same_batches(build, parts, tmp_path, layout):
    kind = layout(tmp_path, *parts)
    expected, found = build(), build(tmp_path)
    assert type(found.regions) is kind
    assert found.image_ids == expected.image_ids and found.tags == expected.tags
    assert [text.split() for text in found.captions] == [text.split() for text in expected.captions]
    assert found.regions.fingerprint(found.image_ids) == expected.regions.fingerprint(expected.image_ids)
    pairs = np.arange(found.num_images), np.arange(found.num_images) * 5
    ours, theirs = found.batch(*pairs), expected.batch(*pairs)
    for name, array in theirs.items():
        assert ours[name].tobytes() == array.tobytes(), name


def test_oscar_v1_orders_images_by_its_feature_file(build, parts, tmp_path):
    captions, regions, tags = parts
    some = list(reversed(captions))[:3]
    oscar_v1(tmp_path, captions, {image_id: regions[image_id] for image_id in some}, tags)
    assert build(tmp_path).image_ids == some
    with pytest.raises(DataError, match=r"split 'train'|train_captions"):
        build(tmp_path, split="train")
    oscar_v1(tmp_path, {i: captions[i] for i in some[1:]}, {i: regions[i] for i in some}, tags)
    with pytest.raises(DataError, match=rf"test_img_frcnn_feats\.pt: image {some[0]} has no captions in split 'test'"):
        build(tmp_path)


def test_training_on_oscar_v1_files_of_pytorch(build, tmp_path):
    data = build(V1, split="train", INPUT__IMG_FEATURE_DIM=10)
    assert data.image_ids == [31, 9, 527] != sorted(data.image_ids)
    assert data.tags == ["dog grass dog", "", "red car"] and data.captions[0] == "train 31 caption 0"
    batch = data.batch([0, 2], [0, 10])
    np.testing.assert_array_equal(
        batch["img_feats"][batch["region_start"][1] :], 200 + np.arange(30, dtype=np.float32).reshape(3, 10)
    )
    with pytest.raises(DataError, match=r"train_xx_labels\.pt.*DATASET\.OD_LABEL_TYPE"):
        build(V1, split="train", INPUT__IMG_FEATURE_DIM=10, DATASET__OD_LABEL_TYPE="xx")
    assert build(
        V1, split="train", INPUT__IMG_FEATURE_DIM=10, INPUT__ADD_OD_LABEL=False, DATASET__OD_LABEL_TYPE="xx"
    ).tags == ["", "", ""]


def test_an_image_is_missing(build, parts, tmp_path):
    captions, regions, tags = parts
    first = next(iter(captions))
    paddle_port(tmp_path, captions, {i: array for i, array in regions.items() if i != first}, tags)
    with pytest.raises(DataError, match=rf"test_img_frcnn_feats: image {first} of split 'test' is missing"):
        build(tmp_path)


def test_a_packed_store_is_used_and_said(build, golden, tmp_path, caplog):
    shutil.copytree(golden / "model_0060000", tmp_path / "model")
    tsv = tmp_path / "model" / "features.tsv"
    pack(RegionFeatures(tsv), tmp_path / "model" / "features.packed", progress=False)
    expected = build(feat_file=tsv, DATASET__PACKED="off")
    with caplog.at_level(logging.INFO):
        found = build(feat_file=tsv)
    assert "features.packed (float32)" in caplog.text and "features.packed" not in found.regions.path
    assert found.regions.fingerprint(found.image_ids) == expected.regions.fingerprint(expected.image_ids)
    pairs = np.arange(found.num_images), np.arange(found.num_images)
    assert found.batch(*pairs)["img_feats"].tobytes() == expected.batch(*pairs)["img_feats"].tobytes()
    assert open_regions("", "test", tmp_path / "model" / "features.packed").fingerprint(found.image_ids)
