"""Recorded random choices in place of a generator's (tests/golden/pretraining/README.md)."""

import numpy as np


class Replayed:
    """Stands in for `datasets.corpus.draws.Draws`; `draws` is a list of [kind, value] in the recorded order.

    Words are recorded between the numbers that decide about them and are asked for afterwards, so each kind has a
    queue of its own.
    """

    def __init__(self, draws):
        self._left = {
            kind: [value for name, value in draws if name == kind] for kind in ("random", "randrange", "choice")
        }
        assert len(draws) == sum(map(len, self._left.values()))

    def uniforms(self, count):
        return np.array([self._left["random"].pop(0) for _ in range(count)])

    def document(self, count):
        value = self._left["randrange"].pop(0)
        assert 0 <= value < count
        return value

    def takes_caption(self):
        return {1: True, 2: False}[self._left["randrange"].pop(0)]

    def words(self, count, vocab_size):
        return np.array([self._left["choice"].pop(0) for _ in range(count)], np.int64)

    def check_all_used(self):
        assert not any(self._left.values()), self._left
