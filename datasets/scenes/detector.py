"""A detector with realistic faults: jittered boxes, misses, duplicates, distractors, wrong and partial tags."""

from collections import namedtuple

from oscar_paddle.datasets.scenes.world import BACKGROUNDS, COLOURS, GRAMMAR, TEXTURES, Stream

MAX_REGIONS = 10
WRONG_SHAPE, WRONG_ATTRIBUTE = 0.08, 0.06
WITH_COLOUR, WITH_TEXTURE = 0.5, 0.15  # tags such as "red star", "striped star"; the rest is the noun alone
CONFUSED_WITH, SCENERY = GRAMMAR["confused_with"], GRAMMAR["scenery"]


# `box`: x1, y1, x2, y2 in whole pixels; `shows`: object index or None; `kind`: object, duplicate, part, group, scenery.
Region = namedtuple("Region", "box tag conf shows kind")


def detect(scene, seed):
    """Simulated detections of a scene of the data set `seed`: 2 to `MAX_REGIONS` `Region`s, most confident first."""
    stream = Stream(seed, scene.image_id, "regions")
    regions = []
    for i, item in enumerate(scene.objects):
        if stream.chance(0.03 + 0.2 * (1 - item.visible)):  # missed, hidden ones more often
            continue
        tag = _tag(stream, item)
        regions.append(_region(stream, scene, item.box, 8, tag, (60, 98), "object", i))
        if stream.chance(0.15):
            tag = tag if stream.chance(0.6) else _tag(stream, item)
            regions.append(_region(stream, scene, item.box, 16, tag, (35, 75), "duplicate", i))
    distractors = [_distractor(stream, scene) for _ in range(stream.weighted({1: 0.35, 2: 0.45, 3: 0.2}))]
    regions += [*distractors, _scenery(stream, scene)]
    regions.sort(key=lambda region: -region.conf)  # stable: equal confidences keep their order
    return regions[:MAX_REGIONS]


def _region(stream, scene, box, percent, tag, conf_range, kind, shows=None):
    """A detection whose box edges are off by up to `percent` of the box's extent."""
    edges = []
    for low, high, end in ((box[0], box[2], scene.width), (box[1], box[3], scene.height)):
        most = max(1, (high - low) * percent // 100)
        low, high = low + stream.between(-most, most), high + stream.between(-most, most)
        low = min(max(low, 0), end - 6)
        edges.append((low, min(max(high, low + 6), end)))
    (x1, x2), (y1, y2) = edges
    return Region((x1, y1, x2, y2), tag, stream.between(*conf_range) / 100, shows, kind)


def _tag(stream, item):
    """A class name as a detector gives it: the noun, at times with one attribute, at times wrong."""
    noun = stream.choice(CONFUSED_WITH[item.shape]) if stream.chance(WRONG_SHAPE) else item.shape
    mark = stream.random()
    if mark < WITH_COLOUR:
        return f"{stream.choice(COLOURS) if stream.chance(WRONG_ATTRIBUTE) else item.colour} {noun}"
    if mark < WITH_COLOUR + WITH_TEXTURE and item.texture != "plain":
        return f"{stream.choice(TEXTURES[1:]) if stream.chance(WRONG_ATTRIBUTE) else item.texture} {noun}"
    return noun


def _distractor(stream, scene):
    """A box that is no whole object: a piece of one, two together, or nothing but background."""
    kind = stream.weighted({"part": 0.35, "group": 0.3, "scenery": 0.35})
    if kind == "scenery":
        return _scenery(stream, scene)
    if kind == "part":
        item = stream.choice(scene.objects)
        box, first_edge = list(item.box), 0 if stream.chance(0.5) else 1  # halves of the width, or of the height
        moved = first_edge + 2 if stream.chance(0.5) else first_edge
        box[moved] = (box[first_edge] + box[first_edge + 2]) // 2
        tag = item.shape if stream.chance(0.6) else stream.choice(CONFUSED_WITH[item.shape])
        return _region(stream, scene, box, 10, tag, (22, 55), kind)
    first, second = stream.sample(scene.objects, 2)
    box = [*map(min, first.box[:2], second.box[:2]), *map(max, first.box[2:], second.box[2:])]
    return _region(stream, scene, box, 8, stream.choice(("shapes", "group", first.shape)), (22, 60), kind)


def _scenery(stream, scene):
    wide, tall = stream.between(40, 110), stream.between(30, 80)
    x1, y1 = stream.below(scene.width - wide), stream.below(scene.height - tall)
    place = scene.background if not stream.chance(0.05) else stream.choice(BACKGROUNDS)
    return _region(stream, scene, (x1, y1, x1 + wide, y1 + tall), 8, stream.choice(SCENERY[place]), (25, 90), "scenery")
