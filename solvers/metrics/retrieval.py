"""Image-text retrieval metrics: margins in, ranks and recalls out.

Shape letters: K images, C captions, n candidate captions per image. Everywhere `margins` is [K, C] float, may be
memory-mapped and is then read in blocks of rows; `caption_image` is [C] integer, the row of the image that each caption
belongs to, any number per image, in any order. What is not so, or is NaN, is a DataError.

A margin is the logit of "matched" minus the logit of "not matched". It orders pairs as their probability does, but
does not saturate: a softmax in float32 is exactly 1.0 from a margin of about 17 on, and ties everything above it.

Ties (`ties`): "worst", the default, ranks a positive after every negative of equal margin, so no score is earned by
luck. "later_first" is only for comparing ranks with the reference implementation.
Upstream: an ascending argsort, reversed, so of two equals the later one is ahead (as far as NumPy's unstable sort
keeps equals in order, which it does not promise).

Infinities are values like any other: +inf is ahead of everything finite, -inf behind, and two equal
infinities tie.

Source: Oscar's retrieval protocol (docs/reference.md, retrieval metrics).
"""

import math

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.accuracy import standard_error

RECALL_AT = (1, 5, 10)
TIES = ("worst", "later_first")
BLOCK_VALUES = 8 * 2**20  # margins held in memory at once (32 MiB of float32), however many there are on disk


# ---- ranks ----


def image_to_text_ranks(margins, caption_image, ties="worst"):
    """Rank of the best positive caption of every image (text retrieval).

    Returns:
        [K] int64, 0-based: the number of negative captions with a margin at or above that of the image's best
        positive (ties "worst"); C for an image without captions (a miss).
    """
    margins, caption_image = _checked(margins, caption_image)
    return _row_ranks(margins, lambda rows: caption_image == np.arange(rows.start, rows.stop)[:, None], ties)


def text_to_image_ranks(margins, caption_image, ties="worst"):
    """Rank of every caption's own image (image retrieval).

    Returns:
        [C] int64, 0-based: the number of other images with a margin at or above that of the caption's own image
        (ties "worst").
    """
    margins, caption_image = _checked(margins, caption_image)
    own = margins[caption_image, np.arange(margins.shape[1])]
    ranks = np.zeros(margins.shape[1], dtype=np.int64)
    for rows, block in row_blocks(margins):
        image = np.arange(rows.start, rows.stop)[:, None]
        ahead_if_equal = image != caption_image if _is_worst(ties) else image > caption_image
        ranks += np.count_nonzero((block > own) | ((block == own) & ahead_if_equal), axis=0)
    return ranks


def candidate_ranks(margins, is_positive, ties="worst"):
    """Rank of the best positive in each image's own list of candidate captions (the dev top-20 protocol).

    Args:
        margins: [K, n] float.
        is_positive: [K, n] bool, whether the candidate is a caption of that image.
    Returns:
        [K] int64, 0-based, with the rules of `image_to_text_ranks`; n where no candidate is positive (a miss).
    """
    margins = _checked_margins(margins)
    is_positive = np.asarray(is_positive)
    if is_positive.shape != margins.shape or is_positive.dtype != bool:
        raise DataError(
            f"is_positive is {is_positive.dtype} {list(is_positive.shape)}; expected bool {list(margins.shape)}, "
            "the shape of the margins"
        )
    return _row_ranks(margins, lambda rows: is_positive[rows], ties)


def equal_sentence_ranks(margins, caption_image, sentences):
    """Ranks where a caption is right for every image that has the same sentence (ties "worst").

    Args:
        sentences: [C] integer, from 0 on, equal for captions that are the same sentence.
    Returns:
        (as `image_to_text_ranks`, as `text_to_image_ranks`).
    """
    margins, caption_image = _checked(margins, caption_image)
    has = np.zeros((len(margins), sentences.max() + 1), bool)  # [K, sentences]
    has[caption_image, sentences] = True
    i2t = _row_ranks(margins, lambda rows: has[rows][:, sentences], "worst")
    return i2t, _row_ranks(margins.T, lambda rows: has[:, sentences[rows]].T, "worst")


