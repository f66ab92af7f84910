"""Scores of images x captions: every pair through the model, nothing computed twice.

Captions and tags were tokenised once for the data set; blocks of the same images share their embedded regions.

Shape letters: I images of a block, m captions of a block.
"""

import numpy as np

from oscar_paddle.models.packing import check_ids
from oscar_paddle.solvers.scoring.rows import BLOCK_CELLS, BlockScorer


def num_columns(data):
    """Captions that each image is compared with: all of the split, or its own candidates."""
    return data.num_captions if data.candidates is None else data.candidates.shape[1]


class PairScorer(BlockScorer):
    """Scores pairs; rows are images, columns are captions or candidates of a RetrievalDataset."""

    unit, output, layout = "pairs", "margins", {"block_pairs": list(BLOCK_CELLS)}

    def __init__(self, backend, data, batch_tokens):
        super().__init__(backend, data, batch_tokens)
        self.mask_type, self.num_columns = data.mask_type, num_columns(data)
        self._embedded = None  # images and their regions, for the next pairs of the same images

    @property
    def title(self):
        rows, columns = self.data.num_images, self.num_columns
        return f"{rows:,} images x {columns:,} captions = {rows * columns:,} pairs"

    def amount(self, block):
        return len(block.rows) * len(block.columns)

    def pairs(self, block):
        """Images and captions of the pairs of a block, [I * m] int64 each, row by row."""
        images = np.arange(block.rows.start, block.rows.stop)
        columns = np.arange(block.columns.start, block.columns.stop)
        if self.data.candidates is None:
            captions = np.tile(columns, len(images))
        else:
            captions = self.data.candidates[np.ix_(images, columns)].ravel()
        return np.repeat(images, len(columns)), captions

    def block_batches(self, block):
        images, captions = self.pairs(block)
        distinct, place = np.unique(images, return_inverse=True)
        regions, num_regions, region_start = self._regions(distinct)
        text = self.data.text_rows(images, captions)
        check_ids(text._asdict(), self.backend.config, lambda pair: self.data.where(images[pair], captions[pair]))
        for rows, batch in self.length_batches(text, num_regions[place], region_start[place]):
            yield rows, batch, regions

    def finish(self, block, outputs):
        images, captions = self.pairs(block)
        self.refuse_nan(outputs, lambda pair: f"{self.data.where(images[pair], captions[pair])}: the margin")
        return outputs.reshape(len(block.rows), len(block.columns))

    def _regions(self, images):
        """(embedded regions of the images, number of regions [I], where those of each image start [I])."""
        if self._embedded is None or not np.array_equal(self._embedded[0], images):
            features = [self.data.regions[self.data.image_ids[image]] for image in images]
            num_regions = np.array([len(rows) for rows in features])
            start = np.cumsum(num_regions) - num_regions
            self._embedded = images, (self.backend.embed_regions(np.concatenate(features)), num_regions, start)
        return self._embedded[1]
