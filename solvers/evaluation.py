"""One evaluation from start to end: score what is missing, on all ranks, then rank and report."""

import contextlib
import hashlib
import logging
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oscar_paddle.config.errors import ConfigError, DataError, UserError
from oscar_paddle.models.weights import file_hash, find_weights
from oscar_paddle.solvers.evaluation_folder import COMPLETE, IN_PROGRESS, BlockFiles, EvaluationFolder
from oscar_paddle.solvers.metrics.eccv import check_eccv_input, eccv_metrics
from oscar_paddle.solvers.metrics.protocols import protocol_label
from oscar_paddle.solvers.metrics.retrieval import five_fold_metrics
from oscar_paddle.solvers.pair_scorer import BLOCK_PAIRS, PairScorer, image_groups, num_columns
from oscar_paddle.solvers.retrieval_task import recall_lines, split_metrics

log = logging.getLogger(__name__)

FAILED = "failed-rank{rank}.txt"
POLL_SECONDS = 0.5

_SCORING_KEYS = ("MAX_REGION", "MAX_SEQ_LEN", "IMG_FEATURE_DIM", "ADD_OD_LABEL", "DO_LOWER_CASE", "ATT_MASK_TYPE")


# ---- what a set of margins belongs to ----


def provenance(cfg, data):
    """What a set of margins depends on: checkpoint content, settings, images, captions, tags and features.

    Two runs with equal provenance give equal margins (but for rounding), so one may use the other's.
    """
    path = find_weights(cfg.EVAL.CHECKPOINT_DIR)
    return {
        "checkpoint": {
            "weights": path.name,
            "content": file_hash(path),
            "config": file_hash(path.with_name("config.json")),
        },
        "settings": {key: cfg.INPUT[key] for key in _SCORING_KEYS},
        "precision": cfg.EVAL.PRECISION,
        "data": {
            "name": cfg.DATASET.NAME,
            "split": cfg.DATASET.TEST,
            "images": len(data.image_ids),
            "captions": len(data.captions),
            "content": data.fingerprint(),
            "tokens": [_digest(table.ids) for table in (data.caption_tokens, data.tag_tokens)],
            "features": data.regions.fingerprint(data.image_ids),
        },
    }


def _digest(array):
    return hashlib.blake2b(array, digest_size=16).hexdigest()


def default_folder(cfg):
    """<checkpoint folder>/eval/<split>-<protocol>, one for each list and split."""
    if cfg.EVAL.EVAL_CROSS_IMAGE:
        protocol = Path(cfg.EVAL.EVAL_IMG_KEYS_FILE).stem or "all-images"
    else:
        protocol = Path(cfg.EVAL.EVAL_CAPTION_INDEX_FILE).stem
    return Path(cfg.EVAL.CHECKPOINT_DIR) / "eval" / f"{cfg.DATASET.TEST}-{protocol}"


# ---- the evaluation ----


def evaluate(cfg, data, folder, ranks, make_backend, annotation_ids=None):
    """Score a split, go on with a run that was killed, or take the margins of an equal one; then write metrics.

    Args:
        cfg: the frozen config.
        data: RetrievalDataset.
        folder: the evaluation folder, on a disk that all ranks share.
        ranks: Ranks; image rows are divided among them.
        make_backend: function of the weights' hash -> a backend for `PairScorer`, called on every rank; not called
            when all margins are there.
        annotation_ids: [captions] COCO annotation ids for ECCV Caption, or None.
    Returns:
        dict of metrics, on every rank.
    Raises:
        UserError: what went wrong on any rank.
    """
    check_protocol(cfg, data, annotation_ids)
    files = together(ranks, lambda: EvaluationFolder(folder))
    ranks.on_main(files.lock)
    try:
        wanted = ranks.on_main(lambda: provenance(cfg, data))
        groups = image_groups(data.num_images, num_columns(data))
        layout = (data.num_images, num_columns(data)), sum(map(len, groups))
        if ranks.on_main(lambda: files.state(wanted, *layout) == COMPLETE):
            if ranks.is_main:
                log.info("%s: holds margins of the same checkpoint, settings, images and captions; using them", folder)
        else:
            backend = make_backend(wanted["checkpoint"]["content"])
            computation = {
                "backend": backend.name,
                "batch_tokens": cfg.EVAL.BATCH_TOKENS,
                "block_pairs": list(BLOCK_PAIRS),
            }
            ranks.on_main(lambda: _prepare(files, data, wanted, layout, computation))
            score_blocks(PairScorer(backend, data, cfg.EVAL.BATCH_TOKENS), groups, files.path, ranks)
            ranks.on_main(lambda: files.finish(wanted, computation))
        return ranks.on_main(lambda: _report(cfg, data, files, annotation_ids))
    finally:
        files.unlock()


