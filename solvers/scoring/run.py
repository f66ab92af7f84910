"""Scores blocks on all ranks: in memory, or into files of an evaluation folder, resumed, watched, with a forecast.

Which pairs a block holds is the scorer's affair; here every so many groups of blocks belong to a rank, each finished
block is recorded, and a rank that fails takes the others along.
"""

import contextlib
import logging
import time
from pathlib import Path

import numpy as np

from oscar_paddle.config.progress import tqdm
from oscar_paddle.solvers.ranks import together
from oscar_paddle.solvers.scoring.folder import BlockFiles

log = logging.getLogger(__name__)

FAILED = "failed-rank{rank}.txt"
POLL_SECONDS = 0.5


def score_blocks(scorer, groups, folder, files, ranks, afterwards=lambda: ""):
    """Score all blocks that are not finished yet; each rank takes every so many groups.

    Args:
        scorer: BlockScorer.
        groups: lists of Blocks; one rank scores all of a list.
        folder: evaluation folder in progress.
        files: names of the files for margins and for finished blocks, see `BlockFiles`.
        ranks: Ranks.
        afterwards: called when there is something to do; returns words for the forecast, on what follows.
    Raises:
        UserError: what went wrong on any rank.
    """
    run = together(ranks, lambda: _ScoringRun(scorer, groups, folder=folder, files=files, ranks=ranks))
    try:
        together(ranks, lambda: run.to_the_end(afterwards))
    finally:
        run.store.close()


def score_in_memory(scorer, groups, ranks):
    """The whole matrix, float32, on every rank; groups are divided among the ranks as in `score_blocks`."""
    mine = {}
    total = sum(scorer.amount(block) for group in groups for block in group)
    with _bar(scorer, ranks, total=total, leave=False) as bar:
        for number in range(ranks.rank, len(groups), ranks.world_size):
            parts = [scorer.score(block, lambda n: bar.update(n * ranks.world_size)) for block in groups[number]]
            mine[number] = np.concatenate(parts, axis=1)
    scored = {number: rows for part in ranks.gather(mine) for number, rows in part.items()}
    return np.concatenate([scored[number] for number in range(len(groups))])


def _bar(scorer, ranks, **options):
    look = {"desc": "scoring", "unit": f" {scorer.unit}", "unit_scale": True, "dynamic_ncols": True}
    return tqdm(disable=not ranks.is_main, **look, **options)


def forget_failures(folder):
    """Remove what an earlier run's ranks told each other."""
    for old in Path(folder).glob(FAILED.format(rank="*")):
        old.unlink(missing_ok=True)


class _ScoringRun:
    """One rank's share of the scoring, its progress bar, and its eye on the other ranks."""

    def __init__(self, scorer, groups, *, folder, files, ranks):
        self.scorer, self.folder, self.ranks = scorer, Path(folder), ranks
        blocks = [block for group in groups for block in group]
        owner = [number % ranks.world_size for number, group in enumerate(groups) for _ in group]
        margins, flags = files
        self.store = BlockFiles(folder, blocks, margins=margins, flags=flags)
        self.units = np.array([scorer.amount(block) for block in blocks])
        self.mine = np.array(owner) == ranks.rank
        self.scored = 0  # units, on this rank, in this run
        self.at_start = self.store.finished()
        self.last_look = time.monotonic()

    def to_the_end(self, afterwards):
        """Score this rank's blocks, then wait for the others'."""
        todo = np.flatnonzero(self.mine & ~self.at_start)
        done = int(self.units[self.at_start].sum())
        try:
            self._announce(todo, afterwards)
            with _bar(self.scorer, self.ranks, total=int(self.units.sum()), initial=done) as self.bar:
                for number in todo:
                    self.store.write(number, self.scorer.score(self.store.blocks[number], self._on_done))
                self.store.sync()
                while not self.store.finished().all():
                    time.sleep(POLL_SECONDS)
                    self._look_at_others()
                self.bar.update(self.bar.total - self.bar.n)
        except _OtherRankFailed:
            pass  # its message comes with `together`
        except Exception as error:
            self._tell(error)
            raise

    def _announce(self, todo, afterwards):
        """Log how much there is to do, and how long they will take, measured on the first batches."""
        if not self.ranks.is_main:
            return
        what, left = self.scorer.title, int(self.units[~self.at_start].sum())
        if left < self.units.sum():
            what += f", {left:,} of them to do"
        log.info("scoring %s on %s", what, self.scorer.backend.name)
        if len(todo):
            speed = self.scorer.speed(self.store.blocks[todo[0]]) * self.ranks.world_size
            took = duration(left / speed)
            log.info("forecast: about %s at %.3g %s/s%s", took, speed, self.scorer.unit, afterwards())

    def _on_done(self, units):
        self.scored += units
        if self.ranks.world_size == 1:
            self.bar.update(units)
        elif time.monotonic() - self.last_look > POLL_SECONDS:
            self._look_at_others()

    def _look_at_others(self):
        self.last_look = time.monotonic()
        others = self.store.finished() & ~self.mine
        mine_before = self.at_start & self.mine
        self.bar.update(self.scored + int(self.units[others | mine_before].sum()) - self.bar.n)
        for rank in range(self.ranks.world_size):
            if (self.folder / FAILED.format(rank=rank)).exists():
                raise _OtherRankFailed

    def _tell(self, error):
        """Let the other ranks stop, too; should the disk be the problem, the launcher stops them."""
        with contextlib.suppress(OSError):
            (self.folder / FAILED.format(rank=self.ranks.rank)).write_text(f"{error}\n", encoding="utf-8")


class _OtherRankFailed(Exception):
    pass


def duration(seconds):
    """Seconds as a person says them."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
