"""Candidate captions for the dev split: which 20 captions each image is ranked against while training."""

from itertools import zip_longest

import numpy as np

from oscar_paddle.config.errors import DataError

_OWN = 5  # captions of an image that stand in lists: the first so many
_IMAGES_AT_ONCE = 512


def candidate_lists(captions, words, size=20, num_hard=15, seed=88):
    """For every image its own captions and, as wrong ones, captions of the images most like it.

    Two images are alike by the words they share, each word counting the more the fewer images have it (the weight is
    log(images / images with it)). Wrong captions come one from each image as long as there are images.

    Args:
        captions: image id -> list of captions.
        words: image id -> its object tags (str), or any text to judge likeness by.
        size: captions of each list.
        num_hard: how many of the wrong captions are of the images most alike; the rest of images drawn at random.
        seed: the same arguments give the same lists.
    Returns:
        dict image id -> list of `size` pairs [image id, caption number], in random order.
    Raises:
        DataError: there are not so many captions.
    """
    ids = list(captions)
    counts = [min(_OWN, len(captions[image_id])) for image_id in ids]
    if (total := sum(counts)) < size:
        raise DataError(
            f"candidate lists of {size} captions need as many captions; found {total} of {len(ids)} images: make "
            "shorter ones with --candidates, take the images of another split with --dev_split, or say --no_dev"
        )
    random = np.random.default_rng(seed)
    vectors = _word_vectors([words.get(image_id, "") for image_id in ids])
    lists = {}
    for first in range(0, len(ids), _IMAGES_AT_ONCE):
        likeness = vectors[first : first + _IMAGES_AT_ONCE] @ vectors.T
        for image, row in enumerate(likeness, start=first):
            others = random.permutation(len(ids))  # decides between images that are equally alike
            others = others[others != image]
            by_likeness = others[np.argsort(-row[others], kind="stable")]
            hard = by_likeness[:num_hard]
            order = np.concatenate([hard, others[~np.isin(others, hard)]]).tolist()
            pairs = [[ids[image], number] for number in range(min(size, counts[image]))]
            wrong = size - len(pairs)  # one caption of each image, then a second of each, ...
            shuffled = [[[ids[i], int(number)] for number in random.permutation(counts[i])] for i in order[:wrong]]
            pairs += [pair for turn in zip_longest(*shuffled) for pair in turn if pair][:wrong]
            lists[ids[image]] = [pairs[i] for i in random.permutation(len(pairs))]
    return lists


def _word_vectors(texts):
    """[images, words] float32, square roots of the words' weights, so that products add up the weights."""
    sets = [set(text.lower().split()) for text in texts]
    index = {word: column for column, word in enumerate(sorted(set().union(*sets)))}
    vectors = np.zeros((len(sets), len(index)), np.float32)
    for row, found in enumerate(sets):
        vectors[row, [index[word] for word in found]] = 1
    weights = np.log(len(sets) / np.maximum(vectors.sum(axis=0), 1))
    return vectors * np.sqrt(weights, dtype=np.float32)
