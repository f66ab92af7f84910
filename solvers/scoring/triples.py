"""Results on triples that are held out: sums of losses and right answers of each, and scores of captions for its image.

Shape letters: n examples of a block, K captions that are scored for an example's image.
"""

import time

import numpy as np

from oscar_paddle.datasets.corpus.draws import Draws
from oscar_paddle.models.packing import check_ids, pack
from oscar_paddle.solvers.scoring.rows import Block, BlockScorer

COLUMNS = ("masked_loss", "masked_words", "masked_right", "contrast_loss", "contrast_right")  # sums of an example
BLOCK_EXAMPLES = 64
PASS = 0  # of the corpus, whose draws mask and replace the texts
OTHER_CAPTIONS = 2  # number of these draws beside those of two corpora


def triple_blocks(num_examples, num_captions):
    """All examples as Blocks, whatever the number of ranks; each is a group of its own, see `score_blocks`."""
    starts, columns = range(0, num_examples, BLOCK_EXAMPLES), range(len(COLUMNS) + num_captions)
    return [[Block(range(start, min(start + BLOCK_EXAMPLES, num_examples)), columns)] for start in starts]


class TripleScorer(BlockScorer):
    """Results of a block, float32 [n, 5 + K]: COLUMNS, then the scores of K captions, the own one first."""

    unit, output, layout = "triples", "model", {"block_examples": BLOCK_EXAMPLES}

    @property
    def title(self):
        return f"{self.data.num_examples:,} triples that are held out"

    def amount(self, block):
        return len(block.rows)

    def score(self, block, on_done=lambda units: None):
        examples, captions = np.array(block.rows), len(block.columns) - len(COLUMNS)
        parts = []
        for rows in np.array_split(examples, -(-len(examples) // self._rows_at_once())):
            parts.append(np.column_stack([self._sums(rows), self._captions(rows, captions)]).astype(np.float32))
            self.refuse_nan(parts[-1], lambda row, rows=rows: f"{self.data.describe([rows[row]])}: a result")
            on_done(len(rows))
        return np.concatenate(parts)

    def speed(self, block, seconds=1.0):
        started, done = time.perf_counter(), 0
        for start in block.rows[:: self._rows_at_once()]:
            stop = min(start + self._rows_at_once(), block.rows.stop)
            self.score(Block(range(start, stop), block.columns))
            done += stop - start
            if time.perf_counter() - started > seconds:
                break
        return done / (time.perf_counter() - started)

    def _rows_at_once(self):
        return max(1, self.batch_tokens // (self.data.text.max_seq_len + self.data.regions.max_region))

    def _sums(self, examples):
        """[n, 5] float64: the COLUMNS."""
        batch = self.data.batch(examples, PASS)
        positions = batch["masked_positions"]
        words, contrast = self.run.measured(
            self._packed(batch, examples), positions, batch["masked_labels"], batch["contrast_labels"]
        )
        row = np.searchsorted(np.cumsum(batch["text_length"]), positions, side="right")

        def by_row(values):
            return np.bincount(row, weights=values[: len(row)], minlength=len(examples))

        return np.column_stack([by_row(words[0]), by_row(np.ones(len(row))), by_row(words[1]), *contrast])

    def _captions(self, examples, count):
        """[n, K] float32: how well captions fit the image and the tags of each example, its own first."""
        if not count:
            return np.zeros((len(examples), 0), np.float32)
        shown = np.stack([self._caption_numbers(example, count) for example in examples.tolist()]).T
        scores = [
            self.run.match_scores(self._packed(self.data.matched_batch(examples, captions=captions), examples))
            for captions in shown
        ]
        return np.stack(scores, axis=1)

    def _caption_numbers(self, example, count):
        """[K] int: the example, and documents of other images; fewer images than that repeat."""
        draws = Draws(self.data.seed, PASS, example, OTHER_CAPTIONS)
        return np.array([example, *(self.data.other_document(example, draws) for _ in range(count - 1))])

    def _packed(self, batch, examples):
        check_ids(batch, self.backend.config, lambda row: self.data.describe([examples[row]]))
        return pack(batch)
