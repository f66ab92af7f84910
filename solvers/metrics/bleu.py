"""BLEU-1 to BLEU-4 of captions, as the official toolkit reckons them (docs/reference.md, caption scores)."""

import math
from collections import Counter

import numpy as np

ORDERS = 4
# Upstream: added so that nothing is divided by zero; they show in scores of captions without a hit.
_SMALL, _TINY = 1e-9, 1e-15


def ngrams(words):
    """Counter of all runs of one to four words (tuples of str) of a list of str."""
    counts = Counter((word,) for word in words)
    for length in range(2, ORDERS + 1):
        counts.update(zip(*(words[start:] for start in range(length)), strict=False))
    return counts


def bleu(candidates, references):
    """BLEU with the length of the reference that is closest to the candidate's, the shorter of two.

    Args:
        candidates: list of K Counters of `ngrams`. references: list of K lists of such Counters, none empty.
    Returns:
        (scores [4] float64 of the whole collection, scores [K, 4] float64 of each image).
    """
    correct, guessed = np.zeros((len(candidates), ORDERS)), np.zeros((len(candidates), ORDERS))
    lengths = np.zeros((len(candidates), 2))  # of the candidate, of its reference
    for image, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        length = _length(candidate)
        lengths[image] = length, min((abs(found - length), found) for found in map(_length, own))[1]
        guessed[image] = [max(0, length - order) for order in range(ORDERS)]
        for gram, count in candidate.items():
            correct[image, len(gram) - 1] += min(count, max(reference[gram] for reference in own))
    each = np.array(list(map(_score, correct, guessed, *lengths.T)))
    return _score(correct.sum(0), guessed.sum(0), *lengths.sum(0)), each


def _length(counts):
    return sum(count for gram, count in counts.items() if len(gram) == 1)


def _score(correct, guessed, length, reference_length):
    precisions = np.cumprod((correct + _TINY) / (guessed + _SMALL))
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return precisions ** (1 / np.arange(1, ORDERS + 1)) * brevity
