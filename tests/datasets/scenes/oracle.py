"""A perfect reader of *scenes*: how well could one do who sees every fact and knows the grammar?

It bounds what a model can reach, and shows that the data set is neither trivial nor hopeless.
"""

from itertools import permutations
from math import log2

import numpy as np

from oscar_paddle.datasets.scenes.placing import SIZES
from oscar_paddle.datasets.scenes.world import BACKGROUNDS, COLOURS, SHAPES, TEXTURES


def compatible(caption, scene, use_relations=True):
    """Whether a caption can be true of a scene.

    Singular mentions need different objects that have the said attributes and stand in the said relations; a count
    needs exactly so many matching objects; a named background must be the scene's.

    Args:
        caption: `Caption`.
        scene: `Scene`.
        use_relations: False for a reader who ignores "left of", "in front of", ...
    """
    if caption.background not in (None, scene.background):
        return False
    fitting = [[m.fits(item) for item in scene.objects] for m in caption.mentions]
    if not all(any(fits) for fits in fitting):  # most pairs end here
        return False
    if any(m.count > 1 and sum(fits) != m.count for m, fits in zip(caption.mentions, fitting, strict=True)):
        return False
    single = [i for i, m in enumerate(caption.mentions) if m.count == 1]
    for objects in permutations(range(len(scene.objects)), len(single)):
        place = dict(zip(single, objects, strict=True))
        if all(fitting[i][k] for i, k in place.items()) and (
            not use_relations or all(scene.holds(name, place[i], place[j]) for name, i, j in caption.relations)
        ):
            return True
    return False


def information(caption):
    """About how many bits a caption tells: a compatible caption that says more is the likelier match."""
    bits = log2(len(BACKGROUNDS)) if caption.background else 0.0
    for m in caption.mentions:
        bits += log2(len(SHAPES)) * (m.shape is not None) + log2(len(COLOURS)) * (m.colour is not None)
        bits += log2(len(SIZES)) * (m.size is not None) + log2(len(TEXTURES)) * (m.texture is not None)
        bits += 2.0 * (m.count > 1)
    return bits + len(caption.relations)


def oracle_scores(scenes, captions, use_relations=True):
    """Scores of every caption for every scene.

    Args:
        scenes: list of I `Scene`s.
        captions: list of C `Caption`s.
        use_relations: see `compatible`.
    Returns:
        float64 [I, C]: `information(caption)` where compatible, -1 elsewhere.
    """
    scores = np.full((len(scenes), len(captions)), -1.0)
    for j, caption in enumerate(captions):
        bits = information(caption)
        for i, scene in enumerate(scenes):
            if compatible(caption, scene, use_relations):
                scores[i, j] = bits
    return scores


def oracle_recalls(scenes, captions_of_scene, use_relations=True):
    """R@1/5/10 of the oracle in both directions; a positive ranks after every equal negative.

    Args:
        scenes: list of I `Scene`s.
        captions_of_scene: list of I lists of `Caption`s, equally long.
        use_relations: see `compatible`.
    Returns:
        {"i2t_retrieval": {"R@1": ..., "R@5": ..., "R@10": ...}, "t2i_retrieval": {...}}, fractions.
    """
    captions = [caption for own in captions_of_scene for caption in own]
    owner = np.repeat(np.arange(len(scenes)), len(captions_of_scene[0]))
    scores = oracle_scores(scenes, captions, use_relations)
    positive = owner[None, :] == np.arange(len(scenes))[:, None]
    best = np.where(positive, scores, -np.inf).max(axis=1, keepdims=True)
    text_ranks = ((scores >= best) & ~positive).sum(axis=1)
    own_score = scores[owner, np.arange(len(captions))]
    image_ranks = (scores >= own_score[None, :]).sum(axis=0) - 1
    return {
        name: {f"R@{k}": float((ranks < k).mean()) for k in (1, 5, 10)}
        for name, ranks in (("i2t_retrieval", text_ranks), ("t2i_retrieval", image_ranks))
    }
