"""One evaluation from start to end: score what is missing, on all ranks, then rank and report."""

import hashlib
import logging
import time
from pathlib import Path

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.models.checkpoints.weights import file_hash, find_weights
from oscar_paddle.solvers.metrics.eccv import check_eccv_input, eccv_metrics
from oscar_paddle.solvers.metrics.protocols import protocol_label
from oscar_paddle.solvers.metrics.retrieval import five_fold_metrics
from oscar_paddle.solvers.ranks import together
from oscar_paddle.solvers.scoring import rescoring
from oscar_paddle.solvers.scoring.folder import BLOCKS, COMPLETE, IN_PROGRESS, MARGINS, EvaluationFolder, caption_list
from oscar_paddle.solvers.scoring.pairs import BLOCK_PAIRS, PairScorer, image_groups, num_columns
from oscar_paddle.solvers.scoring.run import forget_failures, score_blocks
from oscar_paddle.solvers.tasks.retrieval import recall_lines, split_metrics

log = logging.getLogger(__name__)

_SCORING_KEYS = ("MAX_REGION", "MAX_SEQ_LEN", "IMG_FEATURE_DIM", "ADD_OD_LABEL", "DO_LOWER_CASE", "ATT_MASK_TYPE")


# ---- what a set of margins belongs to ----


def provenance(cfg, data):
    """What a set of margins depends on: checkpoint content, settings, images, captions, tags and features.

    Two runs with equal provenance give equal margins (but for rounding), so one may use the other's.
    """
    second_pass = {"rescored": rescoring.settings(cfg)} if rescoring.is_asked_for(cfg) else {}
    return {
        **checkpoint_provenance(cfg),
        **second_pass,
        "data": {
            "name": cfg.DATASET.NAME,
            "split": cfg.DATASET.TEST,
            "images": len(data.image_ids),
            "captions": len(data.captions),
            "content": data.fingerprint(),
            "tokens": [digest(table.ids) for table in (data.caption_tokens, data.tag_tokens)],
            "features": data.regions.fingerprint(data.image_ids),
        },
    }


def checkpoint_provenance(cfg, further_keys=()):
    """What scores of any task depend on, besides the data; `further_keys` of INPUT are the task's own."""
    path = find_weights(cfg.EVAL.CHECKPOINT_DIR)
    return {
        "checkpoint": {
            "weights": path.name,
            "content": file_hash(path),
            "config": file_hash(path.with_name("config.json")),
        },
        "settings": {key: cfg.INPUT[key] for key in (*_SCORING_KEYS, *further_keys)},
        "precision": cfg.EVAL.PRECISION,  # of all pairs, or of the first pass
    }


def digest(array):
    """Hex digest of an array's bytes."""
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
        make_backend: function of the weights' hash and a precision -> a backend for `PairScorer`, called on every
            rank; not called when all margins are there.
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
            _score(cfg, data, files, ranks, make_backend, wanted, groups, layout)
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


def _score(cfg, data, files, ranks, make_backend, wanted, groups, layout):
    """Leave all margins in the folder: one pass over all pairs, and a second one where settings ask for it."""
    content = wanted["checkpoint"]["content"]
    scorer = PairScorer(make_backend(content, cfg.EVAL.PRECISION), data, cfg.EVAL.BATCH_TOKENS)
    computation = {
        "backend": scorer.backend.name,
        "batch_tokens": cfg.EVAL.BATCH_TOKENS,
        "block_pairs": list(BLOCK_PAIRS),
    }
    again = None
    if rescoring.is_asked_for(cfg):
        again = rescoring.Rescoring(cfg, data, files, make_backend(content, "float32"), ranks)
        computation["rescored_by"] = again.backend.name
    ranks.on_main(lambda: _prepare(files, data, wanted, layout, computation))
    if again is None:
        score_blocks(scorer, groups, files.path, (MARGINS, BLOCKS), ranks)
    else:
        score_blocks(scorer, groups, files.path, (MARGINS, BLOCKS), ranks, afterwards=again.forecast)
        again.run()
    ranks.on_main(lambda: files.finish(wanted, computation))


def _prepare(files, data, wanted, layout, computation):
    """Leave the folder ready for blocks: a run that can go on stays, anything else makes room."""
    forget_failures(files.path)
    if files.state(wanted, *layout, computation) == IN_PROGRESS:
        log.info("%s: going on with an evaluation that was not finished", files.path)
    else:
        contents = {"image_ids.json": data.image_ids, "captions.json": caption_list(data)}
        files.start(contents, wanted, layout, computation)


def _report(cfg, data, files, annotation_ids):
    """Metrics of finished margins, written to metrics.json."""
    started = time.perf_counter()
    margins = files.scores()
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
