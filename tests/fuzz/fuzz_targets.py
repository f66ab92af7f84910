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
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.captions.own_pictures import read_annotations, read_names
from oscar_paddle.datasets.captions.published import read_caption_index, read_captions, read_image_keys
from oscar_paddle.datasets.checks.dataset import check_dataset
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.packed import PackedFeatures
from oscar_paddle.datasets.regions.packing import pack
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.solvers.tasks.gqa import GqaTask
from oscar_paddle.solvers.tasks.nlvr2 import Nlvr2Task
from oscar_paddle.solvers.tasks.vqa import VqaTask
from oscar_paddle.tools.fetch_files import unpack

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


def _each(keys, *reads):
    _all(*[functools.partial(read, key) for key in keys for read in reads])


def _touch(value):
    """Look at every value, as a memory map may fail only then."""
    if isinstance(value, np.ndarray):
        value.sum() if value.dtype.kind in "fiub" else value.tolist()
    elif isinstance(value, (dict, list, tuple)):
        for entry in value.values() if isinstance(value, dict) else value:
            _touch(entry)


def _saved(save, *values, **named):
    """What `save` writes to a file."""
    buffer = io.BytesIO()
    save(buffer, *values, **named)
    return buffer.getvalue()


def _json(value):
    return json.dumps(value).encode()


def _config(folder, **settings):
    (folder / "run.yaml").write_text("")
    words = {"DATASET.DATA_DIR": folder, "INPUT.IMG_FEATURE_DIM": DIM, **settings}
    return load_config(folder / "run.yaml", [word for pair in words.items() for word in pair])


# ---- files of torch.save, paddle.save and pickle ----


def _torch_sound():
    small = [path for path in sorted((GOLDEN / "torch_files").iterdir()) if path.suffix != ".py"]
    return [{"file.pt": path.read_bytes()} for path in small if not path.name.startswith("refused")]


def _read_torch(folder):
    for map_from in (1, 1 << 30):
        _touch(torch_files.load(folder / "file.pt", map_from))


def _list_sound():
    captions = {7: json.dumps(["a dog", "a café"]), "8": ["one"]}
    index = {7: [[7, 0], [8, 0]], 8: json.dumps([[8, 0]])}
    pickled = [{"x_captions.pt": pickle.dumps(captions, p), "index.pt": pickle.dumps(index, p)} for p in (0, 2, 4)]
    return [{**files, "keys.tsv": b"7\n8\n"} for files in pickled]


def _read_lists(folder):
    index, keys = folder / "index.pt", folder / "keys.tsv"
    _all(lambda: read_captions(folder, "x"), lambda: read_caption_index(index), lambda: read_image_keys(keys))


# ---- features and tags ----

IMAGES = (7, 8, 9)


@functools.cache
def _regions(image_id):
    return np.random.default_rng(image_id).random((1 + image_id % 3, DIM), np.float32)


def _tsv_sound():
    rows = [b"%d\t%d\t%s\n" % (i, len(_regions(i)), base64.b64encode(_regions(i).tobytes())) for i in IMAGES]
    detections = [{"class": "dog", "conf": 0.5, "rect": [0, 1, 20, 30]}, {"class": "red ball", "rect": [1, 2, 3.5, 4]}]
    whole = {"objects": detections, "image_h": 40, "image_w": 50}
    tags = [b"%d\t%s\n" % (i, _json(detections if i == 8 else whole)) for i in IMAGES]
    boxes = [base64.b64encode(np.array([[0, 0, 5, 5]] * len(_regions(i)), np.float32).tobytes()) for i in IMAGES]
    visual = [base64.b64encode(_regions(i)[:, :-6].tobytes()) for i in IMAGES]
    parts = [(i, len(_regions(i)), *pair) for i, *pair in zip(IMAGES, boxes, visual, strict=True)]
    bottom_up = [b"%d\t10\t12\t%d\t%s\t%s\n" % part for part in parts]
    lxmert = [b"%d\t12\t10\tAAAA\tAAAA\tAAAA\tAAAA\t%d\t%s\t%s\n" % part for part in parts]
    sets = []
    for features in (rows, bottom_up, lxmert):
        files = {"imageid2idx.json": b'{"7": 0, "8": 1, "9": 2}'}
        for name, lines in (("features", features), ("predictions", tags)):
            starts = np.cumsum([0, *map(len, lines)])[:-1]
            files |= {f"{name}.tsv": b"".join(lines), f"{name}.lineidx": b"".join(b"%d\n" % start for start in starts)}
        sets.append(files)
    return sets


