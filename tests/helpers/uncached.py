"""Captions without a cache: each is encoded anew in every step, with the tags and regions of its image."""

import numpy as np
import paddle

from oscar_paddle.models.packing import pack


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
