"""What a scene is: coloured shapes on a background, as structured data; and the random choices behind everything.

Pictures, regions, tags and texts are made from the `Scene` object only: a new kind of text needs nothing but this file
and the words of grammar.yaml, which also decides what shapes, colours, textures, backgrounds and relations there are.

Held-out splits: the *set* of (shape, colour) pairs of a scene decides the split it may be in (`home_split`), so no
two splits share a set of objects, whatever the seed and the split sizes.
"""

import hashlib
import random
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import yaml

VERSION = 4  # part of every random key: raise it whenever the data would change
SPLITS = ("train", "minival", "test")

GRAMMAR = yaml.safe_load(Path(__file__).with_name("grammar.yaml").read_text(encoding="ascii"))
SHAPES, COLOURS, TEXTURES = tuple(GRAMMAR["shape"]), tuple(GRAMMAR["colour"]), tuple(GRAMMAR["texture"])
BACKGROUNDS, RELATIONS = tuple(GRAMMAR["background"]), tuple(GRAMMAR["relation"])
_NAMES = ("shape", "colour", "texture", "size")
CONTRARY = {name: RELATIONS[place ^ 1] for place, name in enumerate(RELATIONS)}  # every second is its neighbour's


class Stream:
    """Random choices that are the same on every machine and Python version.

    Only `random.Random.random()` is used, whose sequence for an integer seed Python guarantees; `choice`, `shuffle`
    and NumPy's `Generator` may change between releases. The seed is the text of any values.
    """

    def __init__(self, *key):
        text = "/".join(str(part) for part in ("scenes", VERSION, *key))
        self.seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        self.random = random.Random(self.seed).random

    def below(self, n):
        """An integer in [0, n)."""
        return int(self.random() * n)

    def between(self, low, high):
        """An integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, probability):
        return self.random() < probability

    def choice(self, items):
        return items[self.below(len(items))]

    def weighted(self, weights):
        """One key of the dict `weights`, drawn in proportion to its value."""
        mark = self.random() * sum(weights.values())
        for key, weight in weights.items():
            mark -= weight
            if mark < 0:
                return key
        return key

    def sample(self, items, k):
        """`k` different items, in random order."""
        items = list(items)
        for i in range(k):
            j = self.between(i, len(items) - 1)
            items[i], items[j] = items[j], items[i]
        return items[:k]


@dataclass(frozen=True)
class SceneObject:
    """One drawn shape. Lengths in pixels, angle in degrees, `visible` = share of the area that nothing covers."""

    shape: str
    colour: str
    size: str
    texture: str
    centre: tuple = (0, 0)
    radius: int = 0
    angle: int = 0
    shade: tuple = (0, 0, 0)  # added to the colour's RGB value
    box: tuple = (0, 0, 0, 0)  # x1, y1, x2, y2 of the whole shape, clipped to the picture
    visible: float = 1.0


@dataclass(frozen=True)
class Mention:
    """One thing a text speaks of; None = not said. `count` 2 or 3 means "exactly so many such objects"."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    count: int = 1

    @classmethod
    def of(cls, item, names):
        """What says these attributes of a `SceneObject`."""
        return cls(**{name: getattr(item, name) for name in names})

    def fits(self, item):
        """Whether a `SceneObject` has every attribute that is said."""
        return all(getattr(self, name) in (None, getattr(item, name)) for name in _NAMES)


@dataclass(frozen=True)
class Scene:
    """A picture as facts. `objects` run from back to front; `overlaps` are (front index, back index) pairs."""

    image_id: int
    split: str
    background: str
    objects: tuple
    overlaps: tuple
    width: int = 192  # pixels
    height: int = 144

    def count(self, mention):
        """Number of objects that fit a description."""
        return sum(mention.fits(item) for item in self.objects)

    def holds(self, relation, i, j):
        """Whether object `i` stands in a relation to object `j`: clearly, or it is neither said nor counted as true."""
        first, second = self.objects[i], self.objects[j]
        if relation == "left":
            return second.centre[0] - first.centre[0] >= 28  # pixels
        if relation == "above":
            return second.centre[1] - first.centre[1] >= 24
        if relation == "front":
            return (i, j) in self.overlaps
        if relation == "larger":
            return first.radius * 10 >= second.radius * 13
        return self.holds(CONTRARY[relation], j, i)

    def related(self, mention, relation, j):
        """Indices of the objects other than `j` that fit a description and stand in a relation to object `j`; None if
        people might argue about a fitting one: neither the relation nor its contrary holds, and (where one may hide the
        other) the two are close."""
        found, (left, top, right, bottom) = [], self.objects[j].box
        for k, item in enumerate(self.objects):
            if k == j or not mention.fits(item):
                continue
            x1, y1, x2, y2 = item.box
            if self.holds(relation, k, j):
                found.append(k)
            elif not self.holds(CONTRARY[relation], k, j) and (
                relation not in ("front", "behind") or (x1 < right and left < x2 and y1 < bottom and top < y2)
            ):
                return None
        return found

    def unique_mentions(self, i, without=None):
        """`Mention`s by one or two attributes, but not the one of that name, that fit object `i` and no other."""
        names = [name for name in _NAMES if name != without]
        mentions = (Mention.of(self.objects[i], said) for k in (1, 2) for said in combinations(names, k))
        return [m for m in mentions if m.size != "medium" and self.count(m) == 1]  # nobody says "medium"

    def beside(self, relation, j):
        """The same for a text that names a relation: who hides whom, and who is larger, can be guessed from sizes."""
        return self.unique_mentions(j, "size" if relation in ("front", "behind", "larger", "smaller") else None)


def scene_from_dict(record):
    """The `Scene` of a record of `scenes_truth.jsonl`: with tuples for JSON's lists, without the further keys."""
    items = ({k: tuple(v) if isinstance(v, list) else v for k, v in item.items()} for item in record["objects"])
    objects, overlaps = tuple(SceneObject(**item) for item in items), tuple(map(tuple, record["overlaps"]))
    plain = {key: record[key] for key in ("image_id", "split", "background", "width", "height")}
    return Scene(objects=objects, overlaps=overlaps, **plain)


def object_set(objects):
    """The set of (shape, colour) pairs, sorted: what no two splits share."""
    return tuple(sorted({(item.shape, item.colour) for item in objects}))


def home_split(objects):
    """The only split a scene with these objects may be in: 1/8 of all sets is test, 1/8 minival, 6/8 train."""
    digest = hashlib.sha256(repr(object_set(objects)).encode()).digest()
    return {0: "test", 1: "minival"}.get(digest[0] % 8, "train")