def _read_tsv(folder):
    def features():
        source = RegionFeatures(folder / "features.tsv", feature_dim=DIM, max_region=2)
        _each([*source.ids[:20], *IMAGES], source.__getitem__, source.number_of_regions)
        source.fingerprint(IMAGES)

    def tags():
        labels = ObjectTags(folder / "predictions.tsv")
        _each(IMAGES, labels.__getitem__, labels.boxes)

    _all(features, tags)


def _layout_sound():
    labels = pickle.dumps({7: "dog ball", 8: [{"class": "cat"}, {"class": "red dog"}], 9: "dog"}, 2)
    files = {"u_img_frcnn_feats.pt": pickle.dumps({i: _regions(i) for i in IMAGES}, 4)}
    files |= {"u_vg_labels.pt": labels, "v_vg_labels.pd": labels}
    for i in IMAGES:
        own = {"features": _regions(i)[:, :2], "boxes": np.array([[0, 0, 5, 5]] * len(_regions(i)), np.float32)}
        own |= {"image_w": 10, "image_h": 12, "tags": ["a", "b"]}
        files[f"v_img_frcnn_feats/{i}.npy"] = _saved(np.save, _regions(i))
        files[f"features/{i}.npz"] = _saved(np.savez, **own)
        files[f"packed/{i}.npz"] = _saved(np.savez_compressed, **own)
    return [files]


def _read_layouts(folder):
    def layout(split, place):
        source = open_regions(folder, split, str(folder / place), feature_dim=DIM, max_region=2)
        tags = source.open_tags(folder, split, "vg")
        _each(IMAGES, source.__getitem__, source.number_of_regions, tags.__getitem__)

    places = (("u", "u_img_frcnn_feats.pt"), ("v", "v_img_frcnn_feats"), ("w", "features"), ("w", "packed"))
    _all(*[functools.partial(layout, *place) for place in places])


def _packed_sound():
    with tempfile.TemporaryDirectory() as name:
        files, store = _tsv_sound()[0], Path(name, "x.packed")
        for file, content in files.items():
            Path(name, file).write_bytes(content)
        sound = []
        for dtype in ("float32", "float16"):
            pack(RegionFeatures(Path(name, "features.tsv"), feature_dim=DIM), store, dtype, progress=False)
            sound.append({"x.packed": store.read_bytes(), "predictions.tsv": files["predictions.tsv"]})
    return sound


def _read_packed(folder):
    store = PackedFeatures(folder / "x.packed", feature_dim=DIM)
    tags = store.open_tags(folder, "train", "vg")
    _each(store.ids[:20], store.__getitem__, tags.__getitem__, store.complete)


# ---- text files ----


def _annotation_sound():
    lines = [{"image": f"{i}.jpg", "captions": ["a dog", "a cat"], "split": "train", "id": i - 4} for i in (7, 8)]
    image = {"split": "restval", "sentences": [{"raw": "a dog"}, {"tokens": ["a", "cat"]}]}
    images = [{"filename": f"{i}.jpg", "imgid": i, **image} for i in (7, 8)]
    own = {"own.jsonl": b"\n".join(map(_json, lines)), "image_names.json": b'{"7": "7.jpg"}'}
    return [{**own, "dataset_x.json": _json({"images": images})}]


def _read_annotation_files(folder):
    files = [folder / name for name in ("own.jsonl", "dataset_x.json")]
    _all(*[functools.partial(read_annotations, file) for file in files], lambda: read_names(folder))


def _settings_sound():
    text = b"_BASE_: base.yaml\nINPUT: {MAX_REGION: 50, ADD_OD_LABEL: no}\nOPTIMIZATION:\n  LR: 2e-5\n"
    vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\ndog\n"
    return [{"run.yaml": text, "base.yaml": b"MISC: {SEED: 7}\n", "vocab.txt": vocabulary}]


def _read_settings(folder):
    _all(lambda: load_config(folder / "run.yaml"), lambda: build_tokenizer(str(folder / "vocab.txt"), True))


# ---- archives ----