def check_protocol(cfg, data, annotation_ids=None):
    """Refuse, before hours of scoring, what could not be reported after them.

    Raises:
        ConfigError: folds that the image list cannot be cut into.
        DataError, UserError: see `check_eccv_input`.
    """
    if cfg.EVAL.FOLDS > 1 and data.num_images % cfg.EVAL.FOLDS:
        raise ConfigError(f"EVAL.FOLDS is {cfg.EVAL.FOLDS}, which {data.num_images} images cannot be divided into")
    if annotation_ids is not None:
        if data.candidates is not None:
            raise ConfigError("--eccv needs every image with every caption: set EVAL.EVAL_CROSS_IMAGE True")
        check_eccv_input(data.image_ids, annotation_ids)


def _prepare(files, data, wanted, layout, computation):
    """Leave the folder ready for blocks: a run that can go on stays, anything else makes room."""
    for old in files.path.glob(FAILED.format(rank="*")):
        old.unlink(missing_ok=True)
    if files.state(wanted, *layout, computation) == IN_PROGRESS:
        log.info("%s: going on with an evaluation that was not finished", files.path)
    else:
        files.start(data, wanted, layout, computation)


def _report(cfg, data, files, annotation_ids):
    """Metrics of finished margins, written to metrics.json."""
    started = time.perf_counter()
    margins = files.margins()
    naming = {"dataset_name": cfg.DATASET.NAME, "image_list": cfg.EVAL.EVAL_IMG_KEYS_FILE}
    size = data.num_images, data.num_captions
    candidates = 0 if data.candidates is None else data.candidates.shape[1]
    metrics = {"protocol": protocol_label(*size, **naming, candidates_per_image=candidates)}
    metrics.update(split_metrics(margins, data))
    if cfg.EVAL.FOLDS > 1:
        folds = five_fold_metrics(margins, data.caption_image(), cfg.EVAL.FOLDS)
        metrics["folded"] = {"protocol": protocol_label(*size, **naming, folds=cfg.EVAL.FOLDS), **folds}
    if annotation_ids is not None:
        metrics["eccv_caption"] = eccv_metrics(margins, data.image_ids, annotation_ids, progress=True)
    files.write_json("metrics.json", metrics)
    log.info("%s: ranked %s pairs in %.1f s", files.path, f"{margins.size:,}", time.perf_counter() - started)
    return metrics


def result_lines(metrics):
    """What the tool prints: the two lines that users of these repositories know, each under its protocol's name."""
    lines = [metrics["protocol"], *recall_lines(metrics)]
    if "rsum" in metrics:
        ranks = "I2T {i2t_median_rank:g} and {i2t_mean_rank:.1f}, T2I {t2i_median_rank:g} and {t2i_mean_rank:.1f}"
        lines.append(f"rsum {metrics['rsum']:.2f}; median and mean rank: {ranks.format(**metrics)}")
    if "folded" in metrics:  # in other words than the two lines, which so stay the only ones of their form
        folded = metrics["folded"]
        lines += [f"{folded['protocol']}: {line.replace(' Retrieval', '')}" for line in recall_lines(folded)]
    for name, both in metrics.get("eccv_caption", {}).items():
        lines.append(f"{name}: I2T {both['i2t']:.4f}, T2I {both['t2i']:.4f}")
    return lines


# ---- scoring on all ranks ----


def score_blocks(scorer, groups, folder, ranks):
    """Score all blocks that are not finished yet; each rank takes every so many groups of images.

    Args:
        scorer: PairScorer.
        groups: from `image_groups`.
        folder: evaluation folder in progress.
        ranks: Ranks.
    Raises:
        UserError: what went wrong on any rank.
    """
    run = together(ranks, lambda: _ScoringRun(scorer, groups, folder, ranks))
    try:
        together(ranks, run.to_the_end)
    finally:
        run.store.close()


