"""The random choices of one pre-training example: a pure function of (seed, corpus, epoch, index)."""

import numpy as np

from oscar_paddle.datasets.sampling import CORPUS, epoch_order, generator, place_in_epoch


class Draws:
    """One example's choices, in the order in which they are asked for. A test that replays recorded choices passes an
    object with the same methods.

    Args:
        seed, epoch, index: what they depend on.
        which: number of the corpus, where a run reads two.
    """

    def __init__(self, seed, epoch, index, which=0):
        self._random = generator(seed, CORPUS, epoch, index, which)

    def uniforms(self, count):
        """[count] float64 in [0, 1)."""
        return self._random.random(count)

    def document(self, count):
        """One of `count` documents: int from 0."""
        return int(self._random.integers(count))

    def takes_caption(self):
        """Whether mode 0 takes the caption of the drawn document rather than its text_b."""
        return bool(self._random.integers(2) == 0)

    def words(self, count, vocab_size):
        """[count] int64 in 0 .. vocab_size - 1."""
        return self._random.integers(vocab_size, size=count)


def examples_beside(*, examples, epoch, seed, size, extra_size):
    """The examples of a second corpus that are trained on together with these of the first.

    Both corpora are walked in shuffled passes of their own, side by side: the n-th example of the run comes with the
    n-th of the second corpus, however many processes share the work.

    Args:
        examples: [B] int, examples of the first corpus in pass `epoch` of its `size`.
        extra_size: examples of the second corpus.
    Returns:
        ([B] int64 examples of the second corpus, [B] int64 the pass of it that each belongs to).
    """
    passes, places = np.divmod(epoch * size + place_in_epoch(seed, epoch, size)[np.asarray(examples)], extra_size)
    chosen = np.empty_like(places)
    for each in np.unique(passes):
        here = passes == each
        chosen[here] = epoch_order(seed, int(each), extra_size)[places[here]]
    return chosen, passes
