"""A small clean data set in the published layout, whose parts a test of the checker changes."""

import base64
import json
import pickle

import numpy as np

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.checks.dataset import check_dataset

TRAIN, DEV, TEST = (101, 102, 103, 104), (201, 202), (301, 302, 303)
EVERYTHING = TRAIN + DEV + TEST
WIDTH, HEIGHT = 640, 480
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "image", "caption", "dog", "red", "ball", "cat"]
VOCABULARY += [f"{start}{digit}" for start in ("", "##") for digit in range(10)]
RECTS = [[0, 0, 640, 480], [64, 48, 320, 240]]


def regions_of(image_id, rects=RECTS):
    """[R, 2054] float32 with the six box values of the rects."""
    visual = np.random.default_rng(image_id).random((len(rects), 2048), np.float32)
    corners = np.array(rects, np.float32) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    return np.concatenate([visual, corners, corners[:, 2:] - corners[:, :2]], axis=1).astype("<f4")


def feature_row(image_id, regions, num_boxes=None):
    text = base64.b64encode(np.asarray(regions, "<f4").tobytes()).decode()
    return f"{image_id}\t{len(regions) if num_boxes is None else num_boxes}\t{text}"


def changed(image_id, region, column, value):
    regions = regions_of(image_id)
    regions[region, column] = value
    return regions


def detections(rects=RECTS, names=("dog", "red ball")):
    return [{"class": name, "conf": 0.9 - 0.1 * i, "rect": rect} for i, (name, rect) in enumerate(zip(names, rects))]  # noqa: B905


def tag_row(image_id, objects=None, **more):
    value = {"image_h": HEIGHT, "image_w": WIDTH, "objects": detections() if objects is None else objects, **more}
    return f"{image_id}\t{json.dumps(value)}"


class Data:
    """A small clean data set whose parts a test changes before `write`."""

    def __init__(self, root):
        self.root = root
        self.captions = {
            "train": {i: [f"image {i} caption {n}" for n in range(5)] for i in TRAIN},
            "minival": {i: [f"image {i} caption {n}" for n in range(5)] for i in DEV},
            "test": {i: [f"image {i} caption {n}" for n in range(6)] for i in TEST},
        }
        self.features = [feature_row(i, regions_of(i)) for i in EVERYTHING]
        self.tags = [tag_row(i) for i in EVERYTHING]
        pairs = [[i, n] for i in DEV for n in range(5)]
        self.candidates = {i: json.dumps(pairs) for i in DEV}
        self.settings = {
            "DATASET.DATA_DIR": str(root / "coco_ir"),
            "PRETRAINED.DIR": str(root / "model"),
            "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": 10,
            "EVAL.EVAL_CAPTION_INDEX_FILE": "top.pt",
        }
        self.model_dir = root / "model_0060000"
        (root / "model").mkdir()
        (root / "model" / "vocab.txt").write_text("\n".join(VOCABULARY))

    def write(self):
        folder = self.root / "coco_ir"
        folder.mkdir(parents=True, exist_ok=True)
        self.model_dir.mkdir(exist_ok=True)
        for split, captions in self.captions.items():
            entries = {i: json.dumps(v) if isinstance(v, list) else v for i, v in captions.items()}
            (folder / f"{split}_captions.pt").write_bytes(pickle.dumps(entries, 2))
        (folder / "top.pt").write_bytes(pickle.dumps(self.candidates, 2))
        for name, rows in (("features", self.features), ("predictions", self.tags)):
            lines = [f"{row}\n".encode() for row in rows]
            starts = np.cumsum([0, *map(len, lines)])[:-1]
            (self.model_dir / f"{name}.tsv").write_bytes(b"".join(lines))
            (self.model_dir / f"{name}.lineidx").write_text("".join(f"{start}\n" for start in starts))
        ids = [row.split("\t")[0] for row in self.features]
        (self.model_dir / "imageid2idx.json").write_text(json.dumps({i: n for n, i in enumerate(ids)}))
        return self

    def check(self, split_names=None, **options):
        (self.root / "run.yaml").write_text("")
        words = [word for pair in self.settings.items() for word in pair]
        return check_dataset(load_config(self.root / "run.yaml", words), split_names, **options)


def found(check):
    """{kind: total} of everything but that there is no vocabulary here."""
    counts = {}
    for (kind, _), count in check.findings.counts.items():
        if kind != "no_check":
            counts[kind] = counts.get(kind, 0) + count
    return counts


def examples(check, kind, file):
    """The examples of a kind in the file of this name: [(row from 1 or None, text), ...]."""
    for (name, path), texts in check.findings.examples.items():
        if name == kind and path.endswith(str(file)):
            return [(None if e.row is None else e.row + 1, e.text) for e in texts]
    return []
