"""What a scene is: coloured shapes on a background, as structured data, and how one is drawn by lot.

A scene is a pure function of (seed, split, index): growing one split never changes another, and any number of
processes build the same data. Pictures, regions, tags and captions are made from the `Scene` object only, so that a
new kind of text (questions, statements about two pictures) needs nothing but this file.

Held-out splits: the *set* of (shape, colour) pairs of a scene decides the split it may be in (`home_split`), so no
two splits share a set of objects, whatever the seed and the split sizes.
"""

import hashlib
import random
from dataclasses import dataclass, replace

import numpy as np

from oscar_paddle.datasets.scenes.shapes import SHAPES, extent, inside, local_coordinates

VERSION = 4  # part of every random key: raise it whenever the data would change
WIDTH, HEIGHT = 192, 144  # pixels

COLOURS = {
    "red": (208, 38, 38),
    "orange": (242, 140, 24),
    "yellow": (246, 222, 48),
    "green": (36, 150, 62),
    "blue": (40, 84, 214),
    "purple": (134, 50, 176),
    "pink": (246, 142, 190),
    "brown": (118, 70, 34),
    "black": (34, 34, 38),
    "white": (240, 240, 236),
}
TEXTURES = ("plain", "striped", "dotted", "checkered")
SIZES = {"small": (12, 14), "medium": (19, 22), "large": (30, 35)}  # radius range in pixels, both ends included
BACKGROUNDS = ("grass", "sky", "sand", "night", "brick", "wood")
SPLITS = ("train", "minival", "test")

RELATIONS = ("left", "right", "above", "below", "front", "behind", "larger", "smaller")
CONTRARY = {name: RELATIONS[place ^ 1] for place, name in enumerate(RELATIONS)}  # every second is its neighbour's
LEFT_GAP, ABOVE_GAP = 28, 24  # pixels between centres before "left of" / "above" is said or counted as true
LARGER_PERCENT = 130  # "larger than" needs 1.3 times the radius
MIN_VISIBLE = 0.62  # of every object's area; less would make the picture unreadable


