"""Batches without padding, from plain lengths: what `datasets.collate.collate` returns, with random contents."""

import numpy as np

from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.tensorize import TextRows


def text_rows(random, text_length, caption_length=None, words=50):
    """TextRows with these lengths and random words."""
    text_length = np.asarray(text_length)
    position = np.concatenate([np.arange(length) for length in text_length])
    caption_length = text_length if caption_length is None else np.asarray(caption_length)
    ids = random.integers(1, words, len(position))
    types = (position >= np.repeat(caption_length, text_length)).astype(np.int64)
    return TextRows(ids, types, position, caption_length, text_length)


def batch_of(random, lengths, caption_length=None, width=7):
    """A batch of rows with [(text positions, regions), ...], an image each."""
    text, regions = np.array(lengths).T
    features = [random.normal(size=(count, width)).astype(np.float32) for count in regions]
    return collate(text_rows(random, text, caption_length), features, np.arange(len(features)))
