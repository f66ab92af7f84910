"""What is fuzzed: every reader of files that strangers make, with sound files to start from.

A target has a function that makes sound files, {name: bytes}, several sets of them, and a function that reads a folder
with such files to the end. Damaged files may only end in an error of `config/errors.py`.
"""

import base64
import functools
import io
import json
import os
import pickle
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.captions.own_pictures import read_annotations, read_names
from oscar_paddle.datasets.captions.published import read_caption_index, read_captions, read_image_keys
from oscar_paddle.datasets.checks.dataset import check_dataset
from oscar_paddle.datasets.download.archives import unpack
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.gqa_dataset import build_gqa_data
from oscar_paddle.datasets.nlvr2_dataset import build_nlvr2_data
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.packed import PackedFeatures
from oscar_paddle.datasets.regions.packing import pack
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.datasets.vqa_dataset import build_vqa_data

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DIM = 8  # values of a region: the readers take any width, and small files are damaged more thoroughly


class Target(NamedTuple):
    """A reader under test.

    Attributes:
        sound: function () -> list of {file name: bytes}.
        read: function (folder) that reads such files.
        accepts: whether sound files must be read without an error.
    """

    sound: object
    read: object
    accepts: bool = True


# ---- files of torch.save, paddle.save and pickle ----


def _torch_sound():
    small = [path for path in sorted((GOLDEN / "torch_files").iterdir()) if path.suffix != ".py"]
    return [{"file.pt": path.read_bytes()} for path in small if not path.name.startswith("refused")]


def _read_torch(folder):
    for map_from in (1, 1 << 30):
        _touch(torch_files.load(folder / "file.pt", map_from))


