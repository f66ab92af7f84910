"""ECCV Caption, CxC and COCO 5K recalls from margins, through the PyPI package `eccv-caption`.

COCO calls one image right for a caption although many fit. CxC and ECCV Caption add the missing positives, found by
people (CxC) and by models and people (ECCV); mAP@R and R-Precision look at all of them, not only at the first.
The package holds the three ground truths for the Karpathy COCO test split: 5,000 images, 25,000 captions.

Facts about the package (0.1.0) that this file answers to, each with a test:
- `eccv_rprecision` asked for alone, or `eccv_recalls` beside `eccv_map_at_r`, comes back missing without a word; the
  three ECCV figures are complete only when asked for with `eccv_map_at_r`.
- It walks over every query of its ground truth: anything but the full split is a KeyError, and lists shorter than the
  number of positives (up to 48 captions, 19 images) an IndexError.
- Its 1K recalls need complete rankings (125 million ids in Python lists); use `five_fold_metrics` for those.
- Two captions in its ECCV positives (144675, 467259) are not in the split, so a perfect mAP@R stays just below 1.

Source: Chun et al., "ECCV Caption", ECCV 2022, sections 4 and 5; Parekh et al., "Crisscrossed Captions", EACL 2021.
"""

import contextlib
import io
import warnings

import numpy as np

from oscar_paddle.config.errors import DataError, UserError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.solvers.metrics.retrieval import RECALL_AT, row_blocks

# What is asked of the package for each of its ground truths.
TARGETS = {
    "coco": ("coco_5k_recalls",),
    "cxc": ("cxc_recalls",),
    "eccv": ("eccv_map_at_r", "eccv_rprecision", "eccv_r1"),
}
COLUMNS_AT_ONCE = 1000  # captions ranked at once: 20 MB of margins for 5,000 images


def eccv_metrics(margins, image_ids, caption_ids, progress=False):
    """Score a full ranking of the COCO test split against COCO, CxC and ECCV Caption.

    Equal margins are ordered for the worse, separately for each ground truth: its positives come last.

    Args:
        margins: [5000, 25000] float, may be memory-mapped; logit of "matched" minus logit of "not matched".
        image_ids: [5000] COCO image id of each row, in any order.
        caption_ids: [25000] COCO caption annotation id of each column, in any order.
        progress: show a progress bar (a few seconds in all).
    Returns:
        dict, ready for JSON: figure -> {"i2t": fraction, "t2i": fraction}, with the figures `coco_5k_r1/r5/r10`,
        `cxc_r1/r5/r10`, `eccv_map_at_r`, `eccv_rprecision`, `eccv_r1`.
    Raises:
        UserError: the package is not installed.
        DataError: the ids are not those of the split, do not fit the margins, or the margins hold NaN.
    """
    metrics, image_ids, caption_ids = check_eccv_input(image_ids, caption_ids)
    if margins.shape != (len(image_ids), len(caption_ids)) or margins.dtype.kind != "f":
        raise DataError(
            f"margins are {margins.dtype} {list(margins.shape)}; expected float {[len(image_ids), len(caption_ids)]}, "
            "one row for each image id and one column for each caption id"
        )
    truths = {name: getattr(metrics, f"{name}_gts") for name in TARGETS}
    with tqdm(total=sum(margins.shape), unit="query", desc="ECCV Caption", disable=not progress) as bar:
        rows = (block for _, block in row_blocks(margins))
        i2t = ranked_ids(rows, image_ids, caption_ids, {name: truth["i2t"] for name, truth in truths.items()}, bar)
        starts = range(0, len(caption_ids), COLUMNS_AT_ONCE)
        columns = (np.ascontiguousarray(margins[:, start : start + COLUMNS_AT_ONCE].T) for start in starts)
        t2i = ranked_ids(columns, caption_ids, image_ids, {name: truth["t2i"] for name, truth in truths.items()}, bar)
    figures = {}
    for name, targets in TARGETS.items():
        with contextlib.redirect_stderr(io.StringIO()):  # its ECCV part draws two bars, verbose or not
            figures |= metrics.compute_all_metrics(i2t[name], t2i[name], target_metrics=targets, Ks=RECALL_AT)
    return {name: {way: float(value) for way, value in both.items()} for name, both in figures.items()}


def check_eccv_input(image_ids, caption_ids):
    """Everything that can be refused before hours of scoring: the package and the ids.

    Args:
        image_ids, caption_ids: integers (or strings of digits), as in `eccv_metrics`.
    Returns:
        (eccv_caption.Metrics, image ids as a list of int, caption ids as a list of int).
    Raises:
        UserError: the package is not installed.
        DataError: ids are repeated, or are not exactly those of the COCO test split.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it regrets that ujson is not there
            from eccv_caption import Metrics
    except ImportError as error:
        raise UserError(
            "ECCV Caption metrics need the package eccv-caption: python -m pip install -r requirements-eccv.txt"
        ) from error
    metrics = Metrics()
    image_ids = _checked_ids("image", image_ids, metrics.coco_gts["i2t"])
    return metrics, image_ids, _checked_ids("caption annotation", caption_ids, metrics.coco_gts["t2i"])


def _checked_ids(kind, ids, expected):
    try:
        ids = [int(value) for value in ids]
    except (TypeError, ValueError) as error:
        raise DataError(f"{kind} ids must be integers: {error}") from error
    known = set(ids)
    if len(known) < len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise DataError(f"{kind} id {values[counts > 1][0]} is given {counts.max()} times; expected each id once")
    unknown, missing = known - expected.keys(), expected.keys() - known
    if unknown or missing:
        which = f"id {min(unknown)} is not in it" if unknown else f"id {min(missing)} is missing"
        raise DataError(
            f"{len(ids)} {kind} ids are not the {len(expected)} of the COCO test split that ECCV Caption is defined on "
            f"({which}; {len(unknown)} too many, {len(missing)} missing)"
        )
    return ids


def ranked_ids(blocks, query_ids, item_ids, truths, bar):
    """Best items of every query, one ranking for each ground truth, differing only in the order of equal margins.

    Args:
        blocks: iterable of [queries, items] float arrays, together all queries in order.
        query_ids: ids of the queries; item_ids: ids of the items.
        truths: {name: {query id: positive item ids}}; a query outside a ground truth gets no list there.
        bar: tqdm counting queries.
    Returns:
        {name: {query id: item ids, best first}}, as long as that ground truth needs: its longest list of positives,
        at least 10.
    """
    depth = {name: max(*RECALL_AT, *map(len, truth.values())) for name, truth in truths.items()}
    needed = min(max(depth.values()), len(item_ids))
    column = {item: index for index, item in enumerate(item_ids)}
    item_ids = np.asarray(item_ids)
    rankings = {name: {} for name in truths}
    queries = iter(query_ids)
    for block in blocks:
        last_margins = np.partition(block, block.shape[1] - needed, axis=1)[:, -needed]
        for margins, last in zip(block, last_margins, strict=True):
            query = next(queries)
            chosen = np.flatnonzero(margins >= last)  # more than needed where margins tie with the last
            for name, truth in truths.items():
                if query not in truth:
                    continue
                positives = [column[item] for item in truth[query] if item in column]
                order = np.lexsort((np.isin(chosen, positives), -margins[chosen]))[: depth[name]]
                rankings[name][query] = item_ids[chosen[order]].tolist()
        bar.update(len(block))
    return rankings
