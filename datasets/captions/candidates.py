"""Candidate captions for the dev split: which 20 captions each image is ranked against while training."""

import numpy as np

from oscar_paddle.config.errors import DataError

_IMAGES_AT_ONCE = 512


def candidate_lists(captions, words, size=20, num_hard=15, own=5, seed=88):
    """For every image its own captions and, as wrong ones, captions of the images most like it.

    Two images are alike by the words they share, each word counting the more the fewer images have it (the weight is
    log(images / images with it)). Wrong captions come one from each image as long as there are images.

    Args:
        captions: image id -> list of captions.
        words: image id -> its object tags (str), or any text to judge likeness by.
        size: captions of each list.
        num_hard: how many of the wrong captions are of the images most alike; the rest of images drawn at random.
        own: right captions of each list: the image's first so many.
        seed: the same arguments give the same lists.
    Returns:
        dict image id -> list of `size` pairs [image id, caption number], in random order.
    Raises:
        DataError: there are not so many captions.
    """
    ids = list(captions)
    total = sum(min(own, len(captions[image_id])) for image_id in ids)
    if total < size:
        raise DataError(f"candidate lists of {size} captions need as many captions; found {total} of {len(ids)} images")
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
            pairs = [[ids[image], number] for number in range(min(own, size, len(captions[ids[image]])))]
            pairs += _wrong_captions(order, ids, captions, own, size - len(pairs), random)
            lists[ids[image]] = [pairs[i] for i in random.permutation(len(pairs))]
    return lists


def _wrong_captions(order, ids, captions, own, count, random):
    """`count` pairs of the images in this order: one caption of each, then a second of each, ..."""
    numbers = [random.permutation(min(own, len(captions[ids[image]]))) for image in order[:count]]
    pairs, turn = [], 0
    while len(pairs) < count:
        for image, shuffled in zip(order, numbers, strict=False):
            if turn < len(shuffled) and len(pairs) < count:
                pairs.append([ids[image], int(shuffled[turn])])
        turn += 1
    return pairs


def _word_vectors(texts):
    """[images, words] float32, square roots of the words' weights, so that products add up the weights."""
    sets = [set(text.lower().split()) for text in texts]
    index = {word: column for column, word in enumerate(sorted(set().union(*sets)))}
    vectors = np.zeros((len(sets), len(index)), np.float32)
    for row, found in enumerate(sets):
        vectors[row, [index[word] for word in found]] = 1
    weights = np.log(len(sets) / np.maximum(vectors.sum(axis=0), 1))
    return vectors * np.sqrt(weights, dtype=np.float32)
