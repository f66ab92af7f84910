"""Scores again, in float32, the pairs that can decide a rank near the top of a list.

A pass in bfloat16 or float16 is faster, and its margins are near enough to tell good pairs from bad ones, but not to
order the best. So for every image its best captions, for every caption its best images, and every positive pair get
the margin that a float32 evaluation would give them; of 5,000 x 25,000 pairs these are less than one in a hundred.
Ranks within the best EVAL.RESCORE_TOP are then those of float32, unless the first pass put a pair further down than
that; ranks below compare margins of both kinds.

Besides the files of the first pass, the evaluation folder holds in the meantime

    rescored_pairs.npy     int64 [P], rising: the chosen pairs, each as image x columns + column
    rescored_margins.npy   float32 [1, P], their margins in float32
    rescored_blocks.npy    uint8, 1 for every finished block of them

and a run may be killed at any moment, because

1. Pairs are chosen once, when all of margins.npy is there and nothing but the first pass is in it:
   rescored_pairs.npy appears in one step, after the other two files were laid out, and is kept while it exists.
2. New margins go to rescored_margins.npy only. margins.npy is changed when all of them are on disk, and only to what
   they say, so doing that again, after half of it was done, gives the same bytes.
3. The three files are removed only after provenance says "complete", or before a new evaluation begins.
"""

import logging

import numpy as np

from oscar_paddle.solvers.ranks import together
from oscar_paddle.solvers.scoring.folder import RESCORED_BLOCKS, RESCORED_MARGINS
from oscar_paddle.solvers.scoring.pairs import PairScorer, num_columns
from oscar_paddle.solvers.scoring.rows import block_groups
from oscar_paddle.solvers.scoring.run import duration, score_blocks

log = logging.getLogger(__name__)

BLOCK_VALUES = 4 * 2**20  # margins looked at together (16 MiB, and a few times that for what is made of them)


class Rescoring:
    """The second pass of one evaluation.

    Args:
        cfg: the frozen config.
        data: RetrievalDataset.
        files: EvaluationFolder in progress.
        backend: float32 backend for PairScorer.
        ranks: Ranks; the chosen pairs are divided among them.
    """

    def __init__(self, cfg, data, *, files, backend, ranks):
        self.top, self.folds, self.batch_tokens = cfg.EVAL.RESCORE_TOP, cfg.EVAL.FOLDS, cfg.EVAL.BATCH_TOKENS
        self.data, self.files, self.backend, self.ranks = data, files, backend, ranks

    def forecast(self):
        """Words for the forecast of the first pass: how much follows, measured on the first pairs; main rank only."""
        scorer = PairScorer(self.backend, self.data, self.batch_tokens)
        pairs = most_pairs(self.data, self.top, self.folds)
        if pairs == self.data.num_images * scorer.num_columns:
            log.warning("EVAL.RESCORE_TOP %d can mean every pair: EVAL.PRECISION float32 would be faster", self.top)
        first = block_groups(self.data.num_images, scorer.num_columns)[0][0]
        speed = scorer.speed(first) * self.ranks.world_size
        return f"; then at most {duration(pairs / speed)} for up to {pairs:,} pairs near the top, again in float32"

    def run(self):
        """Choose the pairs, unless a run that was stopped has; score them; put their margins in place.

        Raises:
            UserError: what went wrong on any rank.
        """
        self.ranks.on_main(self._choose)
        pairs = together(self.ranks, self.files.rescoring_pairs)
        groups = [[block] for block in block_groups(1, len(pairs))[0]]
        scorer = ChosenPairs(self.backend, self.data, batch_tokens=self.batch_tokens, chosen=pairs)
        score_blocks(scorer, groups, self.files.path, (RESCORED_MARGINS, RESCORED_BLOCKS), self.ranks)
        self.ranks.on_main(lambda: self.files.replace_margins(pairs, RESCORED_MARGINS))

    def _choose(self):
        if self.files.rescoring_pairs() is None:
            pairs = choose_pairs(self.files.scores(), self.data, self.top, self.folds)
            self.files.start_rescoring(pairs, num_blocks=len(block_groups(1, len(pairs))[0]))