class _ScoringRun:
    """One rank's share of the scoring, its progress bar, and its eye on the other ranks."""

    def __init__(self, scorer, groups, folder, ranks):
        self.scorer, self.folder, self.ranks = scorer, Path(folder), ranks
        blocks = [block for group in groups for block in group]
        owner = [number % ranks.world_size for number, group in enumerate(groups) for _ in group]
        self.store = BlockFiles(folder, blocks)
        self.pairs = np.array([block.pairs for block in blocks])
        self.mine = np.array(owner) == ranks.rank
        self.scored = 0  # pairs, on this rank, in this run
        self.at_start = self.store.finished()
        self.last_look = time.monotonic()

    def to_the_end(self):
        """Score this rank's blocks, then wait for the others'."""
        todo = np.flatnonzero(self.mine & ~self.at_start)
        self._announce(todo)
        done = int(self.pairs[self.at_start].sum())
        self.bar = tqdm(
            total=int(self.pairs.sum()), initial=done, desc="scoring", unit="pair", unit_scale=True,
            disable=not self.ranks.is_main, dynamic_ncols=True,
        )  # fmt: skip
        try:
            with self.bar:
                for number in todo:
                    margins = self.scorer.score(self.store.blocks[number], self._on_pairs)
                    self._refuse_nan(self.store.blocks[number], margins)
                    self.store.write(number, margins)
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

    def _announce(self, todo):
        """Log the number of pairs, and how long they will take, measured on the first batches."""
        if not self.ranks.is_main:
            return
        data, left = self.scorer.data, int(self.pairs[~self.at_start].sum())
        what = f"{data.num_images:,} images x {self.scorer.num_columns:,} captions = {int(self.pairs.sum()):,} pairs"
        if left < self.pairs.sum():
            what += f", {left:,} of them to do"
        log.info("scoring %s on %s", what, self.scorer.backend.name)
        if len(todo):
            speed = self.scorer.pairs_per_second(self.store.blocks[todo[0]]) * self.ranks.world_size
            log.info("forecast: about %s at %.3g pairs/s", _duration(left / speed), speed)

    def _on_pairs(self, count):
        self.scored += count
        if self.ranks.world_size == 1:
            self.bar.update(count)
        elif time.monotonic() - self.last_look > POLL_SECONDS:
            self._look_at_others()

    def _look_at_others(self):
        self.last_look = time.monotonic()
        others = self.store.finished() & ~self.mine
        mine_before = self.at_start & self.mine
        self.bar.update(self.scored + int(self.pairs[others | mine_before].sum()) - self.bar.n)
        for rank in range(self.ranks.world_size):
            if (self.folder / FAILED.format(rank=rank)).exists():
                raise _OtherRankFailed

    def _tell(self, error):
        """Let the other ranks stop, too; should the disk be the problem, the launcher stops them."""
        with contextlib.suppress(OSError):
            (self.folder / FAILED.format(rank=self.ranks.rank)).write_text(f"{error}\n", encoding="utf-8")

    def _refuse_nan(self, block, margins):
        if np.isnan(margins).any():
            row, column = np.argwhere(np.isnan(margins))[0]
            image = self.scorer.data.image_ids[block.images[row]]
            raise DataError(
                f"image {image}, caption column {block.captions[column]}: the margin is NaN; the weights hold NaN, or "
                f"overflow in {self.scorer.backend.name}"
            )


class _OtherRankFailed(Exception):
    pass


def together(ranks, function):
    """Call a function on every rank; when it fails on one, every rank raises that error.

    Raises:
        UserError: the error of the first rank that had one, or this rank's own error.
    """
    result = error = None
    try:
        result = function()
    except Exception as raised:
        error = raised
    messages = ranks.gather(None if error is None else str(error))
    if error is not None:
        raise error
    for rank, message in enumerate(messages):
        if message is not None:
            raise UserError(f"rank {rank}: {message}")
    return result


def _duration(seconds):
    """Seconds as a person says them."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
