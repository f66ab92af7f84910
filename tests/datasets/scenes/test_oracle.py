"""The perfect reader, and what it shows: scenes are neither trivial nor hopeless."""

import numpy as np
import pytest

from oscar_paddle.datasets.scenes.captions import Caption, write_captions
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.world import Mention, Scene, SceneObject

RED_STAR = SceneObject("star", "red", "small", "plain", centre=(20, 20), radius=10)
RED_RING = SceneObject("ring", "red", "large", "dotted", centre=(120, 20), radius=30)
BLUE_STAR = SceneObject("star", "blue", "medium", "striped", centre=(60, 100), radius=20)
SCENE = Scene(1, "test", "sand", (RED_STAR, RED_RING, BLUE_STAR), ((2, 1),))


def caption(*mentions, relations=(), background=None):
    return Caption("", tuple(mentions), tuple(relations), background)


@pytest.mark.parametrize(
    ("claim", "true"),
    [
        (caption(Mention("star", "red"), Mention("ring")), True),
        (caption(Mention("star", "red"), Mention("star", "red")), False),  # one red star is not two
        (caption(Mention("star", "red"), Mention("star")), True),
        (caption(Mention(None, "red"), Mention(None, "red"), Mention(None, "red")), False),
        (caption(Mention("star", "red"), background="sand"), True),
        (caption(Mention("star", "red"), background="sky"), False),
        (caption(Mention("star"), Mention("ring"), relations=[("left", 0, 1)]), True),
        (caption(Mention("ring"), Mention("star"), relations=[("left", 0, 1)]), False),
        (caption(Mention("star"), Mention("ring"), relations=[("front", 0, 1)]), True),  # the blue one
        (caption(Mention("star", "red"), Mention("ring"), relations=[("front", 0, 1)]), False),
        (caption(Mention("ring"), Mention("star"), relations=[("larger", 0, 1)]), True),
        (caption(Mention("star", count=2), Mention("ring")), True),
        (caption(Mention("star", count=3), Mention("ring")), False),
        (caption(Mention("star", "red", count=2)), False),
        (caption(Mention(size=None, count=2)), False),  # three objects are not two
        (caption(Mention(size=None, count=3)), True),
    ],
)
def test_compatible_by_hand(oracle, claim, true):
    assert oracle.compatible(claim, SCENE) is true


def test_a_reader_without_relations(oracle):
    claim = caption(Mention("ring"), Mention("star"), relations=[("left", 0, 1)])
    assert oracle.compatible(claim, SCENE, use_relations=False)


def test_information_by_hand(oracle):
    # 20 shapes, 10 colours, 6 backgrounds, one bit for a relation
    assert oracle.information(caption(Mention("star", "red"))) == pytest.approx(np.log2(20 * 10))
    full = caption(Mention("star", "red"), Mention(None, "blue"), relations=[("left", 0, 1)], background="sand")
    assert oracle.information(full) == pytest.approx(np.log2(20 * 10 * 10 * 6) + 1)


def test_ties_count_against_the_oracle(oracle):
    twin = Scene(2, "test", "sand", SCENE.objects, SCENE.overlaps)
    mine, other = caption(Mention("star", "red")), caption(Mention("ring", "red"))
    recalls = oracle.oracle_recalls([SCENE, twin], [[mine], [other]])
    assert oracle.oracle_scores([SCENE, twin], [mine, other]).min() > 0
    assert recalls["i2t_retrieval"]["R@1"] == recalls["t2i_retrieval"]["R@1"] == 0
    assert recalls["t2i_retrieval"]["R@5"] == 1


@pytest.fixture(scope="module")
def held_out():
    scenes = [sample_scene(1, "test", i) for i in range(200)]  # those of the quick start
    return scenes, [write_captions(scene, 1) for scene in scenes]


def test_the_oracle_does_well_and_relations_help(oracle, held_out):
    scenes, captions = held_out
    full = oracle.oracle_recalls(scenes, captions)
    plain = oracle.oracle_recalls(scenes, captions, use_relations=False)
    assert full["i2t_retrieval"]["R@1"] >= 0.9
    assert 0.6 <= plain["t2i_retrieval"]["R@1"] < full["t2i_retrieval"]["R@1"] <= 0.95  # some ambiguity stays
    assert full["t2i_retrieval"]["R@10"] >= 0.97


def test_captions_are_not_decided_by_one_object(oracle, held_out):
    """A single mention fits several pictures; it takes the combination to find the right one."""
    scenes, captions = held_out
    claims = [claim for own in captions for claim in own]
    fitting = [
        [sum(any(mention.fits(item) for item in scene.objects) for scene in scenes) for mention in claim.mentions]
        for claim in claims
    ]
    assert np.median([count for counts in fitting for count in counts]) >= 4
    # Measured: 12 % of the mentions, and 27 % of the captions hold such a mention.
    assert np.mean([count == 1 for counts in fitting for count in counts]) < 0.2
    whole = [sum(oracle.compatible(claim, scene) for scene in scenes) for claim in claims]
    assert np.mean(np.array(whole) == 1) > 2 * np.mean([1 in counts for counts in fitting])


def test_the_background_alone_is_not_enough(oracle, held_out):
    scenes, captions = held_out
    bare = [[Caption(c.text, (), (), c.background) for c in own] for own in captions]
    assert oracle.oracle_recalls(scenes, bare)["t2i_retrieval"]["R@1"] == 0
