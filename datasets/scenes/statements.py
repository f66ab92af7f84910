"""Statements about two scenes: a sentence and the pairs of pictures it is true or false of.

As published, a sentence comes with up to four pairs and is true of half of them, so that the text alone tells nothing
and consistency (all pairs of a sentence right) can be measured. Pairs about which people might argue are left out: a
picture with two stars is no example for or against "the left picture has a star".
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from oscar_paddle.datasets.scenes import references as refs
from oscar_paddle.datasets.scenes.captions import BACKGROUND_WORDS, Mention
from oscar_paddle.datasets.scenes.world import BACKGROUNDS, Stream

PAIRS = 2  # true pairs of a sentence, and as many false ones
NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}
_SAID = {
    ("shape",): 3,
    ("colour",): 3,
    ("texture",): 2,
    ("shape", "colour"): 2,
    ("shape", "texture"): 1,
    ("colour", "texture"): 1,
}
_ONE = ("one of the pictures shows {}", "there is {} in one of the pictures")
_BOTH = ("both pictures show {}", "there is {} in both pictures", "we see {} in both pictures")
_SAME_PLACE = ("both pictures show {} {}", "we see {} {} in both pictures")
_TWO_PLACES = (
    "the left picture is {} and the right picture is {}",
    "the left picture shows a scene {} and the right picture one {}",
)
_NEITHER = ("no picture shows {}", "there is not {} in the two pictures")


@dataclass(frozen=True)
class Statement:
    """A sentence, its kind, and (left image id, right image id, whether it is true of them) triples."""

    text: str
    kind: str
    pairs: tuple


@dataclass(frozen=True)
class Claim:
    """What a sentence says, as small integers.

    Attributes:
        text: the sentence.
        left, right: int [N], what counts of each of N scenes if it is the left or the right picture.
        verdict: function of one left and one right value: True, False, or None where people might argue.
    """

    text: str
    left: Any
    right: Any
    verdict: Any


def write_statements(scenes, seed, num_sentences, on_sentence=lambda: None):
    """Different sentences about pairs of these scenes.

    Args:
        scenes: list of N `Scene`s of one split.
        seed: seed of the data set.
        num_sentences: how many; fewer come back where a handful of scenes does not have enough to tell.
        on_sentence: called for every sentence (progress).
    Returns:
        list of `Statement`; each is true of exactly half its two or four pairs.
    """
    if len(scenes) < 2:
        return []
    stream, facts = Stream(seed, scenes[0].split, "statements"), _Facts(scenes)
    weights, statements = {kind: weight for kind, (weight, _) in KINDS.items()}, {}
    for _ in range(20 * num_sentences):
        if len(statements) == num_sentences:
            break
        kind = stream.weighted(weights)
        claim = KINDS[kind][1](stream, facts)
        pairs = claim.text not in statements and _draw_pairs(stream, claim)
        if pairs:
            pairs = tuple((scenes[i].image_id, scenes[j].image_id, true) for i, j, true in pairs)
            statements[claim.text] = Statement(claim.text, kind, pairs)
            on_sentence()
    return list(statements.values())


class _Facts:
    """The scenes, and how many of their objects fit a description."""

    def __init__(self, scenes):
        self.scenes, self._counts = scenes, {}
        self.place = np.array([BACKGROUNDS.index(scene.background) for scene in scenes])
        self._values = {  # [N, 5] of values, "" where a scene has fewer objects
            name: np.array([([getattr(o, name) for o in scene.objects] + [""] * 5)[:5] for scene in scenes])
            for name in ("shape", "colour", "texture")
        }

    def count(self, mention):
        """int [N]"""
        if mention not in self._counts:
            fits = self._values["shape"] != ""
            for name, values in self._values.items():
                said = getattr(mention, name)
                fits = fits & (values == said) if said else fits
            self._counts[mention] = fits.sum(axis=1)
        return self._counts[mention]

    def draw_mention(self, stream):
        """A description of some object of some scene; the texture "plain" is not said."""
        while True:
            item, said = stream.choice(stream.choice(self.scenes).objects), stream.weighted(_SAID)
            if "texture" not in said or item.texture in refs.VALUES["texture"]:
                return refs.mention_of(item, said)


def _draw_pairs(stream, claim):
    """[(left index, right index, true), ...], as many true as false, in random order; empty if there are none.

    First a combination of values is drawn, then scenes that have them: false pairs are often half right, which they
    would hardly be if all pairs were equally likely.
    """
    groups = [
        {value: np.flatnonzero(side == value) for value in np.unique(side).tolist()}
        for side in (claim.left, claim.right)
    ]
    drawn = {True: set(), False: set()}
    for true, pairs in drawn.items():
        cells = [cell for cell in product(*groups) if claim.verdict(*cell) is true]
        for _ in range(10 if cells else 0):
            i, j = (int(stream.choice(group[value])) for group, value in zip(groups, stream.choice(cells), strict=True))
            if i != j and len(pairs) < PAIRS:
                pairs.add((i, j))
    each = min(map(len, drawn.values()))
    pairs = [(i, j, true) for true, found in drawn.items() for i, j in sorted(found)[:each]]
    return stream.sample(pairs, len(pairs))


def _sides(stream, facts):
    """ "the left picture has two red circles and the right picture has no stars" """
    parts, values, mention = [], {}, None
    for side in stream.sample(("left", "right"), 2):
        mention = mention if mention and stream.chance(0.4) else facts.draw_mention(stream)
        counts = facts.count(mention)
        number = stream.choice(sorted({0, *counts[counts < 4].tolist()}))
        words = refs.some(stream, [mention]) if number == 1 else refs.several(stream, mention)
        words = words if number == 1 else f"{NUMBER_WORDS.get(number, 'no')} {words}"
        parts.append(f"the {side} picture {stream.choice(('has', 'shows'))} {words}")
        more = -1 if number else 0  # two stars: no example for or against "a star"
        values[side] = np.where(counts > number, more, counts == number)
    text = " and ".join(parts)
    return Claim(text, values["left"], values["right"], lambda x, y: None if -1 in (x, y) else x == y == 1)


def _presence(frames, verdict):
    """A kind about whether each picture shows something; `verdict` takes the number of pictures that do."""

    def make(stream, facts):
        mention = facts.draw_mention(stream)
        shows = (facts.count(mention) > 0).astype(int)
        text = stream.choice(frames).format(refs.some(stream, [mention]))
        return Claim(text, shows, shows, lambda x, y: verdict(x + y))

    return make


def _more(stream, facts):
    """ "there are more circles in the left picture than in the right picture" """
    mention = Mention() if stream.chance(0.2) else facts.draw_mention(stream)
    more, less = stream.sample(("left", "right"), 2)
    frame = stream.choice(("there are", "we see")) + " more {} in the {} picture than in the {} picture"
    counts, sign = facts.count(mention), 1 if more == "left" else -1
    text = frame.format(refs.several(stream, mention), more, less)
    return Claim(text, counts, counts, lambda x, y: sign * x > sign * y)


def _total(stream, facts):
    """ "there are exactly three circles in the two pictures" """
    mention, number = facts.draw_mention(stream), stream.choice(tuple(NUMBER_WORDS))
    text = f"there are exactly {NUMBER_WORDS[number]} {refs.several(stream, mention)} in the two pictures"
    counts = facts.count(mention)
    # False pairs miss by one or two, so that the number has to be counted.
    return Claim(text, counts, counts, lambda x, y: None if abs(x + y - number) > 2 else x + y == number)


def _place(stream, facts):
    """ "both pictures show shapes on grass" or "the left picture is at night and the right picture is on sand" """
    first, second = stream.sample(range(len(BACKGROUNDS)), 2)
    words = [stream.weighted(BACKGROUND_WORDS[BACKGROUNDS[place]]) for place in (first, second)]
    if stream.chance(0.5):
        second, words[1] = first, words[0]
        words[0] = refs.several(stream, Mention())
    frames = _SAME_PLACE if second == first else _TWO_PLACES
    text = stream.choice(frames).format(*words)
    left, right = ((facts.place == place).astype(int) for place in (first, second))
    return Claim(text, left, right, lambda x, y: x == y == 1)


KINDS = {
    "sides": (0.3, _sides),
    "one": (0.08, _presence(_ONE, lambda number: None if number == 2 else number == 1)),
    "exactly": (0.07, _presence(("exactly one picture shows {}", "exactly one picture has {}"), (1).__eq__)),
    "both": (0.15, _presence(_BOTH, (2).__eq__)),
    "neither": (0.1, _presence(_NEITHER, (0).__eq__)),
    "more": (0.15, _more),
    "total": (0.1, _total),
    "place": (0.05, _place),
}
