"""The simulated detector: boxes near the objects, and faults as often as announced."""

from collections import Counter

import pytest

from oscar_paddle.datasets.scenes.captions import vocabulary
from oscar_paddle.datasets.scenes.detector import CONFUSED_WITH, MAX_REGIONS, SCENERY, detect
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.world import BACKGROUNDS, COLOURS, SHAPES


@pytest.fixture(scope="module")
def detected():
    scenes = [sample_scene(2, "train", i) for i in range(400)]
    return [(scene, detect(scene, 2)) for scene in scenes]


def overlap(a, b):
    """Intersection over union."""
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(tall, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area - shared)


def test_boxes_are_inside_the_picture_and_confidence_falls(detected):
    for scene, regions in detected:
        assert 2 <= len(regions) <= MAX_REGIONS
        assert [r.conf for r in regions] == sorted((r.conf for r in regions), reverse=True)
        for region in regions:
            x1, y1, x2, y2 = region.box
            assert 0 <= x1 < x2 <= scene.width and 0 <= y1 < y2 <= scene.height
            assert 0 < region.conf < 1


def test_object_boxes_are_near_but_jittered(detected):
    overlaps = [overlap(r.box, s.objects[r.shows].box) for s, rs in detected for r in rs if r.kind == "object"]
    assert min(overlaps) > 0.55
    assert 0.75 < sum(overlaps) / len(overlaps) < 0.95
    assert sum(value == 1 for value in overlaps) < 0.02 * len(overlaps)


def test_faults_are_as_frequent_as_announced(detected):
    kinds = Counter(region.kind for _, regions in detected for region in regions)
    objects = sum(len(scene.objects) for scene, _ in detected)
    assert 0.90 < kinds["object"] / objects < 0.99  # some are missed
    assert 0.08 < kinds["duplicate"] / objects < 0.2
    assert {"part", "group", "scenery"} < set(kinds)
    assert 6 < sum(kinds.values()) / len(detected) < 8.5
    right, coloured, wrong_colour = 0, 0, 0
    for scene, regions in detected:
        for region in regions:
            if region.kind == "object":
                item, words = scene.objects[region.shows], region.tag.split()
                right += words[-1] == item.shape
                if words[0] in COLOURS:
                    coloured += 1
                    wrong_colour += words[0] != item.colour
                assert words[-1] in (item.shape, *CONFUSED_WITH[item.shape])
    assert 0.88 < right / kinds["object"] < 0.95
    assert 0.4 < coloured / kinds["object"] < 0.65
    assert 0.02 < wrong_colour / coloured < 0.1


def test_detections_are_a_pure_function_of_scene_and_seed(detected):
    scene, regions = detected[0]
    assert detect(scene, 2) == regions
    assert detect(scene, 3) != regions


def test_every_tag_is_in_the_vocabulary(detected):
    used = {word for _, regions in detected for region in regions for word in region.tag.split()}
    assert used <= set(vocabulary()) and used >= {*SHAPES, *COLOURS, "shapes", "group"}


def test_the_tables_cover_the_world():
    assert set(CONFUSED_WITH) == set(SHAPES) and set(SCENERY) == set(BACKGROUNDS)
    assert all(shape not in others and set(others) <= set(SHAPES) for shape, others in CONFUSED_WITH.items())
