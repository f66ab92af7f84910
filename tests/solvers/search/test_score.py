"""One image against captions: the reference's numbers, every way to give the features, and what is refused."""

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from oscar_paddle.config.errors import DataError, UserError, WeightsError
from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures
from oscar_paddle.models.checkpoints import conversion
from oscar_paddle.solvers.search.score import ImageScorer, Score, probability, score


@pytest.fixture(scope="module")
def scorer(golden):
    return ImageScorer(golden / "checkpoint")


@pytest.fixture(scope="module")
def images(golden):
    """Image id -> arrays as one's own .npz file has them."""
    regions = RegionFeatures(golden / "model_0060000" / "features.tsv")
    tags = ObjectTags(golden / "model_0060000" / "predictions.tsv")
    return {image_id: {"features": regions[image_id], "tags": np.array(tags[image_id])} for image_id in regions.ids}


@pytest.fixture(scope="module")
def one(images):
    return next(iter(images.values()))


def margins(scores):
    return np.array([found.margin for found in scores])


def test_margins_are_the_references(golden, scorer, images, tmp_path):
    """Every image of the golden set against every caption: tags, cut regions, cut captions and all."""
    order = json.loads((golden / "expected.json").read_text())["cross"]["img_keys"]
    logits = np.load(golden / "expected_arrays.npz")["cross_logits"]
    by_image = read_captions(golden / "coco_ir", "test")
    captions = [text for image_id in order for text in by_image[image_id][:5]]
    expected = (logits[:, 1] - logits[:, 0]).reshape(len(order), len(captions))
    for row, image_id in enumerate(order):
        np.savez(tmp_path / "image.npz", **images[image_id])
        found = scorer.score(tmp_path / "image.npz", captions)
        np.testing.assert_allclose(margins(found), expected[row], atol=2e-5)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([s.probability for s in found], softmax[-len(captions) :, 1], atol=1e-5)


def test_one_call_and_one_caption(golden, one):
    found = score(golden / "checkpoint", one, "a dog")
    assert [type(s) for s in found] == [Score] and found[0].caption == "a dog"
    assert found == score(golden / "checkpoint", one, ["a dog"])


def test_every_way_to_give_the_features(scorer, one, tmp_path):
    expected = margins(scorer.score(one, ["a dog", "two cats on a bench"]))
    words = {**one, "tags": str(one["tags"]).split(" ")}
    lists = {"features": one["features"].tolist(), "tags": words["tags"]}
    np.savez_compressed(tmp_path / "packed.npz", **words)
    for features in (words, str(tmp_path / "packed.npz")):
        np.testing.assert_array_equal(margins(scorer.score(features, ["a dog", "two cats on a bench"])), expected)
    np.testing.assert_allclose(margins(scorer.score(lists, ["a dog", "two cats on a bench"])), expected, atol=1e-6)


def test_six_box_values_are_computed(scorer, one):
    width, height = 640, 480
    boxes = np.array([[10, 20, 300, 400], [0, 0, 640, 480], [5, 6, 7, 8]], np.float32)
    visual = one["features"][:3, :2048]
    values = [
        [x1 / width, y1 / height, x2 / width, y2 / height, (x2 - x1) / width, (y2 - y1) / height]
        for x1, y1, x2, y2 in boxes.tolist()
    ]
    whole = {"features": np.concatenate([visual, np.array(values, np.float32)], axis=1), "tags": one["tags"]}
    parts = {"features": visual, "boxes": boxes, "image_w": width, "image_h": height, "tags": one["tags"]}
    np.testing.assert_array_equal(margins(scorer.score(parts, "a dog")), margins(scorer.score(whole, "a dog")))


def test_without_tags(golden, scorer, one, caplog):
    bare = {"features": one["features"]}
    expected = margins(ImageScorer(golden / "checkpoint", add_tags=False).score(one, "a dog"))
    assert "add_tags is False, but the checkpoint was trained with True" in caplog.text
    caplog.clear()
    assert margins(scorer.score(one, "a dog")) != expected
    np.testing.assert_array_equal(margins(scorer.score(bare, "a dog")), expected)
    np.testing.assert_array_equal(margins(scorer.score(one["features"], "a dog")), expected)
    assert "no 'tags'; scored without object tags" in caplog.text


def test_what_is_no_file_of_features(scorer, one, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "dog.jpg")
    with pytest.raises(DataError, match=r"dog\.jpg: a picture \(JPEG\), not a \.npz file"):
        scorer.score(tmp_path / "dog.jpg", "a dog")
    np.save(tmp_path / "dog.npy", one["features"])
    with pytest.raises(DataError, match=r"dog\.npy: a NumPy \.npy file, not a \.npz file"):
        scorer.score(tmp_path / "dog.npy", "a dog")
    with pytest.raises(DataError, match="no array 'features'; .*; found x, tags: rename x to features"):
        scorer.score({"x": one["features"], "tags": "dog"}, "a dog")


def test_settings_may_be_given(golden, scorer, images):
    many = max(images.values(), key=lambda image: len(image["features"]))
    fewer = ImageScorer(golden / "checkpoint", max_region=2)
    cut = {**many, "features": many["features"][:2]}
    np.testing.assert_array_equal(margins(fewer.score(many, "a dog")), margins(scorer.score(cut, "a dog")))
    short = ImageScorer(golden / "checkpoint", max_seq_len=4)
    np.testing.assert_array_equal(
        margins(short.score(many, "dog cat tree")), margins(short.score(many, "dog cat bench"))
    )
    with pytest.raises(WeightsError, match="500 text positions; its position table has room for 3 to 128"):
        ImageScorer(golden / "checkpoint", max_seq_len=500)
    with pytest.raises(DataError, match="max_region is 0"):
        ImageScorer(golden / "checkpoint", max_region=0)