def _archive_sound():
    def write_zip(file, method):
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("a/b.txt", "hello" * 20)
            archive.writestr("c.txt", "")

    archives = [_saved(write_zip, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    return [{"file": archive} for archive in archives]


def _read_archive(folder):
    before = set(os.listdir(folder)) | {"out"}, set(os.listdir(folder.parent))
    try:
        unpack(folder / "file", folder / "out")
    finally:
        assert set(os.listdir(folder)) <= before[0] and set(os.listdir(folder.parent)) <= before[1], "wrote elsewhere"


# ---- checkpoints and whole data sets ----


def _checkpoint_sound():
    from safetensors.numpy import save

    layer = {"weight": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    weights = {"model.safetensors": save({f"bert.pooler.dense.{name}": value for name, value in layer.items()})}
    for name, golden in (("pytorch_model.bin", "state_dict_zip.pt"), ("paddle_model.bin", "paddle_model.bin")):
        weights[name] = (GOLDEN / "torch_files" / golden).read_bytes()
    names = ("config.json", "training_args.bin")
    own = {name: (GOLDEN / "retrieval" / "checkpoint" / name).read_bytes() for name in names}
    return [{name: content, **own} for name, content in weights.items()]


def _read_checkpoint(folder):
    from oscar_paddle.models.checkpoints.conversion import read_source
    from oscar_paddle.models.checkpoints.weights import read_state
    from oscar_paddle.models.config import read_model_config

    _all(lambda: _touch(read_state(folder)), lambda: read_model_config(folder), lambda: read_source(folder))


def _data_set_sound():
    captions = pickle.dumps({i: json.dumps([f"caption {n}" for n in range(5)]) for i in IMAGES}, 2)
    index = pickle.dumps({i: json.dumps([[7, 0], [8, 1]]) for i in IMAGES}, 2)
    lists = {"train_captions.pt": captions, "minival_captions.pt": captions, "top.pt": index, "keys.tsv": b"7\n8\n"}
    return [{**lists, **_tsv_sound()[0]}]


def _read_data_set(folder):
    """The checker must never raise: whatever is wrong is a finding."""
    evaluation = {"EVAL.EVAL_CAPTION_INDEX_FILE": "top.pt", "EVAL.EVAL_IMG_KEYS_FILE": "keys.tsv"}
    none = {"PRETRAINED.DIR": folder / "none", "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": 2}
    cfg = _config(folder, **evaluation, **none)
    for most in (0, 2):
        try:
            check_dataset(cfg, ["train", "minival"], max_images=most)
        except Exception as error:
            raise AssertionError(f"the checker raised {error!r}") from error


# ---- questions and statements ----


def _question_sound():
    vqa = {"q": "a dog?", "o": "dog;a", "an": [2, 1], "s": [1, 0.3], "img_id": 7}
    gqa = {"q": "a dog?", "o": "dog", "an": [1], "img_id": "7", "q_id": "07"}
    nlvr2 = {"q": "a", "label": 1, "img_id": {"left": "7", "right": "7"}, "o": {"left": "", "right": "dog"}}
    names = {"train2014_qla_mrcnn.json": vqa, "gqa_all_qla_train.json": gqa, "nlvr2_train.json": nlvr2}
    labels, answers = pickle.dumps({"": 0, "two": 2, "no": 1}, 2), pickle.dumps(["", "no", "two"], 2)
    files = {name: _json([record]) for name, record in names.items()}
    files |= {"trainval_ans2label.pkl": labels, "trainval_testdev_all_ans2label.pkl": labels}
    row = b"7\t2\t%s\n" % base64.b64encode(np.ones((2, DIM), "<f4").tobytes())
    return [{**files, "trainval_label2ans.pkl": answers, "own.tsv": row, "own_offset_map.json": b'{"7": 0}'}]


class _Letters:
    """A tokenizer of single letters: PaddleNLP would take more memory than a reader may."""

    cls_id, sep_id, pad_id, fingerprint = 1, 2, 0, "letters"

    def encode(self, text):
        return [3 + ord(letter) % 90 for letter in text]


def _read_questions(folder):
    cfg = _config(folder, **{"INPUT.MAX_SEQ_LEN": 12, "DATASET.FEAT_FILE": folder / "own.tsv"})

    def read(build):
        data = build(cfg, _Letters(), "train")
        _touch(data.batch(np.arange(data.num_examples)))
        data.soft_targets(np.arange(data.num_examples))

    _each((VqaTask.build_data, GqaTask.build_data, Nlvr2Task.build_data), read)


TARGETS = {
    "torch_files": Target(_torch_sound, _read_torch),
    "lists": Target(_list_sound, _read_lists),
    "features_tsv": Target(_tsv_sound, _read_tsv),
    "other_layouts": Target(_layout_sound, _read_layouts),
    "packed": Target(_packed_sound, _read_packed),
    "annotations": Target(_annotation_sound, _read_annotation_files),
    "settings": Target(_settings_sound, _read_settings),
    "questions": Target(_question_sound, _read_questions),
    "archives": Target(_archive_sound, _read_archive),
    "data_set": Target(_data_set_sound, _read_data_set),
    "checkpoint": Target(_checkpoint_sound, _read_checkpoint, accepts=False),
}
