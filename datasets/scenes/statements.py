"""Statements about two scenes: a sentence and the pairs of pictures it is true or false of.

As published, a sentence comes with up to four pairs and is true of half of them, so that the text alone tells nothing
and consistency (all pairs of a sentence right) can be measured. Pairs about which people might argue are left out: a
picture with two stars is no example for or against "the left picture has a star".
"""

from collections import defaultdict, namedtuple
from itertools import product

import numpy as np

from oscar_paddle.datasets.scenes.captions import Words
from oscar_paddle.datasets.scenes.world import BACKGROUNDS, GRAMMAR, Mention

NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}
# Attributes of a description, and their weight.
_SAID = {"shape": 3, "colour": 3, "texture": 2, "shape colour": 2, "shape texture": 1, "colour texture": 1}


# `pairs` are (left image id, right image id, whether it is true of them) triples.
Statement = namedtuple("Statement", "text kind pairs")
# What a sentence says, as small integers: `left` and `right`, int [N], are what counts of each of N scenes if it is the
# left or the right picture; `verdict` takes one of each: True, False, or None where people might argue.
Claim = namedtuple("Claim", "text left right verdict")


def write_statements(scenes, seed, num_sentences):
    """Yields `Statement`s about pairs of these `Scene`s of one split of the data set `seed`: different sentences, each
    true of exactly half its two or four pairs; fewer than asked for where a few scenes do not have enough to tell."""
    if len(scenes) < 2:
        return
    stream, facts = Words(seed, scenes[0].split, "statements"), _Facts(scenes)
    weights, said = {kind: weight for kind, (weight, _) in KINDS.items()}, set()
    for _ in range(20 * num_sentences):
        kind = stream.weighted(weights)
        claim = KINDS[kind][1](stream, facts)
        pairs = claim.text not in said and _draw_pairs(stream, claim)
        if pairs:
            said.add(claim.text)
            yield Statement(claim.text, kind, tuple((scenes[i].image_id, scenes[j].image_id, t) for i, j, t in pairs))
            if len(said) == num_sentences:
                return


class _Facts:
    """The scenes, their backgrounds (int [N]), and how many of their objects fit a `Mention` (int [N])."""

    def __init__(self, scenes):
        self.scenes = scenes
        self.places = np.array([BACKGROUNDS.index(scene.background) for scene in scenes])
        self.counts = defaultdict(lambda: np.zeros(len(scenes), int))
        for number, scene in enumerate(scenes):
            for mention in (Mention.of(item, said.split()) for item in scene.objects for said in ("", *_SAID)):
                self.counts[mention][number] += 1

    def draw_mention(self, stream):
        """A description of some object of some scene; the texture "plain" is not said."""
        while True:
            item, said = stream.choice(stream.choice(self.scenes).objects), stream.weighted(_SAID)
            if "texture" not in said or item.texture != "plain":
                return Mention.of(item, said.split())


def _draw_pairs(stream, claim):
    """[(left index, right index, true), ...], as many true as false, in random order. First a combination of values is
    drawn, then scenes that have them: of equally likely pairs, the false ones would hardly ever be half right."""
    sides = claim.left, claim.right
    groups = [{value: np.flatnonzero(side == value) for value in np.unique(side).tolist()} for side in sides]
    drawn = {True: set(), False: set()}
    for true, pairs in drawn.items():
        cells = [cell for cell in product(*groups) if claim.verdict(*cell) is true]
        for _ in range(10 if cells else 0):
            i, j = (int(stream.choice(group[value])) for group, value in zip(groups, stream.choice(cells), strict=True))
            if i != j and len(pairs) < 2:
                pairs.add((i, j))
    each = min(map(len, drawn.values()))
    pairs = [(i, j, true) for true, found in drawn.items() for i, j in sorted(found)[:each]]
    return stream.sample(pairs, len(pairs))


def _sides(stream, facts):
    """ "the left picture has two red circles and the right picture has no stars" """
    parts, values, mention = [], {}, None
    for side in stream.sample(("left", "right"), 2):
        mention = mention if mention and stream.chance(0.4) else facts.draw_mention(stream)
        counts = facts.counts[mention]
        number = stream.choice(sorted({0, *counts[counts < 4].tolist()}))
        words = stream.some([mention]) if number == 1 else f"{NUMBER_WORDS.get(number, 'no')} {stream.several(mention)}"
        parts.append(f"the {side} picture {stream.choice(('has', 'shows'))} {words}")
        more = -1 if number else 0  # two stars: no example for or against "a star"
        values[side] = np.where(counts > number, more, counts == number)
    text = " and ".join(parts)
    return Claim(text, values["left"], values["right"], lambda x, y: None if -1 in (x, y) else x == y == 1)


def _presence(verdict, *frames):
    """A kind about whether each picture shows something; `verdict` takes the number of pictures that do."""

    def make(stream, facts):
        mention = facts.draw_mention(stream)
        shows = (facts.counts[mention] > 0).astype(int)
        text = stream.choice(frames).format(stream.some([mention]))
        return Claim(text, shows, shows, lambda x, y: verdict(x + y))

    return make


def _more(stream, facts):
    """ "there are more circles in the left picture than in the right picture" """
    mention = Mention() if stream.chance(0.2) else facts.draw_mention(stream)
    more, less = stream.sample(("left", "right"), 2)
    frame = stream.choice(("there are", "we see")) + " more {} in the {} picture than in the {} picture"
    counts, sign = facts.counts[mention], 1 if more == "left" else -1
    text = frame.format(stream.several(mention), more, less)
    return Claim(text, counts, counts, lambda x, y: sign * x > sign * y)


def _total(stream, facts):
    """ "there are exactly three circles in the two pictures" """
    mention, number = facts.draw_mention(stream), stream.choice(tuple(NUMBER_WORDS))
    text = f"there are exactly {NUMBER_WORDS[number]} {stream.several(mention)} in the two pictures"
    counts = facts.counts[mention]
    # False pairs miss by one or two, so that the number has to be counted.
    return Claim(text, counts, counts, lambda x, y: None if abs(x + y - number) > 2 else x + y == number)


def _place(stream, facts):
    """ "both pictures show shapes on grass" or "the left picture is at night and the right picture is on sand" """
    first, second = stream.sample(range(len(BACKGROUNDS)), 2)
    words = [stream.weighted(GRAMMAR["background"][BACKGROUNDS[place]]) for place in (first, second)]
    if stream.chance(0.5):
        second, words = first, [stream.several(Mention()), words[0]]
        frames = "both pictures show {} {}", "we see {} {} in both pictures"
    else:
        frames = (
            "the left picture is {} and the right picture is {}",
            "the left picture shows a scene {} and the right picture one {}",
        )
    text = stream.choice(frames).format(*words)
    left, right = ((facts.places == place).astype(int) for place in (first, second))
    return Claim(text, left, right, lambda x, y: x == y == 1)


KINDS = {
    "sides": (0.3, _sides),
    "one": (
        0.08,
        _presence({0: False, 1: True}.get, "one of the pictures shows {}", "there is {} in one of the pictures"),
    ),
    "exactly": (0.07, _presence((1).__eq__, "exactly one picture shows {}", "exactly one picture has {}")),
    "both": (
        0.15,
        _presence((2).__eq__, "both pictures show {}", "there is {} in both pictures", "we see {} in both pictures"),
    ),
    "neither": (0.1, _presence((0).__eq__, "no picture shows {}", "there is not {} in the two pictures")),
    "more": (0.15, _more),
    "total": (0.1, _total),
    "place": (0.05, _place),
}
