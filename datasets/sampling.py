"""Which pairs a training step sees: pure functions of (seed, epoch, index), whatever the workers and ranks."""

from functools import lru_cache

import numpy as np

_ORDER, _NEGATIVES, CORPUS = 1, 2, 3  # separate random streams


def generator(seed, stream, epoch, index=0, which=0):
    """A counter-based generator; the first counter word is left to the generator's own steps."""
    key, counter = np.array([seed, stream], np.uint64), np.array([0, epoch, index, which], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@lru_cache(maxsize=4)  # this epoch's and, for workers that run ahead, the next one's; of two corpora in pre-training
def epoch_order(seed, epoch, size):
    """The shuffled example indices of an epoch: [size] int64, a permutation of 0..size-1, read-only."""
    order = generator(seed, _ORDER, epoch).permutation(size)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=2)
def place_in_epoch(seed, epoch, size):
    """Where each example stands in `epoch_order`: [size] int64, read-only."""
    places = np.empty(size, np.int64)
    places[epoch_order(seed, epoch, size)] = np.arange(size)
    places.flags.writeable = False
    return places


def draw_negative(seed, epoch, index, image, caption, starts, which=0):
    """One negative for the positive pair (image, caption).

    Another image is drawn uniformly. With probability 1/2 (u <= 0.5) one of its captions joins the tags and regions of
    `image` (negative caption); otherwise `caption` joins the tags and regions of the other image (negative image).

    Args:
        seed, epoch, index: what the draw depends on, with `which` counting the negatives of one example.
        starts: [K + 1] int, where the captions of each of K > 1 images start, and their number.
    Returns:
        (image whose tags and regions are shown, caption).
    Source: docs/reference.md, retrieval negatives.
    """
    random = generator(seed, _NEGATIVES, epoch, index, which)
    other = int(random.integers(len(starts) - 2))
    other += other >= image
    if random.random() <= 0.5:
        return image, int(starts[other] + random.integers(starts[other + 1] - starts[other]))
    return other, caption


def update_slices(order, update, batch_size, world_size, accumulation):
    """The examples of one optimizer update: list over micro-batches of lists over ranks of index arrays.

    An update takes the next batch_size * world_size * accumulation examples of the epoch (the last one what is left, so
    some may be empty): any division of that product among ranks and micro-batches trains on the same examples.

    Args:
        order: [size] int, from `epoch_order`.
        update: number of the update within the epoch, from 0.
    """
    share = batch_size * world_size
    examples = order[update * share * accumulation : (update + 1) * share * accumulation]
    starts = range(0, len(examples), share)
    return [[examples[start:][:share][r * batch_size :][:batch_size] for r in range(world_size)] for start in starts]


def updates_per_epoch(size, batch_size, world_size, accumulation):
    """Optimizer updates of an epoch; the last may be a partial one, as the reference keeps its last batch."""
    return -(-size // (batch_size * world_size * accumulation))
