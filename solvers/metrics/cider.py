"""CIDEr-D of captions: n-grams weighted by how few images' captions have them (docs/reference.md, caption scores).

Shape letters: n captions, P pairs of a caption and one of its references.
"""

import math
from collections import Counter
from functools import lru_cache

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.frequencies import Frequencies
from oscar_paddle.solvers.metrics.bleu import ORDERS, ngrams

_SIGMA = 6.0  # of the penalty for another length
_CACHED_IMAGES = 1024  # whose references' vectors are kept: a batch asks for the same ones again and again


class CiderD:
    """CIDEr-D with given document frequencies.

    Upstream: the weights of n-grams are clipped, where the paper clips their counts; a length is the number of pairs of
    words; frequencies below 1 count as 1.

    Args:
        frequencies: mapping n-gram (tuple of str) -> images that have it in a caption.
        num_images: images that were counted; DataError below 1.
    """

    def __init__(self, frequencies, num_images):
        if num_images < 1:
            raise DataError(f"document frequencies of {num_images} images; expected at least 1")
        self.frequencies, self._log_images = frequencies, math.log(num_images)
        self._vectors_of = lru_cache(_CACHED_IMAGES)(lambda texts: self._merged(map(_counts, texts)))

    def rewards(self, candidates, references):
        """Scores of captions as they are: words are what stands between white space (raw, for self-critical training).

        Args:
            candidates: [n] str. references: [n] lists of str, none empty.
        Returns:
            [n] float64, from 0 to 10.
        Raises:
            DataError: a list of references is empty, or there is another number of them.
        """
        if len(candidates) != len(references):
            raise DataError(f"{len(candidates)} captions and {len(references)} lists of references")
        merged = []
        for candidate, own in zip(candidates, references, strict=True):
            if not own:
                raise DataError(f"caption {candidate[:60]!r} has no references, of which its reward is made")
            merged.append(self._vectors_of(tuple(own)))
        return self._scores(map(_counts, candidates), merged)

    def scores(self, candidates, references):
        """The same of Counters of `ngrams`: [n] of them, [n] lists of them -> [n] float64."""
        return self._scores(candidates, map(self._merged, references))

    def _scores(self, candidates, merged):
        num_pairs, starts, pair_of, ours, theirs = 0, [], [], [], []
        norms, wanted_norms, deltas = [], [], []  # of each pair
        for candidate, (vectors, own_norms, own_lengths) in zip(candidates, merged, strict=True):
            weights, norm, length = self._vector(candidate)
            starts.append(num_pairs)
            for gram, weight in weights.items():
                for reference, wanted in vectors.get(gram, ()):
                    pair_of.append((num_pairs + reference) * ORDERS + len(gram) - 1)
                    ours.append(weight)
                    theirs.append(wanted)
            num_pairs += len(own_norms)
            norms += [norm] * len(own_norms)
            wanted_norms += own_norms
            deltas += [length - own for own in own_lengths]
        if not starts:
            return np.zeros(0)
        ours, theirs = np.array(ours), np.array(theirs)
        products = np.bincount(np.array(pair_of, np.int64), np.minimum(ours, theirs) * theirs, num_pairs * ORDERS)
        lengths = np.array(norms) * np.array(wanted_norms)  # [P, 4]
        cosines = products.reshape(lengths.shape) / np.where(lengths > 0, lengths, 1)
        penalties = np.exp(-np.square(deltas, dtype=np.float64) / (2 * _SIGMA**2))
        counts = np.diff([*starts, num_pairs])
        return 10 * np.add.reduceat(cosines.mean(axis=1) * penalties, starts) / counts

    def _merged(self, references):
        """({n-gram: [(reference, weight), ...]}, norms of each, lengths of each) of one image's Counters."""
        vectors, norms, lengths = {}, [], []
        for number, counts in enumerate(references):
            weights, norm, length = self._vector(counts)
            for gram, weight in weights.items():
                vectors.setdefault(gram, []).append((number, weight))
            norms.append(norm)
            lengths.append(length)
        return vectors, norms, lengths

    def _vector(self, counts):
        """({n-gram: weight}, norm of each order [4], pairs of words) of a Counter."""
        weights, squares, length = {}, [0.0] * ORDERS, 0
        frequency, log_images = self.frequencies.get, self._log_images
        for gram, count in counts.items():
            weight = count * (log_images - math.log(max(1.0, frequency(gram, 0.0))))
            weights[gram] = weight
            squares[len(gram) - 1] += weight * weight
            length += count if len(gram) == 2 else 0
        return weights, [math.sqrt(square) for square in squares], length


def document_frequencies(references):
    """In how many images' captions each n-gram stands: Counter, from an iterable of lists of Counters of `ngrams`."""
    found = Counter()
    for own in references:
        found.update(set().union(*own))
    return found


def reward_text(caption):
    """A caption as the reward reads it: ends stripped, one "." at the end removed, then " <eos>".

    Upstream: words are then what stands between blanks; nothing is lower-cased or parted from its comma.
    """
    return caption.strip().removesuffix(".") + " <eos>"


def word_frequencies(references):
    """Frequencies of training captions as the reward reads them.

    Args:
        references: iterable of the lists of captions (str) of all images, none empty; DataError for fewer than two.
    """
    references = list(references)
    if len(references) < 2:
        raise DataError(
            f"{len(references)} image(s) with captions; frequencies need two at least, or every reward is 0"
        )
    counts = ([_counts(reward_text(caption)) for caption in captions] for captions in references)
    return Frequencies(document_frequencies(counts), len(references))


def _counts(text):
    return ngrams(text.split())
