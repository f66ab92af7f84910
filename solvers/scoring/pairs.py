"""Scores of images x captions: every pair through the model, nothing computed twice.

The matrix of pairs is cut into blocks. For a block each image is read, embedded and normalised once; captions and tags
were tokenised once for the data set; pairs are sorted by length, so that batches hold rows of nearly one length and
next to nothing is padding; and all work around the model is NumPy on the whole block. What a block's margins are
depends on the block alone, never on which rank computes it or what was computed before.

Shape letters: I images of a block, m captions of a block, B rows of a batch, N longest row, T text positions,
Pt real text positions, Pu regions.
"""

import time
from typing import NamedTuple

import numpy as np
import paddle

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.tensorize import KINDS, VISIBLE_PAIRS
from oscar_paddle.models.bert import HIDDEN_BIAS, EqualRows
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.packing import RowBatch, length_bias

# Pairs of a block: at most what a killed run may lose, at least what makes batches of nearly equal rows; in between,
# a small matrix is cut into about 32 blocks, so that several ranks have something to do.
BLOCK_PAIRS = 64, 1024


class EagerBackend:
    """Runs the model as it is, on any device.

    Args:
        model: OscarForClassification; it is put into evaluation mode.
        precision: "float32", or "bfloat16" or "float16" for automatic mixed precision (GPUs).
        fused: use Paddle's fused attention.
    """

    def __init__(self, model, precision="float32", fused=False):
        model.eval()
        self.model, self.precision, self.fused = model, precision, fused
        self.name = f"eager Paddle, {precision}" + (", fused attention" if fused else "")

    @paddle.no_grad()
    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 array -> embedded regions, float32, as `margins` takes them."""
        return self.model.bert.embed_regions(paddle.to_tensor(img_feats))

    @paddle.no_grad()
    def margins(self, batch, regions):
        """RowBatch, and what `embed_regions` made of the regions it points to -> [B] float32 array."""
        with self._autocast():
            return match_margin(self.model.classifier(self._encode(batch, regions))).numpy()

    @paddle.no_grad()
    def pooled(self, batch, regions):
        """The same -> [B, H] float32 array of pooled vectors."""
        with self._autocast():
            pooled = self._encode(batch, regions)
        return pooled.astype("float32").numpy()

    def _encode(self, batch, regions):
        ids, types, positions, order, bias = (paddle.to_tensor(field) for field in batch)
        for layer in self.model.bert.encoder.layer:
            layer.attention.self.fused = self.fused
        return self.model.bert.encode(ids, types, positions, regions, order, EqualRows(bias))

    def _autocast(self):
        half = self.precision != "float32"
        return paddle.amp.auto_cast(enable=half, dtype=self.precision if half else "float16")


class Block(NamedTuple):
    """A part of the matrix of pairs: rows images.start to images.stop, columns captions.start to captions.stop."""

    images: range
    captions: range

    @property
    def pairs(self):
        return len(self.images) * len(self.captions)


def image_groups(num_images, num_columns):
    """The matrix of pairs as blocks, grouped by the images they share.

    The layout depends on the size of the matrix only, so that runs with any number of ranks, killed or not, agree.

    Returns:
        list of lists of Blocks; those of one list have the same images.
    """
    most = min(max(num_images * num_columns // 32, BLOCK_PAIRS[0]), BLOCK_PAIRS[1])
    height = max(1, most // num_columns)
    parts = -(-num_columns // most) if height == 1 else 1
    width = -(-num_columns // parts)
    columns = [range(start, min(start + width, num_columns)) for start in range(0, num_columns, width)]
    rows = [range(start, min(start + height, num_images)) for start in range(0, num_images, height)]
    return [[Block(images, captions) for captions in columns] for images in rows]


def num_columns(data):
    """Captions that each image is compared with: all of the split, or its own candidates."""
    return data.num_captions if data.candidates is None else data.candidates.shape[1]


class PairScorer:
    """Scores pairs, most often all of a block.

    Args:
        backend: has `embed_regions` and `margins`, see EagerBackend.
        data: RetrievalDataset.
        batch_tokens: positions in one batch, padding included.
    Attributes:
        num_columns: captions that each image is compared with.
    """

    unit = "pairs"

    def __init__(self, backend, data, batch_tokens):
        self.backend, self.data, self.batch_tokens = backend, data, batch_tokens
        self.num_columns = num_columns(data)
        self._embedded = None  # images and their regions, for the next pairs of the same images

    @property
    def title(self):
        """What there is to score, for messages."""
        rows, columns = self.data.num_images, self.num_columns
        return f"{rows:,} images x {columns:,} captions = {rows * columns:,} pairs"

    def pairs(self, block):
        """Images and captions of the pairs of a block, [I * m] int64 each, row by row."""
        images = np.arange(block.images.start, block.images.stop)
        columns = np.arange(block.captions.start, block.captions.stop)
        if self.data.candidates is None:
            captions = np.tile(columns, len(images))
        else:
            captions = self.data.candidates[np.ix_(images, columns)].ravel()
        return np.repeat(images, len(columns)), captions

    def score(self, block, on_pairs=lambda count: None):
        """Margins of one block.

        Args:
            block: Block.
            on_pairs: called with the number of pairs after each batch (progress).
        Returns:
            [I, m] float32.
        Raises:
            DataError: a margin is NaN.
        """
        images, captions = self.pairs(block)
        margins = np.empty(len(images), np.float32)
        for rows, batch, regions in self.batches(images, captions):
            margins[rows] = self.backend.margins(batch, regions)
            on_pairs(len(rows))
        self._refuse_nan(images, captions, margins)
        return margins.reshape(len(block.images), len(block.captions))

    def pairs_per_second(self, block, seconds=1.0):
        """Speed, measured for about a second on the first batches of a block and scaled to its average pair."""
        images, captions = self.pairs(block)
        positions = spent = 0.0
        for number, (_, batch, regions) in enumerate(self.batches(images, captions)):
            if number == 0:
                self.backend.margins(batch, regions)  # the first run also prepares what the later ones use
            started = time.perf_counter()
            self.backend.margins(batch, regions)
            spent += time.perf_counter() - started
            positions += batch.order.size
            if spent > seconds:
                break
        distinct, place = np.unique(images, return_inverse=True)
        per_pair = (self.data.text_lengths(images, captions) + self._regions(distinct)[1][place]).mean()
        return positions / spent / per_pair

    def batches(self, images, captions):
        """Pairs as batches of nearly equal rows.

        Args:
            images, captions: [pairs] int.
        Yields:
            (which of the pairs [B], RowBatch, embedded regions), longest rows first.
        """
        distinct, place = np.unique(images, return_inverse=True)
        regions, num_regions, region_start = self._regions(distinct)
        lengths = self.data.text_lengths(images, captions) + num_regions[place]
        by_length = np.argsort(-lengths, kind="stable")
        place, lengths = place[by_length], lengths[by_length]
        rows = TextRows(self.data.text_rows(images[by_length], captions[by_length]), self.data.mask_type)
        for start, stop in length_batches(lengths, self.batch_tokens):
            here = slice(start, stop)
            yield by_length[here], rows.batch(here, lengths[here], region_start[place[here]]), regions

    def _regions(self, images):
        """(embedded regions of the images, number of regions [I], where those of each image start [I])."""
        if self._embedded is None or not np.array_equal(self._embedded[0], images):
            features = [self.data.regions[self.data.image_ids[image]] for image in images]
            num_regions = np.array([len(rows) for rows in features])
            start = np.cumsum(num_regions) - num_regions
            self._embedded = images, (self.backend.embed_regions(np.concatenate(features)), num_regions, start)
        return self._embedded[1]

    def _refuse_nan(self, images, captions, margins):
        nan = np.flatnonzero(np.isnan(margins))
        if nan.size:
            image, caption = self.data.image_ids[images[nan[0]]], self.data.caption_ids[captions[nan[0]]]
            raise DataError(
                f"image {image}, caption {caption[1]} of image {caption[0]}: the margin is NaN; the weights hold NaN, "
                f"or overflow in {self.backend.name}"
            )


class TextRows:
    """The text of many pairs, of which batches are slices.

    Args:
        text_rows: what `TextBuilder.build_rows` returns.
        mask_type: INPUT.ATT_MASK_TYPE.
    """

    def __init__(self, text_rows, mask_type):
        ids, types, self.caption_length, self.text_length = text_rows
        real = np.arange(ids.shape[1]) < self.text_length[:, None]
        self.ids, self.types, self.positions = ids[real], types[real], np.nonzero(real)[1]
        self.start = np.concatenate([[0], np.cumsum(self.text_length)])
        self.mask_type = mask_type

    def batch(self, here, lengths, region_start):
        """RowBatch of consecutive pairs.

        Args:
            here: slice of the pairs.
            lengths: [B] int, positions of each, text and regions.
            region_start: [B] int, row of the embedded regions where those of each pair's image start.
        """
        text = slice(self.start[here.start], self.start[here.stop])
        text_length = self.text_length[here, None]
        column = np.arange(int(lengths.max()))
        from_text = self.start[here, None] - text.start + column
        from_image = (text.stop - text.start + region_start)[:, None] - text_length + column
        order = np.where(column < text_length, from_text, from_image)
        if self.mask_type == "CLR":
            bias = length_bias(lengths, len(column))
        else:
            bias = kind_bias(self.mask_type, self.caption_length[here], text_length[:, 0], lengths, len(column))
        return RowBatch(
            input_ids=self.ids[text],
            token_type_ids=self.types[text],
            position_ids=self.positions[text],
            order=np.where(column < lengths[:, None], order, 0).astype(np.int32),
            bias=bias,
        )


def kind_bias(mask_type, caption_length, text_length, lengths, longest):
    """[B] lengths -> [B, 1, N, N] float32: 0 where the query's kind of position sees the key's, else -10000.

    Args:
        mask_type: "CL", "CR" or "LR", see `datasets.tensorize.attention_mask`.
        caption_length, text_length, lengths: [B] int, where caption, text and row end.
    """
    column = np.arange(longest)
    ends = np.stack([caption_length, text_length, lengths], axis=1)[:, :, None]  # [B, 3, 1]
    kind = np.where(column < ends[:, 2], 1 + (column >= ends[:, :2]).sum(axis=1), KINDS.index("padding"))
    sees = np.diag([0, 1, 1, 1])
    first, second = (KINDS.index(name) for name in VISIBLE_PAIRS[mask_type])
    sees[first, second] = sees[second, first] = 1
    visible = sees[kind[:, :, None], kind[:, None, :]]
    return np.where(visible, np.float32(0), np.float32(HIDDEN_BIAS))[:, None]


def length_batches(lengths, batch_tokens):
    """Cut rows into batches of at most `batch_tokens` positions, padding included.

    Args:
        lengths: [P] int, descending.
        batch_tokens: a single longer row still makes a batch.
    Yields:
        (start, stop) of each batch.
    """
    start = 0
    while start < len(lengths):
        rows = max(1, batch_tokens // int(lengths[start]))
        yield start, min(start + rows, len(lengths))
        start += rows
