"""Captions without a model: what a picture's nearest neighbour is called, and what is said most often.

A model that has learned anything is better than both. Shape letters: K images, T training images, D values of a region.
"""

from collections import Counter

import numpy as np

from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.first_look import plain

NEAREST, COMMONEST = "nearest picture", "commonest caption"


def baseline_captions(train, test):
    """Captions of the images of `test` made of those of `train` (both CaptionDatasets).

    The nearest picture is the one whose regions have the most similar mean (cosine, each value less its mean over the
    training images); its first caption is taken. The commonest caption is the first of those that occur most often.

    Returns:
        {NEAREST: {image index: str}, COMMONEST: the same}.
    """
    known, asked = _means(train), _means(test)
    centre = known.mean(axis=0)
    known, asked = (_unit(part - centre) for part in (known, asked))
    first = {}
    for caption, image in enumerate(train.caption_images):
        first.setdefault(int(image), train.captions[caption])
    counts = Counter(map(plain, train.captions))
    usual = max(counts, key=counts.get)
    commonest = next(text for text in train.captions if plain(text) == usual)
    owners = np.array(sorted(first))
    nearest = owners[(asked @ known[owners].T).argmax(axis=1)]
    return {
        NEAREST: {image: first[int(other)] for image, other in enumerate(nearest)},
        COMMONEST: dict.fromkeys(range(len(asked)), commonest),
    }


def _means(data):
    """[K, D] float32: the mean of each image's regions."""
    progress = tqdm(range(data.num_images), "reading regions", unit=" images", delay=2, leave=False)
    return np.stack([data.features([image])[0].mean(axis=0) for image in progress])


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
