"""Draws a scene by lot: which objects, where, and how much of each can be seen."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np

from oscar_paddle.datasets.scenes import world
from oscar_paddle.datasets.scenes.shapes import inside, local_coordinates
from oscar_paddle.datasets.scenes.world import Scene, SceneObject, Stream

WIDTH, HEIGHT = Scene.width, Scene.height
SIZES = {"small": (12, 14), "medium": (19, 22), "large": (30, 35)}  # radius range in pixels, both ends included
MIN_VISIBLE = 0.62  # of every object's area; less would make the picture unreadable


def sample_scene(seed, split, index):
    """Scene number `index` (>= 0) of a split, a pure function of its arguments: growing one split never changes
    another, and any number of processes build the same data. It has 3 to 5 objects, each at least `MIN_VISIBLE`
    visible. One seed (any value) is one data set."""
    stream = Stream(seed, split, index, "scene")
    image_id = (world.SPLITS.index(split) + 1) * 1_000_000 + index
    background = stream.choice(world.BACKGROUNDS)
    while True:
        kinds = _sample_kinds(stream)
        for _ in range(20 if world.home_split(kinds) == split else 0):
            objects, overlaps = _measure(_place(stream, kinds))
            if objects and min(item.visible for item in objects) >= MIN_VISIBLE:
                return Scene(image_id, split, background, objects, overlaps)


def _sample_kinds(stream):
    """3 to 5 objects without a place. Shapes and colours repeat within a scene, so that one word rarely decides."""
    kinds = []
    for _ in range(stream.weighted({3: 0.3, 4: 0.4, 5: 0.3})):
        shape, colour = stream.choice(world.SHAPES), stream.choice(world.COLOURS)
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
    """Give every object a radius, a place, an angle and a shade; none at all if the picture is too full."""
    placed = []
    for kind in kinds:
        radius = stream.between(*SIZES[kind.size])
        for _ in range(30):
            if placed and stream.chance(0.5):  # next to another one, so that some pairs overlap
                anchor = stream.choice(placed)
                reach = anchor.radius + radius
                x, y = (middle + stream.between(-reach, reach) for middle in anchor.centre)
            else:
                x, y = (stream.between(radius - 2, end - radius + 2) for end in (WIDTH, HEIGHT))
            in_picture = radius - 4 <= x <= WIDTH - radius + 4 and radius - 4 <= y <= HEIGHT - radius + 4
            # Centres at least 5/8 of the summed radii apart: overlaps stay partial.
            if in_picture and all(math.dist((x, y), o.centre) >= 0.625 * (radius + o.radius) for o in placed):
                break
        else:
            return []
        shade = tuple(stream.between(-10, 10) for _ in range(3))
        angle = 5 * stream.between(-5, 5)
        placed.append(replace(kind, centre=(x, y), radius=radius, angle=angle, shade=shade))
    return placed


def _measure(placed):
    """The objects with boxes and visible shares, and their overlaps, counted on the pixel grid."""
    masks = np.zeros((len(placed), HEIGHT, WIDTH), bool)
    for mask, item in zip(masks, placed, strict=True):
        window, u, v = local_coordinates(item, WIDTH, HEIGHT)
        mask[window] = inside(item.shape, u, v)
    objects = []
    for i, item in enumerate(placed):
        ys, xs = np.nonzero(masks[i])
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        covered = int((masks[i + 1 :].any(axis=0) & masks[i]).sum())
        objects.append(replace(item, box=box, visible=round(1 - covered / len(xs), 3)))
    flat = masks.reshape(len(placed), WIDTH * HEIGHT).astype(np.float32)
    shared = flat @ flat.T  # pixels that two objects have in common; on the diagonal, those of each (exact in float32)
    overlaps = [
        (j, i)
        for i, j in combinations(range(len(placed)), 2)
        if shared[i, j] >= 16 and 20 * shared[i, j] >= min(shared[i, i], shared[j, j])
    ]
    return tuple(objects), tuple(overlaps)
