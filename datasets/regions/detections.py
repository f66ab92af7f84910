"""What a detector has found, in files: blocks while it works, then the layouts that the tasks read.

A row of a block is the picture's key, JSON, and base64 of the features float32 [k, F]. The JSON has what VinVL's
predictions.tsv has: {"image_w", "image_h", "objects": [{"class", "conf", "rect"[, "attributes", "attr_scores"]}]}; or
{"skipped": why} of a picture that could not be read.
"""

import base64
import itertools
import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.datasets.regions.values import BOX_DIM, box_values

LAYOUTS = ("store", "vinvl", "captioning", "bottom-up", "npz")


class Detection(NamedTuple):
    """One picture: key, facts (the JSON of a row), features [k, F] float32 (None where it was skipped)."""

    key: str
    facts: dict
    features: np.ndarray | None

    def rows(self):
        """[k, F + 6] float32 as the models take them."""
        boxes = np.array([item["rect"] for item in self.facts["objects"]], np.float32)
        return np.concatenate([self.features, box_values(boxes, self.facts["image_w"], self.facts["image_h"])], axis=1)


def write_block(path, detections):
    """Write Detections whole or not at all."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        for found in detections:
            features = b"" if found.features is None else base64.b64encode(found.features.astype("<f4").tobytes())
            file.write(b"\t".join([found.key.encode(), json.dumps(found.facts).encode(), features]) + b"\n")


def read_block(path):
    """Yields the Detections of a block."""
    with open(path, "rb") as file:
        for line in file:
            key, facts, features = line.rstrip(b"\n").split(b"\t")
            facts = json.loads(facts)
            if "skipped" in facts:
                yield Detection(key.decode(), facts, None)
                continue
            values = np.frombuffer(base64.b64decode(features), "<f4").reshape(len(facts["objects"]), -1)
            yield Detection(key.decode(), facts, values)


# ---- the layouts that tasks read


def write_layout(layout, folder, detections, name="images"):
    """Write all pictures' regions in one layout, whole or not at all; skipped ones are left out.

    Args:
        layout: one of LAYOUTS.
            store: features.packed, predictions.tsv (tags and boxes), imageid2idx.json
            vinvl: features.tsv, predictions.tsv (+ .lineidx), imageid2idx.json
            captioning: <name>.feature.tsv, <name>.label.tsv (+ .lineidx), rows of JSON
            bottom-up: <name>.tsv of 2048 values and boxes in pixels, as generate_tsv.py writes them
            npz: features/<key>.npz each, with boxes, size and tags
        folder: Path; made where it is missing, other files in it stay.
        detections: iterable of Detections, read once.
        name: of the files of two layouts.
    Returns:
        list of Paths.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = (found for found in detections if found.features is not None)
    first = next(kept, None)
    if first is None:
        raise DataError(f"{folder}: no picture could be read, so there is nothing to write")
    return _WRITERS[layout](folder, itertools.chain([first], kept), name)


def _write_vinvl(folder, detections, name):
    numbers = {}
    features, predictions = folder / "features.tsv", folder / "predictions.tsv"
    with _rows(features) as add_features, _rows(predictions) as add_predictions:
        for found in detections:
            numbers[found.key] = len(numbers)
            add_features(found.key, len(found.features), _text(found.rows()))
            add_predictions(found.key, json.dumps(found.facts))
    return [features, predictions, _write_json(folder / "imageid2idx.json", numbers)]


def _write_store(folder, detections, name):
    from oscar_paddle.datasets.regions.packing import pack
    from oscar_paddle.datasets.regions.vinvl import RegionFeatures

    first = next(detections)
    with tempfile.TemporaryDirectory(prefix=".tmp-packing-", dir=folder) as temporary:
        features, *others = _write_vinvl(Path(temporary), itertools.chain([first], detections), name)
        source = RegionFeatures(features, feature_dim=first.features.shape[1] + BOX_DIM, cache_bytes=0)
        pack(source, folder / "features.packed", progress=False)
        others.append(others[0].with_suffix(".lineidx"))
        for path in others:
            path.replace(folder / path.name)
    return [folder / "features.packed", *(folder / path.name for path in others)]


def _write_captioning(folder, detections, name):
    features, labels = folder / f"{name}.feature.tsv", folder / f"{name}.label.tsv"
    with _rows(features) as add_features, _rows(labels) as add_labels:
        for found in detections:
            content = {"num_boxes": len(found.features), "features": _text(found.rows())}
            add_features(found.key, json.dumps(content))
            add_labels(found.key, json.dumps(found.facts["objects"]))
    return [features, labels]


def _write_bottom_up(folder, detections, name):
    path = folder / f"{name}.tsv"
    with _rows(path) as add:
        for found in detections:
            boxes = np.array([item["rect"] for item in found.facts["objects"]], "<f4")
            size = found.facts["image_w"], found.facts["image_h"]
            add(found.key, *size, len(boxes), _text(boxes), _text(found.features))
    return [path]


def _write_npz(folder, detections, name):
    paths = []
    for found in detections:
        paths.append(folder / "features" / f"{found.key}.npz")
        objects = found.facts["objects"]
        with whole_file(paths[-1]) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                features=found.features,
                boxes=np.array([item["rect"] for item in objects], np.float32),
                image_w=found.facts["image_w"],
                image_h=found.facts["image_h"],
                tags=np.array([item["class"] for item in objects]),
            )
    return paths


_WRITERS = {
    "store": _write_store,
    "vinvl": _write_vinvl,
    "captioning": _write_captioning,
    "bottom-up": _write_bottom_up,
    "npz": _write_npz,
}


@contextmanager
def _rows(path):
    """A function that writes a row's columns to a `.tsv`, whole or not at all, and its offset to the `.lineidx`."""
    with (
        whole_file(path) as temporary,
        whole_file(path.with_suffix(".lineidx")) as index,
        open(temporary, "wb") as rows,
        open(index, "wb") as offsets,
    ):

        def write(*columns):
            offsets.write(b"%d\n" % rows.tell())
            rows.write("\t".join(map(str, columns)).encode() + b"\n")

        yield write


def _text(values):
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def _write_json(path, value):
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
    return path
