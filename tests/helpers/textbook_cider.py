"""CIDEr-D as its formula reads, one caption and one reference at a time: slow, and independent of ours.

Source: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015), with the toolkit's clipping
of weights and its length, the number of pairs of words.
"""

import math
from collections import Counter


class TextbookCiderD:
    """Args: frequencies: {n-gram, a tuple of words: images that have it}. num_images: of how many."""

    def __init__(self, frequencies, num_images):
        self.frequencies, self.log_images = frequencies, math.log(num_images)

    def rewards(self, candidates, references):
        """Of each candidate against its list of references."""
        return [
            10 * sum(self._similarity(candidate, reference) for reference in own) / len(own)
            for candidate, own in zip(candidates, references, strict=True)
        ]

    def _similarity(self, candidate, reference):
        found, wanted = self._vectors(candidate), self._vectors(reference)
        apart = sum(self._counts(candidate, 2).values()) - sum(self._counts(reference, 2).values())
        total = 0.0
        for left, right in zip(found, wanted, strict=True):
            product = sum(min(left[gram], right.get(gram, 0.0)) * right.get(gram, 0.0) for gram in left)
            norms = math.sqrt(sum(v * v for v in left.values())) * math.sqrt(sum(v * v for v in right.values()))
            total += product / (norms or 1.0)
        return total / 4 * math.exp(-(apart**2) / 72)

    def _vectors(self, text):
        return [
            {
                gram: count * (self.log_images - math.log(max(1, self.frequencies.get(gram, 0))))
                for gram, count in self._counts(text, n).items()
            }
            for n in range(1, 5)
        ]

    @staticmethod
    def _counts(text, n):
        words = text.split()
        return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