class Stream:
    """Random choices that are the same on every machine and Python version.

    Only `random.Random.random()` is used, whose sequence for an integer seed Python guarantees; `choice`, `shuffle`
    and NumPy's `Generator` may change between releases.

    Args:
        key: any values; their text is the seed.
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

    def noise(self):
        """A NumPy generator for whole arrays (`RandomState`: NumPy has frozen its streams)."""
        return np.random.RandomState(self.below(2**32))


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
class Scene:
    """A picture as facts. `objects` run from back to front; `overlaps` are (front index, back index) pairs."""

    image_id: int
    split: str
    background: str
    objects: tuple
    overlaps: tuple
    width: int = WIDTH
    height: int = HEIGHT

    def holds(self, relation, i, j):
        """Whether object `i` stands in a relation (of `RELATIONS`) to object `j`."""
        if relation in ("right", "below", "behind", "smaller"):
            return self.holds(CONTRARY[relation], j, i)
        first, second = self.objects[i], self.objects[j]
        if relation == "left":
            return second.centre[0] - first.centre[0] >= LEFT_GAP
        if relation == "above":
            return second.centre[1] - first.centre[1] >= ABOVE_GAP
        if relation == "front":
            return (i, j) in self.overlaps
        return first.radius * 100 >= second.radius * LARGER_PERCENT


def scene_from_dict(record):
    """The `Scene` of one line of `scenes_truth.jsonl` (further keys are ignored)."""
    objects = tuple(
        SceneObject(**{key: tuple(value) if isinstance(value, list) else value for key, value in item.items()})
        for item in record["objects"]
    )
    plain = {key: record[key] for key in ("image_id", "split", "background", "width", "height")}
    return Scene(objects=objects, overlaps=tuple(tuple(pair) for pair in record["overlaps"]), **plain)


def object_set(objects):
    """The set of (shape, colour) pairs, sorted: what no two splits share."""
    return tuple(sorted({(item.shape, item.colour) for item in objects}))


def home_split(objects):
    """The only split a scene with these objects may be in: 1/8 of all sets is test, 1/8 minival, 6/8 train."""
    digest = hashlib.sha256(repr(object_set(objects)).encode()).digest()
    return {0: "test", 1: "minival"}.get(digest[0] % 8, "train")


def sample_scene(seed, split, index):
    """Scene number `index` of a split.

    Args:
        seed: any int; one seed is one data set.
        split: "train", "minival" or "test".
        index: int >= 0.
    Returns:
        `Scene`; 3 to 5 objects, each at least `MIN_VISIBLE` visible.
    """
    stream = Stream(seed, split, index, "scene")
    image_id = (SPLITS.index(split) + 1) * 1_000_000 + index
    background = stream.choice(BACKGROUNDS)
    while True:
        kinds = _sample_kinds(stream)
        if home_split(kinds) != split:
            continue
        for _ in range(20):
            placed = _place(stream, kinds)
            if placed is None:
                continue
            objects, overlaps = _measure(placed)
            if min(item.visible for item in objects) >= MIN_VISIBLE:
                return Scene(image_id, split, background, objects, overlaps)


def _sample_kinds(stream):
    """3 to 5 objects without a place. Shapes and colours repeat within a scene, so that one word rarely decides."""
    kinds = []
    for _ in range(stream.weighted({3: 0.3, 4: 0.4, 5: 0.3})):
        shape, colour = stream.choice(SHAPES), stream.choice(tuple(COLOURS))
        if kinds and stream.chance(0.15):
            shape = stream.choice(kinds).shape
        if kinds and stream.chance(0.15):
            colour = stream.choice(kinds).colour
        num_large = sum(kind.size == "large" for kind in kinds)
        size = stream.weighted({"small": 0.35, "medium": 0.4, "large": 0.25 if num_large < 2 else 0.0})
        texture = stream.weighted({"plain": 0.4, "striped": 0.2, "dotted": 0.2, "checkered": 0.2})
        kinds.append(SceneObject(shape, colour, size, texture))
    return kinds


def _place(stream, kinds):
    """Give every object a radius, a place, an angle and a shade; None if the picture is too full."""
    placed = []
    for kind in kinds:
        radius = stream.between(*SIZES[kind.size])
        for _ in range(30):
            if placed and stream.chance(0.5):  # next to another one, so that some pairs overlap
                anchor = stream.choice(placed)
                reach = anchor.radius + radius
                x = anchor.centre[0] + stream.between(-reach, reach)
                y = anchor.centre[1] + stream.between(-reach, reach)
            else:
                x = stream.between(radius - 2, WIDTH - radius + 2)
                y = stream.between(radius - 2, HEIGHT - radius + 2)
            in_picture = radius - 4 <= x <= WIDTH - radius + 4 and radius - 4 <= y <= HEIGHT - radius + 4
            if in_picture and all(_apart(x, y, radius, other) for other in placed):
                break
        else:
            return None
        shade = tuple(stream.between(-10, 10) for _ in range(3))
        angle = 5 * stream.between(-5, 5)
        placed.append(replace(kind, centre=(x, y), radius=radius, angle=angle, shade=shade))
    return placed


def _apart(x, y, radius, other):
    """Centres at least 5/8 of the summed radii apart: overlaps stay partial."""
    dx, dy, reach = 8 * (x - other.centre[0]), 8 * (y - other.centre[1]), 5 * (radius + other.radius)
    return dx * dx + dy * dy >= reach * reach


def _measure(placed):
    """Boxes, visible shares and overlaps, counted on the pixel grid."""
    masks = np.zeros((len(placed), HEIGHT, WIDTH), bool)
    for mask, item in zip(masks, placed, strict=True):
        x1, y1, x2, y2 = extent(item, WIDTH, HEIGHT)
        mask[y1:y2, x1:x2] = inside(item.shape, *local_coordinates(item, (x1, y1, x2, y2)))
    areas = masks.sum(axis=(1, 2))
    objects, overlaps = [], []
    for i, item in enumerate(placed):
        covered = masks[i + 1 :].any(axis=0) & masks[i]
        rows, columns = np.flatnonzero(masks[i].any(axis=1)), np.flatnonzero(masks[i].any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        objects.append(replace(item, box=box, visible=round(1 - int(covered.sum()) / int(areas[i]), 3)))
        for j in range(i + 1, len(placed)):
            shared = int((masks[i] & masks[j]).sum())
            if shared >= 16 and 20 * shared >= min(areas[i], areas[j]):
                overlaps.append((j, i))
    return tuple(objects), tuple(overlaps)
