"""Captioning's tensors against the reference's, and its files with what can be wrong with them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.caption_dataset import build_caption_data
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.visibility import kinds_of_rows, visible

GOLDEN = Path(__file__).parents[1] / "golden" / "captioning"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
ARRAYS = np.load(GOLDEN / "expected_arrays.npz")


class Replay:
    """Gives recorded draws back, in order."""

    def __init__(self, draws):
        self.left = list(draws)

    def _next(self, kind):
        name, value = self.left.pop(0)
        assert name == kind
        return value

    def shuffle(self, items):
        items[:] = self._next("shuffle")

    def random(self):
        return self._next("random")

    def randint(self, low, high):
        value = self._next("randint")
        assert low <= value <= high
        return value


def settings(folder=GOLDEN / "coco_caption", **changes):
    cfg = get_cfg_defaults()
    config = json.loads((GOLDEN / "checkpoint" / "config.json").read_text())
    cfg.DATASET.DATA_DIR = str(folder)
    cfg.INPUT.MAX_REGION, cfg.INPUT.IMG_FEATURE_DIM = 8, config["img_feature_dim"]
    for key, value in changes.items():
        section, _, name = key.partition("__")
        cfg[section][name] = value
    return cfg


def build(split="train.yaml", training=True, folder=GOLDEN / "coco_caption", tmp=None, **changes):
    tokenizer = build_tokenizer(str(GOLDEN / "checkpoint"), True)
    return build_caption_data(settings(folder, **changes), tokenizer, split, training)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioning") / "coco_caption"
    shutil.copytree(GOLDEN / "coco_caption", folder)
    return folder


def padded(batch, places, labels, length=70, regions=8):
    """One example as the reference lays it out."""
    positions, size = batch["position_ids"], length + regions
    ids, types, marks = (np.zeros(length, np.int64) for _ in range(3))
    ids[positions], types[positions] = batch["input_ids"], batch["token_type_ids"]
    marks[positions[places]] = 1
    num_regions, text_length = int(batch["num_regions"][0]), int(batch["text_length"][0])
    where = np.concatenate([positions, length + np.arange(num_regions)])
    total = text_length + num_regions
    kinds = kinds_of_rows(batch["caption_length"], batch["text_length"], np.array([total]), total)
    mask = np.zeros((size, size), np.int64)
    mask[np.ix_(where, where)] = visible("S2S", kinds)[0]
    return ids, types, marks, np.pad(labels, (0, 3 - len(labels))), mask


@pytest.mark.parametrize("number", range(28))
def test_training_tensors_are_the_references(copied, number):
    data = build(folder=copied)
    case = EXPECTED["train_tensors"]["examples"][number]
    draws = Replay(case["draws"])
    batch, places, labels = data.batch([case["caption_index"]], 0, [draws])
    assert not draws.left
    ids, types, marks, masked, mask = padded(batch, places, labels)
    assert ids.tolist() == ARRAYS["train_input_ids"][number].tolist()
    assert types.tolist() == ARRAYS["train_segment_ids"][number].tolist()
    assert marks.tolist() == ARRAYS["train_masked_pos"][number].tolist()
    assert masked.tolist() == ARRAYS["train_masked_ids"][number].tolist()
    assert (mask == ARRAYS["train_attention_mask"][number]).all()
    sums = np.zeros(8)
    sums[: len(batch["img_feats"])] = batch["img_feats"].sum(1)
    np.testing.assert_allclose(sums, ARRAYS["train_region_sum"][number], atol=1e-4)


@pytest.mark.parametrize("number", range(3))
def test_tensors_without_tags(copied, number):
    data = build(folder=copied, INPUT__ADD_OD_LABEL=False, INPUT__MAX_SEQ_LEN=40)
    case = EXPECTED["train_tensors_no_tags"]["examples"][number]
    batch, places, labels = data.batch([case["caption_index"]], 0, [Replay(case["draws"])])
    ids, _, marks, masked, mask = padded(batch, places, labels, length=40)
    assert ids.tolist() == ARRAYS["notag_input_ids"][number].tolist()
    assert marks.tolist() == ARRAYS["notag_masked_pos"][number].tolist()
    assert masked.tolist() == ARRAYS["notag_masked_ids"][number].tolist()
    assert (mask == ARRAYS["notag_attention_mask"][number]).all()


def test_what_captions_are_written_after(copied):
    """Tags from position id 40 on, [SEP] behind them, as the reference's test tensors have them from slot 20 on."""
    data = build("test.yaml", training=False, folder=copied)
    rows = data.prefix(range(data.num_images))
    starts = np.cumsum(rows.text_length) - rows.text_length
    for image, (start, length) in enumerate(zip(starts, rows.text_length, strict=True)):
        wanted = ARRAYS["test_input_ids"][image][20:]
        assert rows.input_ids[start : start + length].tolist() == wanted[wanted != 0].tolist()
        assert rows.position_ids[start : start + length].tolist() == list(range(40, 40 + length))
    sums = np.zeros((8, 8))
    ends = np.cumsum(rows.num_regions)
    for image, (end, count) in enumerate(zip(ends, rows.num_regions, strict=True)):
        sums[image, :count] = rows.img_feats[end - count : end].sum(1)
    np.testing.assert_allclose(sums, ARRAYS["test_region_sum"], atol=1e-4)
    assert data.image_keys == EXPECTED["image_keys"]


