"""Captions: true of their picture, partial, five different ones, with words that have one meaning each."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.datasets.scenes.captions import plural, vocabulary, write_captions
from oscar_paddle.datasets.scenes.drawing import RGB
from oscar_paddle.datasets.scenes.placing import SIZES, sample_scene
from oscar_paddle.datasets.scenes.world import BACKGROUNDS, COLOURS, GRAMMAR, RELATIONS, Mention, SceneObject


@pytest.fixture(scope="module")
def written():
    scenes = [sample_scene(3, "test", i) for i in range(200)]
    return [(scene, write_captions(scene, 3)) for scene in scenes]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, 10**6))
def test_five_different_true_captions(oracle, seed, index):
    scene = sample_scene(seed, "train", index)
    captions = write_captions(scene, seed)
    assert len({caption.text for caption in captions}) == 5
    assert all(oracle.compatible(caption, scene) for caption in captions)
    assert captions == write_captions(scene, seed)


def test_captions_are_partial(written):
    silent = Counter()
    for scene, captions in written:
        for caption in captions:
            silent["object"] += sum(m.count for m in caption.mentions) < len(scene.objects)
            silent["colour"] += any(m.colour is None for m in caption.mentions)
            silent["background"] += caption.background is None
    assert silent["object"] > 700 and silent["colour"] > 300 and silent["background"] > 600  # of 1,000


def test_captions_are_short_but_not_bare(written):
    lengths = sorted(len(caption.text.split()) for _, captions in written for caption in captions)
    assert lengths[0] >= 4 and lengths[-1] <= 26
    assert 10 <= sum(lengths) / len(lengths) <= 13


def test_every_kind_of_claim_occurs(written):
    captions = [caption for _, own in written for caption in own]
    assert {caption.relations[0][0] for caption in captions if caption.relations} == set(RELATIONS)
    assert {m.count for caption in captions for m in caption.mentions} == {1, 2, 3}
    assert {caption.background for caption in captions} == {None, *BACKGROUNDS}
    assert any(m.shape is None for caption in captions for m in caption.mentions)


def test_the_words_say_the_claims_and_nothing_else(written):
    """Reading the words back with the grammar's own tables gives the claimed attributes, each as often as claimed."""
    for _, captions in written:
        for caption in captions:
            text = f" {caption.text} "
            for noun in [noun for wordings in GRAMMAR["shape"].values() for noun in wordings]:
                text = text.replace(f" {plural(noun)} ", f" {noun} ")
            for name in ("shape", "colour", "texture", "size"):
                claimed = Counter(getattr(m, name) for m in caption.mentions if getattr(m, name))
                said = Counter()
                for meaning, wordings in GRAMMAR[name].items():
                    said[meaning] += sum(text.count(f" {wording} ") for wording in wordings)
                assert +said == claimed, (caption, name)
            relations = [n for n, w in GRAMMAR["relation"].items() if any(f" {x} " in text for x in w)]
            assert relations == [name for name, _, _ in caption.relations], caption
            places = [n for n, w in GRAMMAR["background"].items() if any(f" {x} " in text for x in w)]
            assert places == ([caption.background] if caption.background else []), caption


def test_every_word_has_one_meaning():
    names = ("shape", "colour", "texture", "size", "relation", "background")
    wordings = [wording for name in names for words in GRAMMAR[name].values() for wording in words]
    assert len(wordings) == len(set(wordings))


def test_the_grammar_covers_the_world():
    assert tuple(RGB) == COLOURS and set(GRAMMAR["size"]) == {"small", "large"} < set(SIZES)


def test_the_vocabulary_is_exactly_what_captions_use():
    words = {word for word in vocabulary() if word.isalpha() and len(word) > 1 or word in "a,"}
    used = {w for i in range(1500) for c in write_captions(sample_scene(5, "train", i), 5) for w in c.text.split()}
    assert used <= words
    rare = {"group", *(word for words in GRAMMAR["scenery"].values() for word in words)}  # and some plurals
    assert {word for word in words - used - rare if not word.endswith("s")} == set()


@pytest.mark.parametrize(
    ("mention", "fits"),
    [
        (Mention(), True),
        (Mention(shape="star"), True),
        (Mention(shape="star", colour="red", size="small", texture="dotted"), True),
        (Mention(shape="ring"), False),
        (Mention(shape="star", colour="blue"), False),
        (Mention(size="large"), False),
        (Mention(texture="plain"), False),
    ],
)
def test_a_mention_fits_by_what_it_says(mention, fits):
    assert mention.fits(SceneObject("star", "red", "small", "dotted")) is fits
