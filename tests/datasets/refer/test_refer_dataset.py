"""Rows, overlaps and controls of a split, and what is said of stores that do not fit it."""

import shutil

import numpy as np
import pytest
from refer_case import refer_config

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.refer.annotations import Referred
from oscar_paddle.datasets.refer_dataset import build_refer_data, iou, others
from oscar_paddle.datasets.scenes.referring import write_store
from oscar_paddle.datasets.tokenization import build_tokenizer


@pytest.fixture
def build(repository, tmp_path):
    def make(split, training=False, **opts):
        cfg = refer_config(repository, DATASET__CACHE_DIR=str(tmp_path / "cache"), **opts)
        return build_refer_data(cfg, build_tokenizer(cfg.PRETRAINED.DIR, True), split, training)

    return make


def test_overlaps_by_brute_force():
    """Whole pixels counted one by one: a box of x1 to x2 has both of them."""
    rng = np.random.RandomState(1)
    corner, side = rng.randint(0, 12, (40, 2)), rng.randint(0, 9, (40, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    masks = np.zeros((40, 24, 24), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
    for number in range(0, 40, 7):
        wanted = [(masks[number] & mask).sum() / (masks[number] | mask).sum() for mask in masks]
        np.testing.assert_allclose(iou(boxes, boxes[number]), wanted, rtol=1e-12)


def test_rows_are_cut_and_the_whole_picture_comes_first(build):
    data = build("val", INPUT__MAX_REGION=3)
    for image_id in data.image_ids():
        rows, found = data.rows(image_id), data.proposals[image_id]
        np.testing.assert_array_equal(rows.boxes, [[0, 0, found.width, found.height], *found.boxes[:2]])
        np.testing.assert_allclose(rows.features[0], found.features.mean(axis=0), rtol=1e-6)
        np.testing.assert_array_equal(rows.locations[0], [0, 0, 1, 1, 1])
    assert data.num_columns == 3 and data.overlaps().shape == (14, 3)


def test_an_image_is_there_once_for_all_its_expressions(build):
    data = build("val")
    batch = data.batch(np.arange(data.num_examples))
    assert len(batch["img_feats"]) == sum(len(data.boxes(image_id)) for image_id in data.image_ids())
    assert batch["num_regions"].sum() == len(batch["targets"]) > len(batch["img_feats"])


def test_controls(build):
    plain, texts, features = (build("val", REFER__CONTROL=name) for name in ("none", "expressions", "features"))
    images = [each.image_id for each in plain.expressions]
    assert all(images[a] != images[b] for a, b in enumerate(texts.texts))
    assert sorted(texts.texts) == list(range(14)) and texts.shown_texts != plain.shown_texts
    np.testing.assert_array_equal(features.overlaps(), plain.overlaps())
    for image_id in plain.image_ids():
        np.testing.assert_array_equal(features.boxes(image_id), plain.boxes(image_id))
        assert (features.rows(image_id).features != plain.rows(image_id).features).any()
    assert len({data.fingerprint() for data in (plain, texts, features)}) == 3


def test_others_leave_the_picture_where_they_can():
    for images in ([1, 1, 1, 2, 2, 3], [3, 1, 2], [1, 1, 2, 2], [5] * 4 + [6] * 4):
        expressions = [Referred("", 0, 0, 0, image, (), "", 0) for image in images]
        found = others(expressions)
        assert sorted(found) == list(range(len(images)))
        assert all(images[a] != images[b] for a, b in enumerate(found))


def test_a_store_of_other_pictures(build, tmp_path):
    records = {"image_w": 9, "image_h": 9, "num_boxes": 1, "boxes": np.ones((1, 4), np.float32)}
    records["features"] = np.ones((1, 2048), np.float32)
    write_store(tmp_path / "other.lmdb", [(7, records)], "resnet101")
    with pytest.raises(DataError) as error:
        build("val", DATASET__FEAT_FILE=str(tmp_path / "other.lmdb"))
    assert "image 292466 is missing, which 'on' (sent_id 6946, refcoco+ val) asks for" in str(error.value)
    assert "in all 3 images of 14 of 14 expressions are (the store has 1 images)" in str(error.value)
    with pytest.raises(DataError, match=r"other.lmdb: image \d+ is missing, which .* refcoco\+ train"):
        build("train", True, REFER__GROUND_TRUTH=str(tmp_path / "other.lmdb"))


def rewritten(data, folder, change):
    """The store of a split again, with one record changed."""

    def records():
        for number, image_id in enumerate(data.image_ids()):
            found = data.proposals[image_id]
            record = {"image_w": found.width, "image_h": found.height, "num_boxes": len(found.boxes)}
            record |= {"boxes": found.boxes, "features": found.features}
            yield image_id, {**record, **(change if number == 0 else {})}

    shutil.rmtree(folder, ignore_errors=True)
    write_store(folder, records(), "resnet101")
    return str(folder)


def test_pictures_without_proposals(build, tmp_path):
    data = build("val")
    empty = {"num_boxes": 0, "boxes": np.zeros((0, 4), np.float32), "features": np.zeros((0, 2048), np.float32)}
    path = rewritten(data, tmp_path / "empty.lmdb", empty)
    with pytest.raises(DataError, match="nothing was detected in 1 of 3 images of refcoco.*EMPTY_IMAGES 'skip'"):
        build("val", DATASET__FEAT_FILE=path)
    found = build("val", DATASET__FEAT_FILE=path, DATASET__EMPTY_IMAGES="skip")
    assert found.num_examples == 14
    rows = found.rows(data.image_ids()[0])
    assert rows.features.shape == (1, 2048) and not rows.features.any() and rows.locations.tolist() == [[0, 0, 1, 1, 1]]


def test_nan_and_other_widths(build, tmp_path):
    data = build("val")
    count = len(data.proposals[data.image_ids()[0]].boxes)
    bad = np.full((count, 2048), np.nan, np.float32)
    with pytest.raises(DataError, match="image 292466: features of region 0 hold NaN"):
        build("val", DATASET__FEAT_FILE=rewritten(data, tmp_path / "nan.lmdb", {"features": bad})).overlaps()
    narrow = np.ones((count, 1024), np.float32)
    with pytest.raises(DataError, match="features have 1024 values; INPUT.IMG_FEATURE_DIM is 2048"):
        build("val", DATASET__FEAT_FILE=rewritten(data, tmp_path / "narrow.lmdb", {"features": narrow}))


def test_images_that_are_left_out(build, tmp_path):
    data = build("train", True)
    np.save(tmp_path / "ids.npy", np.array(data.image_ids()[:1]))
    left = build("train", True, REFER__LEAVE_OUT=str(tmp_path / "ids.npy"))
    assert left.image_ids() == data.image_ids()[1:]
    assert len(build("train", REFER__LEAVE_OUT=str(tmp_path / "ids.npy")).image_ids()) == len(data.image_ids())
