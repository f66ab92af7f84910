"""What vilbert_beta and the multi-task repository make of the golden files (tests/golden/vilbert_rec/README.md)."""

import json

import numpy as np
import pytest
from refer_case import refer_config

from oscar_paddle.datasets.refer_dataset import build_refer_data
from oscar_paddle.datasets.regions.lmdb_store import LmdbRegions
from oscar_paddle.datasets.tokenization import build_tokenizer

SPLITS = ("train", "val", "testA", "testB")


@pytest.fixture(scope="module")
def golden_set(repository):
    folder = repository / "tests" / "golden" / "vilbert_rec"
    return json.loads((folder / "expected.json").read_text()), np.load(folder / "expected_arrays.npz")


@pytest.fixture
def build(repository, tmp_path):
    def make(split, **opts):
        cfg = refer_config(repository, DATASET__CACHE_DIR=str(tmp_path), **opts)
        return build_refer_data(cfg, build_tokenizer(cfg.PRETRAINED.DIR, True), split, training=split == "train")

    return make


def padded(data, shape):
    """The batch of all expressions in upstream's layout: dict of [N, L] and [N, R] arrays."""
    batch, (length, regions) = data.batch(np.arange(data.num_examples)), shape
    found = {name: np.zeros((data.num_examples, length), np.int64) for name in ("input_ids", "input_mask")}
    inside = np.arange(length) < batch["text_length"][:, None]
    found["input_ids"][inside], found["input_mask"][inside] = batch["input_ids"], 1
    inside = np.arange(regions) < batch["num_regions"][:, None]
    place = (batch["region_start"][:, None] + np.arange(regions))[inside]
    for name in ("image_mask", "target", "feature_row_sum", "feature_row_dot"):
        found[name] = np.zeros(inside.shape)
    found["spatials"] = np.zeros((*inside.shape, 5))
    features = batch["img_feats"][place].astype(np.float64)
    weights = np.arange(features.shape[1]) % 7 + 1
    found["image_mask"][inside], found["target"][inside] = 1, batch["targets"]
    found["spatials"][inside] = batch["img_locs"][place]
    found["feature_row_sum"][inside], found["feature_row_dot"][inside] = features.sum(axis=1), features @ weights
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_inputs_and_targets_are_those_of_upstream(split, build, golden_set):
    entries, arrays = golden_set[0]["entries"][split], golden_set[1]
    data = build(split)
    told = [(e.sent_id, e.ref_id, e.image_id, e.text, list(e.box)) for e in data.expressions]
    names = ("sent_id", "ref_id", "image_id", "caption", "ref_box_xywh")
    assert told == [tuple(entry[name] for name in names) for entry in entries]
    found = padded(data, (20, 100))
    for name in ("input_ids", "input_mask", "image_mask"):
        np.testing.assert_array_equal(found[name], arrays[f"{split}_{name}"], err_msg=name)
    for name in ("target", "spatials"):
        np.testing.assert_allclose(found[name], arrays[f"{split}_{name}"], rtol=0, atol=1e-6, err_msg=name)
    for name in ("feature_row_sum", "feature_row_dot"):
        np.testing.assert_allclose(found[name], arrays[f"{split}_{name}"], rtol=2e-6, atol=1e-3, err_msg=name)


def test_test_has_both_of_its_halves(build, golden_set):
    assert [each.sent_id for each in build("test").expressions] == golden_set[0]["entries"]["test"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_multi_task_way(split, build, golden_set):
    """Cut before the special tokens; regions and targets cut to the slots."""
    expected, arrays = golden_set
    slots = expected["plan"]["small_region_num"]
    found = padded(build(split, REFER__CUT="before", INPUT__MAX_REGION=slots), (20, slots))
    for name in [name.removeprefix(f"multitask_{split}_") for name in arrays if name.startswith(f"multitask_{split}_")]:
        if name in found:
            np.testing.assert_allclose(found[name], arrays[f"multitask_{split}_{name}"], rtol=2e-6, atol=1e-6)
    assert {f"multitask_{split}_{name}" for name in ("input_ids", "target", "spatials")} <= set(arrays)


def test_records_of_the_multi_task_repository_are_read_alike(build, golden_set):
    proposals = build("val").proposals
    stores = proposals, LmdbRegions(proposals.path.replace("resnet101_faster_rcnn_genome", "multitask_format"))
    for image_id in golden_set[0]["multitask_format_images"]:
        for first, second in zip(*(store[image_id] for store in stores), strict=True):
            np.testing.assert_array_equal(first, second)
