"""Predictions of the question tasks: every example through the model, without padding.

Shape letters: n examples of a block, r encoder rows of an example, H width, C classes.
"""

import numpy as np

from oscar_paddle.models.packing import check_ids
from oscar_paddle.solvers.scoring.rows import Block, BlockScorer

BLOCK_EXAMPLES = 512  # neighbours in a file often share their image
COLUMNS = 2  # of an example's results: the class with the highest logit, and that logit


def example_blocks(num_examples):
    """All examples as Blocks, whatever the number of ranks; each is a group of its own, see `score_blocks`."""
    starts = range(0, num_examples, BLOCK_EXAMPLES)
    return [[Block(range(start, min(start + BLOCK_EXAMPLES, num_examples)), range(COLUMNS))] for start in starts]


class ExampleScorer(BlockScorer):
    """Scores examples of an ExampleDataset; the backend's model gives the head."""

    unit, output, layout = "examples", "pooled", {"block_examples": BLOCK_EXAMPLES}

    @property
    def title(self):
        return f"{self.data.num_examples:,} examples"

    @property
    def rows_per_unit(self):
        return self.data.rows

    def amount(self, block):
        return len(block.rows)

    def block_batches(self, block):
        examples = np.array(block.rows)
        features, img_index = self.data.features(examples)
        counts = np.array([len(rows) for rows in features])
        region_start = (np.cumsum(counts) - counts)[img_index]
        text = self.data.text_rows(examples)
        check_ids(text._asdict(), self.backend.config, lambda row: self._where(block, row))
        regions = self.backend.embed_regions(np.concatenate(features))
        for rows, batch in self.length_batches(text, counts[img_index], region_start):
            yield rows, batch, regions

    def finish(self, block, outputs):
        self.refuse_nan(outputs, lambda row: f"{self._where(block, row)}: the pooled vector")
        logits = self.backend.classify(outputs)
        self.refuse_nan(logits, lambda example: f"{self._where(block, example * self.data.rows)}: a logit")
        best = logits.argmax(axis=1)
        return np.stack([best, logits[np.arange(len(best)), best]], axis=1).astype(np.float32)

    def _where(self, block, row):
        return self.data.examples.where(block.rows[row // self.data.rows])
