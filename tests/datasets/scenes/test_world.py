"""Facts of scenes: pure functions of the seed, held-out object sets, relations that mean what they say."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.datasets.scenes.drawing import noise
from oscar_paddle.datasets.scenes.placing import MIN_VISIBLE, sample_scene
from oscar_paddle.datasets.scenes.shapes import inside
from oscar_paddle.datasets.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SPLITS,
    TEXTURES,
    Scene,
    SceneObject,
    Stream,
    home_split,
    object_set,
    scene_from_dict,
)

STREAM_SEED = 2633065202578201815
STREAM_VALUES, STREAM_NOISE = [26, 57, 96, 73, 61, 97, 36, 57], [839, 34, 374, 945]
COUNT = 240  # of each split: every kind of object (200) about five times


@pytest.fixture(scope="module")
def scenes():
    return {split: [sample_scene(7, split, i) for i in range(COUNT)] for split in SPLITS}


def make_scene(*objects, overlaps=(), background="sand"):
    return Scene(1, "train", background, tuple(objects), tuple(overlaps))


def test_the_random_stream_never_changes():
    stream = Stream("fixed")
    assert stream.seed == STREAM_SEED
    assert [stream.below(100) for _ in range(8)] == STREAM_VALUES
    assert noise(Stream("fixed"), 0, 999, 4).tolist() == STREAM_NOISE


@given(st.integers(), st.integers(1, 50))
def test_draws_stay_in_their_ranges(seed, n):
    stream = Stream(seed)
    assert 0 <= stream.below(n) < n
    assert 3 <= stream.between(3, 2 + n) <= 2 + n
    assert sorted(stream.sample(range(n), n)) == list(range(n))
    assert stream.weighted({"never": 0.0, "always": 1.0}) == "always"


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS), st.integers(0, 10**5))
def test_a_scene_is_a_pure_function_and_survives_json(seed, split, index):
    scene = sample_scene(seed, split, index)
    assert scene == sample_scene(seed, split, index)
    assert scene_from_dict(json.loads(json.dumps(asdict(scene)))) == scene


def test_objects_can_be_seen(scenes):
    for scene in scenes["train"]:
        assert 3 <= len(scene.objects) <= 5
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= scene.width and 0 <= y1 < y2 <= scene.height
            assert item.visible >= MIN_VISIBLE
            assert x1 <= item.centre[0] + 4 and item.centre[0] - 4 <= x2


def test_everything_occurs(scenes):
    objects = [item for scene in scenes["train"] for item in scene.objects]
    for name, values in (("shape", SHAPES), ("colour", tuple(COLOURS)), ("texture", TEXTURES)):
        assert set(Counter(getattr(item, name) for item in objects)) == set(values)
    assert {scene.background for scene in scenes["train"]} == set(BACKGROUNDS)
    assert 0.3 < sum(bool(scene.overlaps) for scene in scenes["train"]) / COUNT < 0.9


def test_image_ids_are_unique_over_splits(scenes):
    assert len({scene.image_id for split in SPLITS for scene in scenes[split]}) == 3 * COUNT


def test_no_two_splits_share_a_set_of_objects(scenes):
    sets = {split: {object_set(scene.objects) for scene in scenes[split]} for split in SPLITS}
    assert all(not sets[a] & sets[b] for a, b in permutations(SPLITS, 2))
    for split in SPLITS:
        assert all(home_split(scene.objects) == split for scene in scenes[split])


def test_the_home_of_a_set_ignores_order_repeats_and_other_attributes():
    a = SceneObject("star", "red", "small", "plain")
    b = SceneObject("ring", "blue", "large", "dotted")
    again = SceneObject("star", "red", "large", "striped")
    assert object_set([a, b]) == object_set([b, again, a])
    assert home_split([a, b]) == home_split([b, again, a])


def test_single_objects_are_shared_between_splits_and_scenes(scenes):
    pairs = {split: Counter(p for s in scenes[split] for p in object_set(s.objects)) for split in SPLITS}
    assert len(pairs["train"]) > 0.95 * len(SHAPES) * len(COLOURS)
    assert sum(count == 1 for count in pairs["test"].values()) < 0.1 * len(pairs["test"])  # rarely a give-away


def test_relations_by_hand():
    low_left = SceneObject("star", "red", "small", "plain", centre=(40, 100), radius=10)
    high_right = SceneObject("ring", "blue", "large", "plain", centre=(68, 76), radius=13)
    scene = make_scene(low_left, high_right, overlaps=[(1, 0)])
    true = {name for name in RELATIONS if scene.holds(name, 0, 1)}
    assert true == {"left", "below", "behind", "smaller"}
    assert {name for name in RELATIONS if scene.holds(name, 1, 0)} == {"right", "above", "front", "larger"}
    nearly = SceneObject("ring", "blue", "large", "plain", centre=(67, 77), radius=12)  # 27 right, 23 up, 1.2 times
    assert not any(make_scene(low_left, nearly).holds(name, 0, 1) for name in RELATIONS)


def test_front_means_later_in_the_list(scenes):
    for scene in scenes["train"]:
        for front, back in scene.overlaps:
            assert front > back
            assert scene.objects[back].visible < 1


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_their_unit_circle_but_not_more(shape):
    import numpy as np

    v, u = np.mgrid[-1.5:1.5:61j, -1.5:1.5:61j]
    mask = inside(shape, u, v)
    assert 0.2 < mask.sum() * 0.05**2 / np.pi < 1  # share of the circle's area
    assert not mask[(np.abs(u) > 1.2) | (np.abs(v) > 1.2)].any()
    if shape == "ring":
        assert not mask[30, 30]
    elif shape != "moon":
        assert mask[30, 30]
