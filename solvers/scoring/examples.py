"""Predictions of VQA, GQA and NLVR2: every example through the model, without padding.

Examples are cut into blocks. For a block each image is read, embedded and normalised once, rows are sorted by length,
so that batches hold rows of nearly one length, and only position 0 is computed in the last layer. What a block's
predictions are depends on the block alone, never on which rank computes it.

Shape letters: n examples of a block, r encoder rows of an example, B rows of a batch, H width, C classes.
"""

import time
from typing import NamedTuple

import numpy as np
import paddle
from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.scoring.exported import backend_in_training
from oscar_paddle.solvers.scoring.pairs import TextRows, length_batches

BLOCK_EXAMPLES = 512  # neighbours in a file often share their image


class ExampleBlock(NamedTuple):
    """Consecutive examples, as rows of a matrix with two columns: predicted class, its logit (see `BlockFiles`)."""

    images: range
    captions: range = range(2)

    @property
    def pairs(self):
        return len(self.images)


def example_blocks(num_examples):
    """All examples as a list of ExampleBlocks, whatever the number of ranks."""
    starts = range(0, num_examples, BLOCK_EXAMPLES)
    return [ExampleBlock(range(start, min(start + BLOCK_EXAMPLES, num_examples))) for start in starts]


class ExampleScorer:
    """Scores blocks of examples.

    Args:
        backend: has `embed_regions`, `pooled`, and the `model` whose head is used, see EagerBackend.
        data: ExampleDataset.
        batch_tokens: positions in one batch, padding included.
    """

    unit = "examples"

    def __init__(self, backend, data, batch_tokens):
        self.backend, self.data, self.batch_tokens = backend, data, batch_tokens

    def score(self, block, on_examples=lambda count: None):
        """Predictions of one block.

        Args:
            block: ExampleBlock.
            on_examples: called with a number of examples from time to time; they add up to the block's (progress).
        Returns:
            [n, 2] float32: the class with the highest logit, and that logit.
        Raises:
            DataError: a logit is NaN.
        """
        examples, told = np.array(block.images), 0
        pooled = None
        for rows, batch, regions in self.batches(examples):
            here = np.asarray(self.backend.pooled(batch, regions))
            if pooled is None:
                pooled = np.empty((len(examples) * self.data.rows, here.shape[1]), np.float32)
            pooled[rows] = here
            done = len(rows) // self.data.rows
            on_examples(done)
            told += done
        on_examples(len(examples) - told)
        logits = self._logits(pooled)
        if np.isnan(logits).any():
            where = self.data.examples.where(examples[np.isnan(logits).any(axis=1).argmax()])
            raise DataError(f"{where}: a logit is NaN; the weights hold NaN, or overflow in {self.backend.name}")
        best = logits.argmax(axis=1)
        return np.stack([best, logits[np.arange(len(best)), best]], axis=1).astype(np.float32)

    @property
    def title(self):
        """What there is to score, for messages."""
        return f"{self.data.num_examples:,} examples"

    def pairs_per_second(self, block, seconds=1.0):
        """Speed, measured for about a second on the first batches of a block and scaled to its average example."""
        positions = spent = total = 0.0
        for number, (_, batch, regions) in enumerate(self.batches(np.array(block.images))):
            total += batch.order.size
            if spent > seconds:
                continue
            if number == 0:
                self.backend.pooled(batch, regions)  # the first run also prepares what the later ones use
            started = time.perf_counter()
            self.backend.pooled(batch, regions)
            spent += time.perf_counter() - started
            positions += batch.order.size
        return positions / spent / (total / len(block.images))

    def batches(self, examples):
        """The examples as batches of nearly equal rows.

        Yields:
            (rows [B] among the n * r, RowBatch, embedded regions of the distinct images), longest rows first.
        """
        features, img_index = self.data.features(examples)
        counts = np.array([len(rows) for rows in features])
        region_start = (np.cumsum(counts) - counts)[img_index]
        regions = self.backend.embed_regions(np.concatenate(features))
        text = self.data.text_rows(examples)
        lengths = text[-1] + counts[img_index]
        order = np.argsort(-lengths, kind="stable")
        lengths, region_start = lengths[order], region_start[order]
        rows = TextRows([part[order] for part in text], "CLR")
        for start, stop in length_batches(lengths, self.batch_tokens):
            here = slice(start, stop)
            yield order[here], rows.batch(here, lengths[here], region_start[here]), regions

    @paddle.no_grad()
    def _logits(self, pooled):
        """[n * r, H] -> [n, C], by the model's head in float32."""
        return self.backend.model.classify(paddle.to_tensor(pooled)).numpy()


def predict(model, data, batch_tokens, ranks):
    """Predictions of a whole split, divided among ranks; ([E] int64 classes, [E] float32 logits) on every rank."""
    backend = backend_in_training(model, data.num_examples * data.rows // ranks.world_size, "pooled")
    scorer, blocks = ExampleScorer(backend, data, batch_tokens), example_blocks(data.num_examples)
    mine = {}
    with tqdm(
        total=data.num_examples,
        desc="evaluating",
        unit=" examples",
        unit_scale=True,
        leave=False,
        disable=not ranks.is_main,
        dynamic_ncols=True,
    ) as bar:
        for number in range(ranks.rank, len(blocks), ranks.world_size):
            mine[number] = scorer.score(blocks[number], lambda n: bar.update(n * ranks.world_size))
    scored = {number: rows for part in ranks.gather(mine) for number, rows in part.items()}
    found = np.concatenate([scored[number] for number in range(len(blocks))])
    return found[:, 0].astype(np.int64), found[:, 1]
