"""A score for every region of every example: text and regions in two streams, without padding.

Shape letters: B examples of a batch, Pv regions of all of them, R columns.
"""

import numpy as np
import paddle

from oscar_paddle.models.packing import check_ids
from oscar_paddle.models.stream_packing import pack_streams
from oscar_paddle.solvers.prefetch import prefetch
from oscar_paddle.solvers.runtime import device_name, float32_name
from oscar_paddle.solvers.scoring.rows import Block, BlockScorer

BLOCK_EXAMPLES = 256  # neighbours in a file share their image


class StreamBackend:
    """Runs a two-stream model as it is, in float32; it is put into evaluation mode."""

    def __init__(self, model):
        model.eval()
        self.model, self.config = model, model.config
        self.name = f"eager Paddle, {float32_name()}, on {device_name()}"

    @paddle.no_grad()
    def region_scores(self, batch):
        """StreamBatch -> [Pv] float32, on the device."""
        return self.model(batch)


def region_blocks(num_examples, columns):
    """All examples as Blocks, whatever the number of ranks; each is a group of its own, see `score_blocks`."""
    starts = range(0, num_examples, BLOCK_EXAMPLES)
    return [[Block(range(start, min(start + BLOCK_EXAMPLES, num_examples)), range(columns))] for start in starts]


class RegionScorer(BlockScorer):
    """Scores examples of a data set with `batch`, `num_examples` and `where`; -inf where an example has no region."""

    unit, output, layout = "examples", "region_scores", {"block_examples": BLOCK_EXAMPLES}

    @property
    def title(self):
        return f"{self.data.num_examples:,} examples"

    def amount(self, block):
        return len(block.rows)

    def batches(self, block):
        """Yields (which rows of the block [B], dict of named arrays, StreamBatch), those with most regions first."""
        examples = np.array(block.rows)
        regions, pieces = self.data.sizes(examples)
        order = np.lexsort((-pieces, -regions))  # those of one image stay side by side: it is embedded once
        starts = [0]
        while starts[-1] < len(order):
            first = order[starts[-1]]
            longest = int(regions[first] + pieces[order[starts[-1] :]].max())
            starts.append(min(starts[-1] + max(1, self.batch_tokens // longest), len(order)))

        def prepared(start, stop):
            here = order[start:stop]
            arrays = self.data.batch(examples[here])
            check_ids(arrays, self.backend.config, lambda row: self.data.where(examples[here[row]]))
            return here, arrays, pack_streams(arrays)

        yield from prefetch(lambda ends: prepared(*ends), zip(starts, starts[1:], strict=False), workers=1)

    def score(self, block, on_done=lambda units: None):
        found = np.full((len(block.rows), len(block.columns)), -np.inf, np.float32)
        for here, arrays, batch in self.batches(block):
            counts, values = arrays["num_regions"], np.asarray(self.run(batch))
            for row, part in zip(here, np.split(values, np.cumsum(counts)[:-1]), strict=True):
                found[row, : len(part)] = part
            self.refuse_nan(found[here], lambda row, here=here: f"{self.data.where(block.rows[here[row]])}: a score")
            on_done(len(here))
        return found

    def speed(self, block, seconds=1.0):
        """Examples a second: here of the block's first batches, all of it is as long as they are."""
        import time

        done, spent = 0, 0.0
        for number, (here, _, batch) in enumerate(self.batches(block)):
            if number == 0:
                np.asarray(self.run(batch))
            started = time.perf_counter()
            np.asarray(self.run(batch))
            spent, done = spent + time.perf_counter() - started, done + len(here)
            if spent > seconds:
                break
        return done / spent
