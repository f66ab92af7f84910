"""The golden set of referring expressions as batches for the model, straight from its files and expected arrays."""

import base64
import json
import pickle

import lmdb
import numpy as np

from oscar_paddle.models.stream_packing import pack_streams


class Golden:
    """Args: folder: tests/golden/vilbert_rec."""

    def __init__(self, folder):
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.port = json.loads((folder / "expected_port_recipe.json").read_text())
        self.arrays = np.load(folder / "expected_arrays.npz")
        data = folder / "data" / "referExpression"
        self.proposals = _features(data / "refcoco+_resnet101_faster_rcnn_genome.lmdb")
        self.truth = _features(data / "refcoco+_gt_resnet101_faster_rcnn_genome.lmdb")

    def examples(self, split, sent_ids):
        """Numbers of expressions in the split's arrays."""
        found = {entry["sent_id"]: number for number, entry in enumerate(self.expected["entries"][split])}
        return [found[number] for number in sent_ids]

    def batch(self, split, examples):
        """(StreamBatch, targets [Pv] float32) of expressions of a split; each distinct image is there once."""
        masks = {name: self.arrays[f"{split}_{name}"][examples] for name in ("input_mask", "image_mask", "target")}
        text = masks["input_mask"].astype(bool)
        images = [self.expected["entries"][split][number]["image_id"] for number in examples]
        distinct = {image: example for image, example in zip(images, examples, strict=True)}
        num_regions = {image: int(self.arrays[f"{split}_image_mask"][e].sum()) for image, e in distinct.items()}
        start = dict(zip(distinct, np.cumsum([0, *num_regions.values()]), strict=False))
        locations = [self.arrays[f"{split}_spatials"][e, : num_regions[image]] for image, e in distinct.items()]
        packed = pack_streams(
            {
                "input_ids": self.arrays[f"{split}_input_ids"][examples][text],
                "token_type_ids": self.arrays[f"{split}_segment_ids"][examples][text],
                "position_ids": np.nonzero(text)[1],
                "text_length": text.sum(axis=1),
                "img_feats": np.concatenate([self._rows(split, image) for image in distinct]),
                "img_locs": np.concatenate(locations),
                "num_regions": np.array([num_regions[image] for image in images]),
                "region_start": np.array([start[image] for image in images]),
            }
        )
        return packed, masks["target"][masks["image_mask"].astype(bool)]

    def _rows(self, split, image):
        own = self.proposals[str(image)]
        rows = [own.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32), own]
        return np.concatenate([*rows, self.truth[str(image)]] if split == "train" else rows)


def _features(store):
    """{image id: [n, 2048] float32} of a store in vilbert_beta's form."""
    with lmdb.open(str(store), readonly=True, lock=False) as file, file.begin() as transaction:
        records = {key.decode(): pickle.loads(value) for key, value in transaction.cursor() if key != b"keys"}
    return {
        image: np.frombuffer(base64.b64decode(record["features"]), np.float32).reshape(int(record["num_boxes"]), -1)
        for image, record in records.items()
    }
