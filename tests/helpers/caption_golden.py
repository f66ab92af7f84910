"""The captioning golden set as the generation takes it, without a data set in between.

What the reference computed is in tests/golden/captioning (README.md there).
"""

import base64
import json
from pathlib import Path

import numpy as np

from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.checkpoints.weights import load_into, read_state
from oscar_paddle.models.config import read_model_config
from oscar_paddle.models.decoding import Specials

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "captioning"
SPECIALS = Specials(cls=9, sep=10, pad=0, mask=11)
MAX_REGIONS, FIRST_TAG, CAPTION_SLOT = 8, 40, 20


def expected():
    """(numbers, arrays) of the reference."""
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8")), np.load(FOLDER / "expected_arrays.npz")


def golden_model(**settings):
    """The checkpoint, in evaluation mode."""
    config = read_model_config(FOLDER / "checkpoint")
    config.__dict__.update(settings)
    model = OscarForCaptioning(config)
    load_into(model, read_state(FOLDER / "checkpoint"), FOLDER)
    model.eval()
    return model


def golden_prefix(tag_slots=30, tags=True):
    """CaptionPrefix of all images; tags and their [SEP] are cut to so many positions."""
    words = json.loads((FOLDER / "tag_ids.json").read_text()) if False else _tags(tag_slots) if tags else [[]] * 8
    lengths = np.array([len(row) for row in words], np.int64)
    regions = _regions()
    return CaptionPrefix(
        input_ids=np.concatenate([*words, []]).astype(np.int64),
        token_type_ids=np.ones(lengths.sum(), np.int64),
        position_ids=np.concatenate([*(FIRST_TAG + np.arange(n) for n in lengths), []]).astype(np.int64),
        text_length=lengths,
        img_feats=np.concatenate(regions),
        num_regions=np.array([len(rows) for rows in regions], np.int64),
    )


def _tags(slots):
    """Of each image, from the inputs that the reference recorded."""
    arrays = expected()[1]
    ids, mask = arrays["test_input_ids"], arrays["test_attention_mask"]
    real = [mask[image, 0, CAPTION_SLOT : ids.shape[1]].astype(bool) for image in range(len(ids))]
    return [ids[image, CAPTION_SLOT:][here][: slots or None] for image, here in enumerate(real)]


def _regions():
    rows = []
    for line in (FOLDER / "coco_caption" / "coco.feature.tsv").read_text().splitlines():
        value = json.loads(line.split("\t")[1])
        features = np.frombuffer(base64.b64decode(value["features"]), np.float32)
        rows.append(features.reshape(value["num_boxes"], -1)[:MAX_REGIONS])
    return rows