def row_blocks(margins):
    """Yields (slice of rows, [rows, C] array) with about BLOCK_VALUES values each; a NaN is a DataError."""
    num_rows, num_columns = margins.shape
    step = max(1, BLOCK_VALUES // num_columns)
    for start in range(0, num_rows, step):
        rows = slice(start, min(start + step, num_rows))
        block = np.asarray(margins[rows])
        is_nan = np.isnan(block)
        if is_nan.any():
            row, column = np.argwhere(is_nan)[0]
            raise DataError(f"{_name(margins)}: NaN in row {start + row}, column {column}; expected a number")
        yield rows, block


def _row_ranks(margins, positives, ties):
    """As `candidate_ranks`, of a function `positives`: slice of rows -> [rows, n] bool."""
    ranks, num_candidates = [], margins.shape[1]
    for rows, block in row_blocks(margins):
        positive = positives(rows)
        best = np.where(positive, block, -np.inf).max(axis=1, keepdims=True)
        equal = block == best
        if _is_worst(ties):
            ahead_if_equal = ~positive
        else:
            after_last_best = np.argmax((equal & positive)[:, ::-1], axis=1)[:, None]
            ahead_if_equal = np.arange(num_candidates) >= num_candidates - after_last_best
        ahead = np.count_nonzero((block > best) | (equal & ahead_if_equal), axis=1)
        ranks.append(np.where(positive.any(axis=1), ahead, num_candidates))
    return np.concatenate(ranks)


def _is_worst(ties):
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; expected one of {TIES}")
    return ties == "worst"


def _name(margins):
    file = getattr(margins, "filename", None)  # set on memory-mapped arrays and their slices
    return f"margins ({file})" if file else "margins"


def _checked_margins(margins):
    margins = np.asanyarray(margins)  # a memory-mapped array keeps its file's name
    if margins.ndim != 2 or 0 in margins.shape or margins.dtype.kind not in "fiu":
        raise DataError(
            f"{_name(margins)}: {margins.dtype} {list(margins.shape)}; "
            "expected numbers [images, captions], at least one of each"
        )
    return margins


def _checked(margins, caption_image):
    margins = _checked_margins(margins)
    num_images, num_captions = margins.shape
    caption_image = np.asarray(caption_image)
    if caption_image.shape != (num_captions,) or caption_image.dtype.kind not in "iu":
        raise DataError(
            f"caption_image is {caption_image.dtype} {list(caption_image.shape)}; expected integers [{num_captions}], "
            f"one for each column of {_name(margins)}"
        )
    caption_image = caption_image.astype(np.int64)
    outside = np.flatnonzero((caption_image < 0) | (caption_image >= num_images))
    if outside.size:
        raise DataError(
            f"caption_image[{outside[0]}] is {caption_image[outside[0]]}; expected a row of {_name(margins)}, "
            f"0 to {num_images - 1}"
        )
    return margins, caption_image


# ---- from ranks to figures ----


def retrieval_metrics(i2t_ranks, t2i_ranks=None, num_candidates=None):
    """Recalls and what helps to read them, ready for JSON.

    Args:
        i2t_ranks: [K] integer, 0-based, one per image.
        t2i_ranks: [C] integer, 0-based, one per caption; None where captions were not queries (dev candidates).
        num_candidates: captions ranked for each image. When given, an image without any positive (rank
            num_candidates) is a miss at every k, also at k above num_candidates; and such images are counted.
    Returns:
        dict. `i2t_retrieval`: {"R@1", "R@5", "R@10"}, fractions. Beside it, with the same prefix:
        `_standard_error` of each recall, sqrt(p (1 - p) / queries), which takes queries as independent;
        `_median_rank` and `_mean_rank`, 1-based (best is 1), a miss counting as one place after the last candidate;
        `_num_queries`; `i2t_num_without_positive` if num_candidates is given. With t2i_ranks the same under `t2i_`,
        and `rsum`, the sum of the six recalls in percent (0 to 600).
    Raises:
        DataError: ranks are not a non-empty list of integers from 0 on, or exceed num_candidates.
    """
    i2t_ranks = _checked_ranks("i2t_ranks", i2t_ranks)
    metrics = _direction("i2t", i2t_ranks, num_candidates or math.inf)
    if num_candidates is not None:
        if i2t_ranks.max() > num_candidates:
            raise DataError(f"i2t_ranks hold {i2t_ranks.max()}; expected at most {num_candidates}, the candidates")
        metrics["i2t_num_without_positive"] = int(np.count_nonzero(i2t_ranks == num_candidates))
    if t2i_ranks is not None:
        metrics.update(_direction("t2i", _checked_ranks("t2i_ranks", t2i_ranks), math.inf))
        recalls = [*metrics["i2t_retrieval"].values(), *metrics["t2i_retrieval"].values()]
        metrics["rsum"] = 100 * math.fsum(recalls)
    return metrics


def _direction(prefix, ranks, num_candidates):
    # A rank of num_candidates is "no positive at all", which is no hit even where k is larger.
    recalls = {f"R@{k}": float(np.mean(ranks < min(k, num_candidates))) for k in RECALL_AT}
    return {
        f"{prefix}_retrieval": recalls,
        f"{prefix}_standard_error": {name: standard_error(p, ranks.size) for name, p in recalls.items()},
        f"{prefix}_median_rank": float(np.median(ranks)) + 1,
        f"{prefix}_mean_rank": float(np.mean(ranks)) + 1,
        f"{prefix}_num_queries": int(ranks.size),
    }


def _checked_ranks(name, ranks):
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or ranks.size == 0 or ranks.dtype.kind not in "iu":
        raise DataError(f"{name} are {ranks.dtype} {list(ranks.shape)}; expected a non-empty list of integers")
    if ranks.min() < 0:
        raise DataError(f"{name} hold {ranks.min()}; expected 0-based ranks, 0 or more")
    return ranks


def five_fold_metrics(margins, caption_image, folds=5):
    """The folded COCO 1K protocol: consecutive parts of the image list ranked on their own, then averaged.

    Args:
        folds: number of parts; each holds K / folds images in list order and those images' captions.
    Returns:
        dict shaped as that of `retrieval_metrics`: recalls, ranks and rsum are the means over folds, standard errors
        those of the means, numbers of queries the sums; and `folds`, the list of every fold's own dict.
    Raises:
        DataError: K is not a multiple of folds, or a part has no captions.
    """
    margins, caption_image = _checked(margins, caption_image)
    num_images = margins.shape[0]
    if folds < 1 or num_images % folds:
        raise DataError(f"{num_images} images cannot be split into {folds} equal folds")
    size = num_images // folds
    parts = []
    for start in range(0, num_images, size):
        captions = np.flatnonzero((caption_image >= start) & (caption_image < start + size))
        if captions.size == 0:
            raise DataError(f"no captions for images {start} to {start + size - 1}, which make up one of {folds} folds")
        part = margins[start : start + size, captions[0] : captions[-1] + 1][:, captions - captions[0]]
        image = caption_image[captions] - start
        ranks = image_to_text_ranks(part, image), text_to_image_ranks(part, image)
        parts.append(retrieval_metrics(*ranks, num_candidates=captions.size))
    return {**_mean_of_folds(parts), "folds": parts}


def _mean_of_folds(parts):
    mean = {}
    for name, value in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(value, dict):  # the errors are those of a mean of independent figures
            total = math.hypot if name.endswith("_standard_error") else lambda *figures: math.fsum(figures)
            mean[name] = {key: total(*(v[key] for v in values)) / len(parts) for key in value}
        elif isinstance(value, int):
            mean[name] = sum(values)
        else:
            mean[name] = math.fsum(values) / len(parts)
    return mean


def format_recall_line(direction, recalls):
    """The line known from Oscar's log: `I2T Retrieval: 0.8980 @ R1, 0.9880 @ R5, 0.9970 @ R10`."""
    return f"{direction} Retrieval: " + ", ".join(f"{recalls[f'R@{k}']:.4f} @ R{k}" for k in RECALL_AT)