class ChosenPairs(PairScorer):
    """Scores a list of pairs, as a matrix with one row.

    Args:
        backend, data, batch_tokens: as for PairScorer.
        chosen: [P] int64, pairs as image x columns + column.
    """

    def __init__(self, backend, data, *, batch_tokens, chosen):
        super().__init__(backend, data, batch_tokens)
        self.chosen = chosen

    @property
    def title(self):
        return f"{len(self.chosen):,} pairs near the top of a list again"

    def pairs(self, block):
        """Images and captions of the pairs of a block, [m] int64 each."""
        images, columns = np.divmod(self.chosen[block.columns.start : block.columns.stop], self.num_columns)
        return images, columns if self.data.candidates is None else self.data.candidates[images, columns]


# ---- which pairs ----


def choose_pairs(margins, data, top, folds=1):
    """The pairs that can decide a rank near the top.

    Args:
        margins: [K, C] or [K, m] float32, of the first pass; may be memory-mapped.
        data: RetrievalDataset, whose candidates decide what a list is.
        top: best captions of each image, and best images of each caption; of equal margins the first ones.
        folds: if above 1, also the best within each of so many parts of the image list.
    Returns:
        [P] int64, rising: image x columns + column, each pair once.
    """
    chosen = [_positives(data)]
    for images, columns in _matrices(data, folds):
        chosen += _best_of_rows(margins, images, columns, top)
        if data.candidates is None:
            chosen += _best_of_columns(margins, images, columns, top)
    return np.unique(np.concatenate(chosen))


def most_pairs(data, top, folds=1):
    """At most so many pairs will be chosen."""
    count = len(_positives(data))
    for images, columns in _matrices(data, folds):
        count += len(images) * min(top, len(columns))
        if data.candidates is None:
            count += len(columns) * min(top, len(images))
    return min(count, data.num_images * num_columns(data))


def _positives(data):
    """The positive pairs, as `choose_pairs` numbers them."""
    if data.candidates is not None:
        return np.flatnonzero(data.positives)
    return data.caption_image() * data.num_captions + np.arange(data.num_captions)


def _matrices(data, folds):
    """(rows, columns) of each matrix that is ranked: all of it, and its folds."""
    if data.candidates is not None:
        return [(range(data.num_images), range(data.candidates.shape[1]))]
    matrices = [(range(data.num_images), range(data.num_captions))]
    size, owners = data.num_images // folds, data.caption_image()
    for start in range(0, data.num_images, size) if folds > 1 else ():
        columns = np.searchsorted(owners, [start, start + size])  # captions are in the order of their images
        matrices.append((range(start, start + size), range(*columns)))
    return matrices


def _best_of_rows(margins, images, columns, top):
    """Yields the best pairs of each row of a part of the matrix, as `choose_pairs` numbers them, in blocks of rows."""
    step = max(1, BLOCK_VALUES // len(columns))
    for start in range(images.start, images.stop, step):
        block = np.asarray(margins[start : min(start + step, images.stop), columns.start : columns.stop])
        rows, places = np.nonzero(_is_among_best(block, top))
        yield (start + rows) * margins.shape[1] + columns.start + places


def _best_of_columns(margins, images, columns, top):
    """The same for each column, in blocks of columns."""
    step = max(1, BLOCK_VALUES // len(images))
    for start in range(columns.start, columns.stop, step):
        block = margins[images.start : images.stop, start : min(start + step, columns.stop)]
        places, rows = np.nonzero(_is_among_best(np.ascontiguousarray(block.T), top))
        yield (images.start + rows) * margins.shape[1] + start + places


def _is_among_best(block, top):
    """[rows, n] float32 -> [rows, n] bool, true for the `top` highest of each row; of equals the first ones."""
    num_columns = block.shape[1]
    if top >= num_columns:
        return np.ones(block.shape, bool)
    last = np.partition(block, num_columns - top, axis=1)[:, num_columns - top, None]
    above, equal = block > last, block == last
    room = top - np.count_nonzero(above, axis=1)[:, None]
    return above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room))