def test_captions_that_are_cut_are_told_with_the_setting_that_cuts_them(copied, caplog):
    build(folder=copied, CAPTION__MAX_SEQ_A_LEN=8)
    assert re.search(r"captions are cut to fit CAPTION\.MAX_SEQ_A_LEN \(", caplog.text)


def test_masking_is_a_function_of_seed_epoch_and_caption(copied):
    data, again = build(folder=copied), build(folder=copied, MISC__SEED=1)
    masked = [data.batch([3, 5], epoch)[0]["input_ids"].tolist() for epoch in (0, 0, 1)]
    assert masked[0] == masked[1] != masked[2]
    assert data.batch([5], 0)[1].tolist() == [
        p - int(data.batch([3], 0)[0]["text_length"][0])
        for p in data.batch([3, 5], 0)[1]
        if p >= data.batch([3], 0)[0]["text_length"][0]
    ]
    assert again.batch([3, 5], 0)[0]["input_ids"].tolist() != masked[0]


def edit(folder, name, change):
    path = folder / name
    path.write_text(change(path.read_text()))
    path.with_suffix(".lineidx").unlink(missing_ok=True)


def first_row(text, change):
    line, _, rest = text.partition("\n")
    return change(line) + "\n" + rest


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "coco.label.tsv",
            lambda t: "7\t[]\n" + t.split("\n", 1)[1],
            r"row 1 of .*feature.tsv is image .*, but row 1 of .*label.tsv is image 7",
        ),
        ("coco.label.tsv", lambda t: t.split("\n", 1)[1], r"has 8 rows and .*label.tsv 7"),
        (
            "coco.feature.tsv",
            lambda t: first_row(t, lambda line: line.split("\t")[0] + '\t{"num_boxes": 5}'),
            r"row 1 .*expected \{\"num_boxes\"",
        ),
        ("coco.feature.tsv", lambda t: first_row(t, lambda line: line[:-9] + '"}'), "row 1 .*(bytes|base64)"),
        ("coco.feature.tsv", lambda t: first_row(t, lambda line: line[:-9]), "row 1 .*malformed JSON"),
        (
            "coco.feature.tsv",
            lambda t: first_row(t, lambda line: line.split("\t")[0] + '\t{"num_boxes": 0, "features": ""}'),
            "nothing was detected in 1 of 8 images",
        ),
        (
            "train_caption.json",
            lambda t: t.replace('"image_id"', '"image"', 1),
            "entry 1: .*expected an object with image_id and caption",
        ),
        ("train_caption.json", lambda t: t.replace('"550744"', '"99"', 1), "entry 1: image 99 has no row"),
        ("train_caption.json", lambda t: "[]", "expected a list of objects"),
        ("train.yaml", lambda t: t + "features: x\n", "features is unknown; expected some of feature"),
        ("train.yaml", lambda t: t.replace("caption:", "#"), "names no 'caption' file"),
        ("train.yaml", lambda t: t.replace("label:", "#"), "names no 'label' file"),
        ("train.yaml", lambda t: "a: [", "not YAML"),
        ("train.yaml", lambda t: "- a", "holds a list"),
    ],
)
def test_files_that_do_not_fit(tmp_path, name, change, words):
    folder = tmp_path / "coco_caption"
    shutil.copytree(GOLDEN / "coco_caption", folder)
    edit(folder, name, change)
    with pytest.raises(DataError, match=words):
        build(folder=folder).batch(range(41), 0)