def test_converted_checkpoints_score_the_same(golden, scorer, one, tmp_path):
    source = conversion.read_source(golden / "checkpoint")
    for target in set(conversion.FORMATS) - {conversion.VILBERT_PADDLE}:
        conversion.convert(source, tmp_path / target, target)
        found = score(tmp_path / target, one, ["a dog", "two cats"])
        np.testing.assert_array_equal(margins(found), margins(scorer.score(one, ["a dog", "two cats"])))


def test_one_label(golden, one, tmp_path):
    shutil.copytree(golden / "checkpoint", tmp_path / "c", ignore=shutil.ignore_patterns("*.bin"))
    conversion.convert(conversion.read_source(golden / "checkpoint"), tmp_path / "ours", conversion.OURS)
    state = load_file(tmp_path / "ours" / "model.safetensors")
    state["classifier.weight"], state["classifier.bias"] = state["classifier.weight"][1:], np.array([7.0], np.float32)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, tmp_path / "c" / "model.safetensors")
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    (tmp_path / "c" / "config.json").write_text(json.dumps({**config, "num_labels": 1}))
    found = score(tmp_path / "c", one, "a dog")[0]
    assert found.margin > 1 and found.probability == 1.0
    (tmp_path / "c" / "config.json").write_text(json.dumps({**config, "num_labels": 3129}))
    with pytest.raises(WeightsError, match="num_labels is 3129; a retrieval model has 2"):
        score(tmp_path / "c", one, "a dog")


def test_probability_of_any_margin():
    for margin in (-2000, -30, -0.5, 0, 0.5, 30, 2000):
        assert probability(margin) == pytest.approx(1 - probability(-margin))
    assert probability(math.log(3)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"features": None}, "no array 'features'"),
        ({"features": np.zeros((2, 100), np.float32)}, "regions have 100 values; expected 2054"),
        ({"features": np.zeros((2, 2048), np.float32)}, "the six box values are missing"),
        ({"features": np.zeros((0, 2054), np.float32)}, "number of boxes is 0"),
        ({"features": np.full((2, 2054), np.nan, np.float32)}, "region 1 column 1 is nan"),
        ({"tags": np.array([1, 2])}, "'tags' is int64"),
    ],
)
def test_bad_features(scorer, one, change, expected, tmp_path):
    arrays = {name: value for name, value in {**one, **change}.items() if value is not None}
    with pytest.raises(DataError, match=f"the image features: .*{expected}"):
        scorer.score(arrays, "a dog")
    np.savez(tmp_path / "image.npz", **arrays)
    with pytest.raises(DataError, match=f"image.npz: .*{expected}"):
        scorer.score(tmp_path / "image.npz", "a dog")


def test_bad_calls(golden, scorer, one, tmp_path):
    with pytest.raises(DataError, match="no captions"):
        scorer.score(one, [])
    with pytest.raises(DataError, match="caption 2 is a int; expected text"):
        scorer.score(one, ["a dog", 7])
    with pytest.raises(DataError, match="absent.npz: no such file"):
        scorer.score(tmp_path / "absent.npz", "a dog")
    with pytest.raises(DataError, match="expected a .npz file, a dict or an array"):
        scorer.score(7, "a dog")
    np.savez(tmp_path / "objects.npz", features=np.array([{}], object))
    with pytest.raises(DataError, match="Python objects"):
        scorer.score(tmp_path / "objects.npz", "a dog")
    with pytest.raises(UserError, match="no such checkpoint folder"):
        score(tmp_path / "nowhere", one, "a dog")


def test_many_pictures_in_one_call(scorer, images, tmp_path):
    names = [f"{number}.npz" for number in (10, 2, 7)]
    for name, image in zip(names, images.values(), strict=False):
        np.savez(tmp_path / name, **image)
    paths = [tmp_path / name for name in names]
    alone = [scorer.score(path, ["a dog", "two cats"]) for path in paths]
    assert scorer.score(paths, ["a dog", "two cats"]) == alone
    assert scorer.score(list(images.values())[:3], ["a dog", "two cats"]) == alone
    assert scorer.score(str(tmp_path), ["a dog", "two cats"]) == dict(sorted(zip(names, alone, strict=True)))
    (tmp_path / "2.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"2\.npz"):
        scorer.score(tmp_path, "a dog")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no \.npz file in this folder"):
        scorer.score(tmp_path / "empty", "a dog")


def test_a_nan_is_no_score(golden, one):
    broken = ImageScorer(golden / "checkpoint")
    bias = broken.backend.model.bert.pooler.dense.bias
    bias.set_value(np.full(bias.shape, np.nan, np.float32))
    with pytest.raises(DataError, match="the margin is NaN; the weights hold NaN"):
        broken.score(one, "a dog")


def test_words_of_another_vocabulary_are_refused(golden, tmp_path):
    folder = shutil.copytree(golden / "checkpoint", tmp_path / "other")
    (folder / "training_args.bin").unlink()
    (folder / "training_args.json").write_text(json.dumps({"vocabulary": "0" * 32}))
    with pytest.raises(DataError, match="trained with another vocabulary"):
        ImageScorer(folder)
