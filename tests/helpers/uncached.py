"""Captions without a cache: each is encoded anew in every step, with the tags and regions of its image."""

import base64
import json

import numpy as np
import paddle

from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.models.packing import pack

FIRST_TAG, CAPTION_SLOT, MAX_REGION = 40, 20, 8  # of the golden set


def golden_prefix(golden, images):
    """CaptionPrefix of images of the golden set, from the reference's tensors."""
    arrays = np.load(golden / "expected_arrays.npz")
    keys = (golden / "coco_caption" / "coco.label.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in (golden / "coco_caption" / "coco.feature.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == [line.split("\t")[0] for line in keys]
    ids, feats = [], []
    for image in images:
        row = arrays["test_input_ids"][image, CAPTION_SLOT:].astype(np.int64)
        ids.append(row[: np.flatnonzero(row)[-1] + 1] if row.any() else row[:0])
        values = base64.b64decode(json.loads(rows[image][1])["features"])
        feats.append(np.frombuffer(values, np.float32).reshape(-1, 2054)[:MAX_REGION])
    return CaptionPrefix(
        input_ids=np.concatenate(ids),
        token_type_ids=np.ones(sum(map(len, ids)), np.int64),
        position_ids=np.concatenate([FIRST_TAG + np.arange(len(own)) for own in ids]),
        text_length=np.array(list(map(len, ids))),
        img_feats=np.concatenate(feats),
        num_regions=np.array(list(map(len, feats))),
    )


class UncachedCaptions:
    """Captions of the images of a prefix, with the interface of those of `models.generation`."""

    def __init__(self, model, prefix, mask_id):
        self.model, self.prefix, self.mask_id = model, prefix, mask_id
        self.images = np.arange(len(prefix.num_regions))
        self.written = None

    def advance(self, ids, parents=None):
        """Words [B, K] behind the captions `parents` [B, K] of the step before -> scores [B, K, V] of the next."""
        if self.written is None:
            self.written = ids[:, :, None]
        else:
            parents = np.tile(np.arange(ids.shape[1]), (len(ids), 1)) if parents is None else parents
            before = np.take_along_axis(self.written, parents[:, :, None], axis=1)
            self.written = np.concatenate([before, ids[:, :, None]], axis=2)
        return np.stack([self._scores(*pair) for pair in zip(self.images, self.written, strict=True)])

    def keep(self, rows):
        self.images, self.written = self.images[rows], self.written[rows]

    @staticmethod
    def worth_leaving(going):
        return False

    def _scores(self, image, captions):
        with paddle.no_grad():
            return self.logits(image, captions).numpy()

    def logits(self, image, captions):
        """Captions [K, n] of an image -> scores [K, V] of the next word, a tensor."""
        own, (count, length) = self.prefix.take([image]), captions.shape
        tags, regions = int(own.text_length[0]), int(own.num_regions[0])
        masks = np.full((count, 1), self.mask_id)
        ids = np.concatenate([captions, masks, np.tile(own.input_ids, (count, 1))], axis=1)
        types = np.r_[np.zeros(length + 1, np.int64), own.token_type_ids]
        places = np.r_[np.arange(length + 1), own.position_ids]
        batch = {
            "input_ids": ids.ravel(),
            "token_type_ids": np.tile(types, count),
            "position_ids": np.tile(places, count),
            "img_feats": own.img_feats,
            "num_regions": np.full(count, regions),
            "region_start": np.zeros(count, np.int64),
            "caption_length": np.full(count, length + 1),
            "text_length": np.full(count, length + 1 + tags),
        }
        states = self.model.bert(pack(batch, "S2S"), ("text_states",))["text_states"]
        at_mask = np.arange(count) * (length + 1 + tags) + length
        return self.model.word_logits(paddle.gather(states, paddle.to_tensor(at_mask)))
