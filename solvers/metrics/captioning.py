"""Scores of captions, as the official toolkit (pycocoevalcap 1.2) gives them, without Java: BLEU, ROUGE-L, CIDEr.

METEOR and SPICE are the toolkit's own, see `toolkit.py`. Source: docs/reference.md, caption scores.
"""

import math

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.cider import LONGEST, CiderD, document_frequencies, ngrams
from oscar_paddle.solvers.metrics.ptb import words

_SMALL, _TINY = 1e-9, 1e-15  # the toolkit's guards against divisions by 0
_BETA = 1.2  # of ROUGE-L: weight of recall


def caption_metrics(captions, references):
    """Scores of one caption an image.

    Args:
        captions: {key: str}. references: {the same keys: list of str}.
    Returns:
        ({"Bleu_1".."Bleu_4", "ROUGE_L", "CIDEr": float, fractions}, {key: the same of the image alone}). CIDEr counts
        phrases over all these images; over one image it is 0 for any caption and left out.
    Raises:
        DataError: no captions, other keys, or an image without a reference; names it.
    """
    if not captions:
        raise DataError("no captions to score")
    for key in {**captions, **references}:
        if key not in captions:
            raise DataError(f"image {key} has references but no caption")
        if not references.get(key):
            raise DataError(f"image {key} has no reference; a caption is compared with one at least")
    keys = list(captions)
    mine = [words(captions[key]) for key in keys]
    theirs = [[words(text) for text in references[key]] for key in keys]
    bleu, own_bleu = bleu_scores(mine, theirs)
    rouge = [rouge_l(*pair) for pair in zip(mine, theirs, strict=True)]
    found = {f"Bleu_{n}": bleu[n - 1] for n in range(1, LONGEST + 1)} | {"ROUGE_L": float(np.mean(rouge))}
    own = [
        {f"Bleu_{n}": values[n - 1] for n in range(1, LONGEST + 1)} | {"ROUGE_L": value}
        for values, value in zip(own_bleu, rouge, strict=True)
    ]
    if len(keys) > 1:
        cider = CiderD(document_frequencies(theirs), len(keys))
        scores = [cider.score(*pair) for pair in zip(mine, theirs, strict=True)]
        found["CIDEr"] = float(np.mean(scores))
        own = [{**values, "CIDEr": score} for values, score in zip(own, scores, strict=True)]
    return found, dict(zip(keys, own, strict=True))


def bleu_scores(captions, references):
    """BLEU 1 to 4 of captions (lists of words) against their references (lists of lists of words).

    The length of the references is that of the one nearest to the caption, the shorter of two.

    Returns:
        (list of 4 float over all, [list of 4 of each caption]).
    """
    parts = [_bleu_parts(*pair) for pair in zip(captions, references, strict=True)]
    return _bleu(np.sum(parts, axis=0)), [_bleu(part) for part in parts]


def _bleu_parts(caption, references):
    """[10] float64: length, reference length, n-grams that are right (4), n-grams there are (4)."""
    counts, most = ngrams(caption), {}
    for reference in references:
        for gram, count in ngrams(reference).items():
            most[gram] = max(most.get(gram, 0), count)
    right = [0] * LONGEST
    for gram, count in counts.items():
        right[len(gram) - 1] += min(count, most.get(gram, 0))
    there = [max(0, len(caption) - n) for n in range(LONGEST)]
    nearest = min((abs(len(reference) - len(caption)), len(reference)) for reference in references)[1]
    return np.array([len(caption), nearest, *right, *there], np.float64)


def _bleu(parts):
    length, reference = parts[:2]
    ratio = (length + _TINY) / (reference + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, found = 1.0, []
    for n, (right, there) in enumerate(zip(parts[2:6], parts[6:], strict=True), start=1):
        product *= (right + _TINY) / (there + _SMALL)
        found.append(float(product ** (1 / n) * brevity))
    return found


def rouge_l(caption, references):
    """ROUGE-L of a caption (list of words) against references: by the longest common subsequence.

    Upstream: the best precision and the best recall may come from different references; a caption without words counts
    as one empty word.
    """
    caption = caption or [""]
    precision = recall = 0.0
    for reference in references:
        reference = reference or [""]
        common = _common(reference, caption)
        precision, recall = max(precision, common / len(caption)), max(recall, common / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(one, other):
    """Length of the longest common subsequence of two lists."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, candidate in enumerate(other, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == candidate else max(above, row[place - 1])
            diagonal = above
    return row[-1]
