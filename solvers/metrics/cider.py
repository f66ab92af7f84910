"""CIDEr-D: how much of a caption people said, too, rare phrases counting more.

Phrases are n-grams of 1 to 4 words. Their weights are counts times the logarithm of (images / images whose references
have the phrase); caption and reference are compared by the cosine of these, in which a phrase of the caption counts no
more than in the reference, times a factor that falls with the difference of their lengths. Ours equals the official
toolkit (pycocoevalcap 1.2), which clips weights, that is raw counts, where the paper clips frequencies, and takes the
number of bigrams for the length.

Source: Vedantam, Zitnick and Parikh, "CIDEr" (CVPR 2015); docs/reference.md, caption scores.
"""

import math
from collections import Counter, defaultdict

import numpy as np

LONGEST = 4  # words of an n-gram
_SPREAD = 6.0  # of lengths


def ngrams(words):
    """{n-gram: count} of a list of words, n from 1 to 4."""
    return Counter(tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1))


def document_frequencies(references):
    """{n-gram: number of images whose references have it}; references: [[list of words, ...] of each image]."""
    found = defaultdict(int)
    for texts in references:
        for gram in {gram for words in texts for gram in ngrams(words)}:
            found[gram] += 1
    return found


class _Vector:
    """Weights of a text's n-grams, by n; their norms; how many bigrams it has."""

    def __init__(self, words, frequencies, log_images):
        self.weights = [{} for _ in range(LONGEST)]
        self.length = 0
        for gram, count in ngrams(words).items():
            weight = count * (log_images - math.log(max(1.0, frequencies.get(gram, 0))))
            self.weights[len(gram) - 1][gram] = weight
            self.length += count if len(gram) == 2 else 0
        self.norms = [math.sqrt(sum(w * w for w in weights.values())) for weights in self.weights]

    def similarity(self, reference):
        """[4] float64: of each n."""
        found = np.zeros(LONGEST)
        for n, (mine, theirs) in enumerate(zip(self.weights, reference.weights, strict=True)):
            shared = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in mine.items() if gram in theirs)
            if self.norms[n] and reference.norms[n]:
                shared /= self.norms[n] * reference.norms[n]
            found[n] = shared
        return found * math.exp(-((self.length - reference.length) ** 2) / (2 * _SPREAD**2))


class CiderD:
    """CIDEr-D with given document frequencies, on whatever words are.

    Args:
        frequencies: {n-gram (tuple of str): number of images}.
        num_images: how many images these were counted over.
    """

    def __init__(self, frequencies, num_images):
        self.frequencies, self.log_images = frequencies, math.log(num_images)
        self._kept = {}  # of references, which are those of several captions

    def score(self, words, references):
        """Score of a caption (list of words) against references (list of lists of words, not empty)."""
        mine = self._vector(words)
        total = sum(mine.similarity(self._reference(reference)) for reference in references)
        return float(total.mean() / len(references) * 10.0)

    def rewards(self, captions, references):
        """[n] float64 of captions (str) against their references (lists of str); words stand between blanks."""
        self._kept = {}  # of this batch: those of all captions of COCO would take gigabytes
        texts = [[text.split() for text in own] for own in references]
        return np.array([self.score(c.split(), own) for c, own in zip(captions, texts, strict=True)], np.float64)

    def _vector(self, words):
        return _Vector(words, self.frequencies, self.log_images)

    def _reference(self, words):
        key = tuple(words)
        if key not in self._kept:
            self._kept[key] = self._vector(words)
        return self._kept[key]