def test_references_of_other_images_and_missing_ones(tmp_path):
    folder = tmp_path / "coco_caption"
    shutil.copytree(GOLDEN / "coco_caption", folder)
    path = folder / "train_caption_coco_format.json"
    content = json.loads(path.read_text())
    other = {"images": [], "annotations": [{"image_id": "99", "caption": "a cat", "id": 1}]}
    path.write_text(json.dumps(other))
    with pytest.raises(DataError, match="captions of other images, such as 99"):
        build("test.yaml", False, folder)
    path.write_text(json.dumps(content | {"images": 5}))
    with pytest.raises(DataError, match="'images' is '5'; expected a list"):
        build("test.yaml", False, folder)
    path.write_text(json.dumps(content | {"images": None}))
    assert build("test.yaml", False, folder).references == build("test.yaml", False).references
    gone = content["annotations"][0]["image_id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != gone]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"image {gone} has no captions"):
        build("test.yaml", False, folder)


def test_ids_as_numbers_and_as_text_are_the_same(tmp_path):
    folder = tmp_path / "coco_caption"
    shutil.copytree(GOLDEN / "coco_caption", folder)
    path = folder / "train_caption_coco_format.json"
    content = json.loads(path.read_text())
    for part in content["annotations"]:
        part["image_id"] = int(part["image_id"])
    content["images"] = [{"id": int(image["id"])} for image in content["images"]]
    path.write_text(json.dumps(content))
    assert build("test.yaml", False, folder).references == build("test.yaml", False).references


def test_images_without_regions_may_be_left_out(tmp_path):
    folder = tmp_path / "coco_caption"
    shutil.copytree(GOLDEN / "coco_caption", folder)
    edit(
        folder,
        "coco.feature.tsv",
        lambda t: first_row(t, lambda line: line.split("\t")[0] + '\t{"num_boxes": 0, "features": ""}'),
    )
    whole, left = build(), build(folder=folder, DATASET__EMPTY_IMAGES="skip")
    assert left.num_images == 7 and left.image_keys == whole.image_keys[1:]
    mine = [c for c, image in zip(whole.captions, whole.caption_images, strict=True) if image != 0]
    assert left.captions == mine and left.caption_images.max() == 6
    assert left.batch([0], 0)[0]["img_feats"].shape[1] == whole.regions.feature_dim


RETRIEVAL = GOLDEN.parent / "retrieval"


def test_vinvls_own_layout(tmp_path):
    """features.tsv and predictions.tsv with train_captions.pt, as retrieval reads them."""
    for part in ("coco_ir", "model_0060000"):
        shutil.copytree(RETRIEVAL / part, tmp_path / part)
    tokenizer = build_tokenizer(str(RETRIEVAL / "checkpoint"), True)
    cfg = settings(tmp_path / "coco_ir", INPUT__NUM_CAPTIONS_PER_IMAGE_TRN=0)
    cfg.INPUT.IMG_FEATURE_DIM = json.loads((RETRIEVAL / "checkpoint" / "config.json").read_text())["img_feature_dim"]
    data = build_caption_data(cfg, tokenizer, "train", training=True)
    assert data.num_captions == sum(map(len, data.references.values())) and data.num_images == len(data.references)
    assert [data.captions[0]] == data.references[int(data.caption_images[0])][:1] and any(data.tags)
    batch, places, labels = data.batch(range(data.num_captions), 0)
    assert len(places) == len(labels) >= data.num_captions
    test = build_caption_data(cfg, tokenizer, "test")
    assert test.captions == [] and len(test.references) == test.num_images and test.tags[0]


def test_ones_own_pictures(tmp_path):
    """A JSONL of captions and an .npz for each picture."""
    (tmp_path / "features").mkdir()
    lines = []
    for number, name in enumerate(("dog", "cat", "cow")):
        features = np.full((2, 2054), 0.5, np.float32)
        np.savez(tmp_path / "features" / f"{name}.npz", features=features, tags=[name, "grass"])
        entry = {
            "image": f"{name}.jpg",
            "captions": [f"a {name}.", f"the {name}."],
            "split": ("train", "val")[number > 1],
        }
        lines.append(json.dumps(entry))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    data = build("train", True, tmp_path)
    assert data.captions == ["a dog.", "the dog.", "a cat.", "the cat."] and data.tags == ["dog grass", "cat grass"]
    val = build("val", False, tmp_path)
    assert val.references == {0: ["a cow.", "the cow."]} and val.features([0])[0].shape == (2, 2054)