def _touch(value):
    """Look at every value, as a memory map may fail only then."""
    if isinstance(value, np.ndarray):
        value.sum() if value.dtype.kind in "fiub" else value.tolist()
    elif isinstance(value, dict):
        for entry in value.values():
            _touch(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _touch(entry)


def _list_sound():
    captions = {7: json.dumps(["a dog", "a café"]), "8": ["one"]}
    index = {7: [[7, 0], [8, 0]], 8: json.dumps([[8, 0]])}
    return [
        {
            "x_captions.pt": pickle.dumps(captions, protocol),
            "index.pt": pickle.dumps(index, protocol),
            "keys.tsv": b"7\n8\n",
        }
        for protocol in (0, 2, 4)
    ]


def _read_lists(folder):
    _all(
        lambda: read_captions(folder, "x"),
        lambda: read_caption_index(folder / "index.pt"),
        lambda: read_image_keys(folder / "keys.tsv"),
    )


def _all(*steps):
    """Every step is taken; the first error is raised at the end."""
    errors = []
    for step in steps:
        try:
            step()
        except Exception as error:
            errors.append(error)
    for error in sorted(errors, key=lambda error: hasattr(error, "exit_code")):  # other errors than ours come first
        raise error


# ---- features and tags ----


@functools.cache
def _regions(image_id, dim=DIM):
    return np.random.default_rng(image_id).random((1 + image_id % 3, dim), np.float32)


def _tsv_sound():
    texts = {i: base64.b64encode(_regions(i).tobytes()).decode() for i in (7, 8, 9)}
    rows = [f"{i}\t{len(_regions(i))}\t{text}\n".encode() for i, text in texts.items()]
    tags = _tag_rows()
    return [
        {
            "features.tsv": b"".join(rows),
            "features.lineidx": _index(rows),
            "predictions.tsv": b"".join(tags),
            "predictions.lineidx": _index(tags),
            "imageid2idx.json": b'{"7": 0, "8": 1, "9": 2}',
        }
    ]


def _tag_rows():
    detections = [{"class": "dog", "conf": 0.5, "rect": [0, 1, 20, 30]}, {"class": "red ball", "rect": [1, 2, 3.5, 4]}]
    whole = {"objects": detections, "image_h": 40, "image_w": 50}
    return [f"{i}\t{json.dumps(value)}\n".encode() for i, value in ((7, whole), (8, detections), (9, whole))]


def _index(rows):
    return "".join(f"{start}\n" for start in np.cumsum([0, *map(len, rows)])[:-1]).encode()


def _read_tsv(folder):
    def features():
        source = RegionFeatures(folder / "features.tsv", DIM, max_region=2)
        _all(*[functools.partial(source.__getitem__, key) for key in [*source.ids[:20], 7, 8, 9]])
        source.fingerprint([7, 8, 9])

    def tags():
        labels = ObjectTags(folder / "predictions.tsv")
        reads = [functools.partial(read, key) for key in (7, 8, 9) for read in (labels.__getitem__, labels.boxes)]
        _all(*reads)

    _all(features, tags)


def _v1_sound():
    arrays = {i: _regions(i) for i in (7, 8, 9)}
    labels = {7: "dog ball", 8: [{"class": "cat"}, {"class": "red dog"}], 9: "dog"}
    own = {}
    for i in (7, 8, 9):
        boxes = np.array([[0, 0, 5, 5]] * len(_regions(i)), np.float32)
        features = {"features": _regions(i)[:, :2], "boxes": boxes, "image_w": 10, "image_h": 12, "tags": ["a", "b"]}
        for name, save in ((f"features/{i}.npz", np.savez), (f"packed/{i}.npz", np.savez_compressed)):
            buffer = io.BytesIO()
            save(buffer, **features)
            own[name] = buffer.getvalue()
        buffer = io.BytesIO()
        np.save(buffer, _regions(i))
        own[f"v_img_frcnn_feats/{i}.npy"] = buffer.getvalue()
    v1 = {"u_img_frcnn_feats.pt": pickle.dumps(arrays, 4), "u_vg_labels.pt": pickle.dumps(labels, 2)}
    return [{**v1, "v_vg_labels.pd": pickle.dumps(labels, 2), **own}]


def _read_v1(folder):
    def layout(split, place):
        source = open_regions(folder, split, str(place) if place else "", feature_dim=DIM, max_region=2)
        tags = source.open_tags(folder, split, "vg")
        _all(*[functools.partial(read.__getitem__, key) for key in (7, 8, 9) for read in (source, tags)])

    places = (
        ("u", folder / "u_img_frcnn_feats.pt"),
        ("v", folder / "v_img_frcnn_feats"),
        ("w", folder / "features"),
        ("w", folder / "packed"),
    )
    _all(*[functools.partial(layout, *place) for place in places])


def _packed_sound():
    with tempfile.TemporaryDirectory() as name:
        for file, content in _tsv_sound()[0].items():
            Path(name, file).write_bytes(content)
        stores = []
        for dtype in ("float32", "float16"):
            pack(RegionFeatures(Path(name, "features.tsv"), DIM), Path(name, "x.packed"), dtype, progress=False)
            stores.append({"x.packed": Path(name, "x.packed").read_bytes(), "predictions.tsv": b"".join(_tag_rows())})
    return stores


def _read_packed(folder):
    store = PackedFeatures(folder / "x.packed", DIM)
    tags = store.open_tags(folder, "train", "vg")
    _all(*[functools.partial(read.__getitem__, key) for key in store.ids[:20] for read in (store, tags)])
    _all(*[functools.partial(store.complete, key) for key in store.ids[:20]])


# ---- text files ----


def _annotation_sound():
    lines = [{"image": f"{i}.jpg", "captions": ["a dog", "a cat"], "split": "train"} for i in (7, 8)]
    lines[0]["id"], lines[1]["id"] = 3, 4
    sentences = [{"raw": "a dog"}, {"tokens": ["a", "cat"]}]
    images = [{"filename": f"{i}.jpg", "imgid": i, "split": "restval", "sentences": sentences} for i in (7, 8)]
    return [
        {
            "own.jsonl": "\n".join(map(json.dumps, lines)).encode(),
            "image_names.json": b'{"7": "7.jpg"}',
            "dataset_x.json": json.dumps({"images": images}).encode(),
        }
    ]


def _read_annotation_files(folder):
    _all(
        lambda: read_annotations(folder / "own.jsonl"),
        lambda: read_annotations(folder / "dataset_x.json"),
        lambda: read_names(folder),
    )


def _settings_sound():
    text = "_BASE_: base.yaml\nINPUT: {MAX_REGION: 50, ADD_OD_LABEL: no}\nOPTIMIZATION:\n  LR: 2e-5\n"
    vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\ndog\n"
    return [{"run.yaml": text.encode(), "base.yaml": b"MISC: {SEED: 7}\n", "vocab.txt": vocabulary.encode()}]


def _read_settings(folder):
    _all(lambda: load_config(folder / "run.yaml"), lambda: build_tokenizer(str(folder / "vocab.txt"), True))


# ---- archives ----


def _archive_sound():
    plain, packed, tar = io.BytesIO(), io.BytesIO(), {}
    for buffer, method in ((plain, zipfile.ZIP_STORED), (packed, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/b.txt", "hello" * 20)
            archive.writestr("c.txt", "")
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for name in ("a/b.txt", "c.txt"):
                info = tarfile.TarInfo(name)
                info.size = 100
                archive.addfile(info, io.BytesIO(b"x" * 100))
        tar[mode] = buffer.getvalue()
    return [{"file": content} for content in (plain.getvalue(), packed.getvalue(), *tar.values())]


def _read_archive(folder):
    before = set(os.listdir(folder)) | {"out"}, set(os.listdir(folder.parent))
    try:
        unpack(folder / "file", folder / "out")
    finally:
        assert set(os.listdir(folder)) <= before[0] and set(os.listdir(folder.parent)) <= before[1], "wrote elsewhere"


# ---- checkpoints and whole data sets ----


def _checkpoint_sound():
    from safetensors.numpy import save

    folder = GOLDEN / "retrieval" / "checkpoint"
    config = (folder / "config.json").read_bytes()
    layer = {"weight": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    tensors = {f"bert.pooler.dense.{name}": value for name, value in layer.items()}
    state = (GOLDEN / "torch_files" / "state_dict_zip.pt").read_bytes()
    paddle = (GOLDEN / "torch_files" / "paddle_model.bin").read_bytes()
    own = {"config.json": config, "training_args.bin": (folder / "training_args.bin").read_bytes()}
    return [
        {"model.safetensors": save(tensors), **own},
        {"pytorch_model.bin": state, **own},
        {"paddle_model.bin": paddle, **own},
    ]


def _read_checkpoint(folder):
    from oscar_paddle.models.checkpoints.conversion import read_source
    from oscar_paddle.models.checkpoints.weights import read_state
    from oscar_paddle.models.config import read_model_config

    _all(lambda: _touch(read_state(folder)), lambda: read_model_config(folder), lambda: read_source(folder))


def _data_set_sound():
    captions = {i: json.dumps([f"caption {n}" for n in range(5)]) for i in (7, 8, 9)}
    index = {i: json.dumps([[7, 0], [8, 1]]) for i in (7, 8, 9)}
    return [
        {
            **{f"{split}_captions.pt": pickle.dumps(captions, 2) for split in ("train", "minival")},
            "top.pt": pickle.dumps(index, 2),
            "keys.tsv": b"7\n8\n",
            **_tsv_sound()[0],
        }
    ]


def _read_data_set(folder):
    """The checker must never raise: whatever is wrong is a finding."""
    (folder / "run.yaml").write_text("")
    settings = {
        "DATASET.DATA_DIR": folder,
        "PRETRAINED.DIR": folder / "none",
        "INPUT.IMG_FEATURE_DIM": DIM,
        "EVAL.EVAL_CAPTION_INDEX_FILE": "top.pt",
        "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": 2,
        "EVAL.EVAL_IMG_KEYS_FILE": "keys.tsv",
    }
    cfg = load_config(folder / "run.yaml", [word for pair in settings.items() for word in pair])
    for most in (0, 2):
        try:
            check_dataset(cfg, ["train", "minival"], max_images=most)
        except Exception as error:
            raise AssertionError(f"the checker raised {error!r}") from error


# ---- questions and statements ----


def _question_sound():
    row = base64.b64encode(np.ones((2, DIM), "<f4").tobytes())
    labels, answers = pickle.dumps({"": 0, "two": 2, "no": 1}, 2), pickle.dumps(["", "no", "two"], 2)
    vqa = [{"q": "a dog?", "o": "dog;a", "an": [2, 1], "s": [1, 0.3], "img_id": 7}]
    gqa = [{"q": "a dog?", "o": "dog", "an": [1], "img_id": "7", "q_id": "07"}]
    nlvr2 = [{"q": "a", "label": 1, "img_id": {"left": "7", "right": "7"}, "o": {"left": "", "right": "dog"}}]
    names = {"train2014_qla_mrcnn.json": vqa, "gqa_all_qla_train.json": gqa, "nlvr2_train.json": nlvr2}
    return [
        {
            **{name: json.dumps(records).encode() for name, records in names.items()},
            "trainval_ans2label.pkl": labels,
            "trainval_label2ans.pkl": answers,
            "trainval_testdev_all_ans2label.pkl": labels,
            "own.tsv": b"7\t2\t" + row + b"\n",
            "own_offset_map.json": b'{"7": 0}',
        }
    ]


class _Letters:
    """A tokenizer of single letters: PaddleNLP would take more memory than a reader may."""

    cls_id, sep_id, pad_id, fingerprint = 1, 2, 0, "letters"

    def encode(self, text):
        return [3 + ord(letter) % 90 for letter in text]


def _read_questions(folder):
    (folder / "run.yaml").write_text("")
    settings = {
        "DATASET.DATA_DIR": folder,
        "INPUT.IMG_FEATURE_DIM": DIM,
        "INPUT.MAX_SEQ_LEN": 12,
        "DATASET.FEAT_FILE": folder / "own.tsv",
    }
    cfg = load_config(folder / "run.yaml", [word for pair in settings.items() for word in pair])

    def read(build):
        data = build(cfg, _Letters(), "train")
        _touch(data.batch(np.arange(data.num_examples)))
        data.soft_targets(np.arange(data.num_examples))

    _all(lambda: read(build_vqa_data), lambda: read(build_gqa_data), lambda: read(build_nlvr2_data))


TARGETS = {
    "torch_files": Target(_torch_sound, _read_torch),
    "lists": Target(_list_sound, _read_lists),
    "features_tsv": Target(_tsv_sound, _read_tsv),
    "other_layouts": Target(_v1_sound, _read_v1),
    "packed": Target(_packed_sound, _read_packed),
    "annotations": Target(_annotation_sound, _read_annotation_files),
    "settings": Target(_settings_sound, _read_settings),
    "questions": Target(_question_sound, _read_questions),
    "archives": Target(_archive_sound, _read_archive),
    "data_set": Target(_data_set_sound, _read_data_set),
    "checkpoint": Target(_checkpoint_sound, _read_checkpoint, accepts=False),
}
