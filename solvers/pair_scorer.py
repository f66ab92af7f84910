"""Scores of images x captions: every pair through the model, nothing computed twice.

Each image is read, embedded and normalised once for a block of images, each caption is tokenised once for the data
set, rows are sorted by length so that next to nothing is padding, and all work around the model is NumPy on whole
batches. Shape letters: I images of a block, m captions compared with each image.
"""

import numpy as np
import paddle

from oscar_paddle.datasets.tensorize import attention_mask
from oscar_paddle.models.bert import Packing
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.packing import pack_rows, pair_bias


class EagerBackend:
    """Runs the model as it is, on any device.

    Args:
        model: OscarForClassification; it is put into evaluation mode.
    """

    def __init__(self, model):
        self.model = model
        model.eval()

    @paddle.no_grad()
    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 array -> embedded regions, a tensor for `margins`."""
        return self.model.bert.embed_regions(paddle.to_tensor(img_feats))

    @paddle.no_grad()
    def margins(self, packed):
        """PackedBatch whose `img_feats` are embedded regions -> [B] float32 array."""
        bert = self.model.bert
        fields = {name: paddle.to_tensor(value) for name, value in packed._asdict().items() if name != "img_feats"}
        packing = Packing(fields["spread"], fields["collect"], fields["first"], fields["bias"])
        pooled = bert.encode(
            fields["input_ids"], fields["token_type_ids"], fields["position_ids"], packed.img_feats, fields["order"],
            packing,
        )  # fmt: skip
        return match_margin(self.model.classifier(pooled)).numpy()


class PairScorer:
    """Scores blocks of images against their captions.

    Args:
        backend: has `embed_regions` and `margins`, see EagerBackend.
        data: RetrievalDataset.
        batch_tokens: positions in one batch, padding included.
    """

    def __init__(self, backend, data, batch_tokens):
        self.backend, self.data, self.batch_tokens = backend, data, batch_tokens

    def columns(self, images):
        """[I, m] int64: the captions that each image is compared with."""
        if self.data.candidates is not None:
            return self.data.candidates[images]
        return np.broadcast_to(np.arange(self.data.num_captions), (len(images), self.data.num_captions))

    def score(self, images, on_pairs=lambda count: None):
        """Margins of some images with their captions.

        Args:
            images: [I] int, image indices.
            on_pairs: called with the number of pairs after each batch (progress).
        Returns:
            [I, m] float32.
        """
        images = np.asarray(images)
        columns = self.columns(images)
        features = [self.data.regions[self.data.image_ids[image]] for image in images]
        num_regions = np.array([len(rows) for rows in features])
        region_start = np.cumsum(num_regions) - num_regions
        regions = self.backend.embed_regions(np.concatenate(features))

        place = np.repeat(np.arange(len(images)), columns.shape[1])
        captions = columns.ravel()
        lengths = self.data.text_lengths(images[place], captions) + num_regions[place]
        margins = np.empty(len(place), np.float32)
        for batch in length_batches(lengths, self.batch_tokens):
            here = place[batch]
            packed = self.pack(images[here], captions[batch], num_regions[here], region_start[here], regions)
            margins[batch] = self.backend.margins(packed)
            on_pairs(len(batch))
        return margins.reshape(columns.shape)

    def pack(self, images, captions, num_regions, region_start, regions):
        """PackedBatch of pairs whose images' regions stand in `regions` from row `region_start` on."""
        input_ids, token_type_ids, caption_length, text_length = self.data.text_rows(images, captions)
        packed = pack_rows(input_ids, token_type_ids, text_length, num_regions, region_start, regions)
        if self.data.mask_type == "CLR":
            return packed
        widths = input_ids.shape[1], int(num_regions.max())
        mask = attention_mask(self.data.mask_type, caption_length, text_length, num_regions, *widths)
        return packed._replace(bias=pair_bias(mask, widths[0], text_length, num_regions))


def length_batches(lengths, batch_tokens):
    """Rows sorted by length, cut into batches of at most `batch_tokens` positions, padding included.

    Args:
        lengths: [P] int.
        batch_tokens: a single longer row still makes a batch.
    Yields:
        index arrays that together hold every row once, longest rows first.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
