"""Blocks of a matrix of results, and the rows of a block as batches of nearly equal length.

Everything that is scored is a matrix: images x captions, or examples x (class, logit). It is cut into blocks, for a
block each image is read, embedded and normalised once, and its rows are sorted by length, so that next to nothing is
padding. What a block's results are depends on the block alone, never on which rank computes it or what was computed
before.

Shape letters: B rows of a batch.
"""

import time
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.packing import row_batch
from oscar_paddle.solvers.prefetch import prefetch

# Cells of a block: at most what a killed run may lose, at least what makes batches of nearly equal rows; in between,
# a small matrix is cut into about 32 blocks, so that several ranks have something to do.
BLOCK_CELLS = 64, 1024


class Block(NamedTuple):
    """A part of the matrix: rows.start to rows.stop, columns.start to columns.stop."""

    rows: range
    columns: range


def block_groups(num_rows, num_columns):
    """The matrix as blocks, grouped by the rows they share.

    The layout depends on the size of the matrix only, so that runs with any number of ranks, killed or not, agree.

    Returns:
        list of lists of Blocks; those of one list have the same rows.
    """
    most = min(max(num_rows * num_columns // 32, BLOCK_CELLS[0]), BLOCK_CELLS[1])
    height = max(1, most // num_columns)
    parts = -(-num_columns // most) if height == 1 else 1
    width = -(-num_columns // parts)
    columns = [range(start, min(start + width, num_columns)) for start in range(0, num_columns, width)]
    rows = [range(start, min(start + height, num_rows)) for start in range(0, num_rows, height)]
    return [[Block(part, captions) for captions in columns] for part in rows]


class BlockScorer:
    """Scores blocks; a subclass says what the rows of a block are, and what becomes of the model's outputs.

    Args:
        backend: see `solvers.scoring.backends`.
        data: the data set.
        batch_tokens: positions in one batch, padding included.
    Attributes:
        unit: what is counted: "pairs" or "examples". title: what there is to score, for messages.
        output: what is asked of the backend, "margins" or "pooled".
        rows_per_unit: encoder rows of one of them.
        layout: dict, how the matrix is cut into blocks, which decides the last bits of results.
        mask_type: see `models.visibility`.
    """

    rows_per_unit, mask_type = 1, "CLR"

    def __init__(self, backend, data, batch_tokens):
        self.backend, self.data, self.batch_tokens = backend, data, batch_tokens
        self.run = getattr(backend, self.output)

    def amount(self, block):
        """How many units a block holds."""
        raise NotImplementedError

    def block_batches(self, block):
        """The rows of a block; yields (which of its rows [B], RowBatch, embedded regions), longest rows first."""
        raise NotImplementedError

    def finish(self, block, outputs):
        """The backend's outputs [rows of the block, ...] float32 -> float32 [block.rows, block.columns].

        Raises:
            DataError: one of them is NaN.
        """
        raise NotImplementedError

    def score(self, block, on_done=lambda units: None):
        """Results of one block, float32 [block.rows, block.columns].

        Args:
            on_done: called after each batch with how many units are done (progress).
        Raises:
            DataError: a result is NaN.
        """
        places, outputs = [], []
        for rows, batch, regions in self.block_batches(block):
            places.append(rows)
            outputs.append(self.run(batch, regions))  # stays where it is: to look at it would be to wait for it
            on_done(len(rows) / self.rows_per_unit)
        found = np.concatenate([np.asarray(part) for part in outputs])
        return self.finish(block, found[np.argsort(np.concatenate(places))])

    def speed(self, block, seconds=1.0):
        """Units a second, measured for about so long on the first batches and scaled to the block's average unit."""
        positions = spent = total = 0.0
        for number, (_, batch, regions) in enumerate(self.block_batches(block)):
            total += batch.order.size
            if spent > seconds:
                continue
            if number == 0:
                np.asarray(self.run(batch, regions))  # the first run also prepares what the later ones use
            started = time.perf_counter()
            np.asarray(self.run(batch, regions))
            spent += time.perf_counter() - started
            positions += batch.order.size
        return positions / spent / (total / self.amount(block))

    def length_batches(self, text, num_regions, region_start):
        """Rows as batches of nearly one length, of at most `batch_tokens` positions with padding.

        A single longer row still makes a batch. The next ones are prepared in a thread while the caller works.

        Args:
            text: TextRows. num_regions, region_start: [rows] int, see `models.packing.row_batch`.
        Yields:
            (which of the rows [B], RowBatch), longest rows first.
        """
        lengths = text.text_length + num_regions
        order = np.argsort(-lengths, kind="stable")
        text, lengths = text.take(order), lengths[order]
        starts = [0]
        while starts[-1] < len(order):
            starts.append(min(starts[-1] + max(1, self.batch_tokens // int(lengths[starts[-1]])), len(order)))

        def batch(start, stop):
            here = order[start:stop]
            return here, row_batch(text.part(start, stop), num_regions[here], region_start[here], self.mask_type)

        yield from prefetch(lambda ends: batch(*ends), zip(starts, starts[1:], strict=False), workers=1)

    def refuse_nan(self, values, where):
        """Raise DataError if a value is NaN; `where(row)` says what a row of them is."""
        nan = np.isnan(values).reshape(len(values), -1).any(axis=1)
        if nan.any():
            what = f"{where(int(nan.argmax()))} is NaN"
            raise DataError(f"{what}; the weights hold NaN, or overflow in {self.backend.name}")
