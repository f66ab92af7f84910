"""Referring expressions about scenes: one object each, by an oracle that reads the words; and files as published."""

import json

import numpy as np
import pytest

from oscar_paddle.datasets.refer.annotations import read_expressions
from oscar_paddle.datasets.regions.lmdb_store import LmdbRegions
from oscar_paddle.datasets.scenes.build import read_truth, write_scenes
from oscar_paddle.datasets.scenes.referring import write_referring
from oscar_paddle.datasets.scenes.world import GRAMMAR
from oscar_paddle.datasets.tokenization import build_tokenizer

NAMES = ("shape", "colour", "texture", "size")
WORDS = {words: (name, value) for name in NAMES for value, found in GRAMMAR[name].items() for words in found}
RELATIONS = {words: name for name, found in GRAMMAR["relation"].items() for words in found}


def parts(text):
    """(words for the object, the relation or None, words for the other object)."""
    for words in sorted(RELATIONS, key=len, reverse=True):
        left, found, right = text.partition(f" {words} the ")
        if found:
            return left.removesuffix(" that is"), RELATIONS[words], f"the {right}"
    return text, None, ""


def meant(text, scene):
    """Numbers of the objects that a text can mean, from its words and the pictures' geometry alone."""
    head, relation, anchor = parts(text)
    fitting = objects_of(head, scene)
    if relation is None:
        return fitting
    (other,) = objects_of(anchor, scene)
    return [i for i in fitting if i != other and stands(scene, relation, i, other)]


def objects_of(phrase, scene):
    """Numbers of the objects of which every word is true; an unknown word is an error."""
    rest, said = f" {phrase} ".replace(" the ", " ", 1), []
    for words in sorted(WORDS, key=len, reverse=True):
        if f" {words} " in rest:
            said.append(WORDS[words])
            rest = rest.replace(f" {words} ", " ", 1)
    assert rest.split() in ([], *([word] for word in GRAMMAR["anything"])), phrase
    return [i for i, item in enumerate(scene.objects) if all(getattr(item, name) == value for name, value in said)]


def stands(scene, relation, i, j):
    (x, y), (other_x, other_y) = scene.objects[i].centre, scene.objects[j].centre
    size, other = scene.objects[i].radius, scene.objects[j].radius
    return {
        "left": x < other_x,
        "right": x > other_x,
        "above": y < other_y,
        "below": y > other_y,
        "larger": size > other,
        "smaller": size < other,
        "front": (i, j) in scene.overlaps,
        "behind": (j, i) in scene.overlaps,
    }[relation]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "root"
    write_scenes(root, 24, 4, 12, seed=3, workers=0)
    return root, write_referring(root, workers=0)


def test_every_expression_means_one_object_and_most_need_their_relation(scenes):
    root, folder = scenes
    truth = {facts["scene"].image_id: facts["scene"] for found in read_truth(root).values() for facts in found}
    needy, total, lengths = 0, 0, []
    for split in ("train", "val", "test"):
        for each in read_expressions(folder / "scenes", "umd", split)[0]:
            scene = truth[each.image_id]
            (found,) = meant(each.text, scene)
            x1, y1, x2, y2 = scene.objects[found].box
            assert each.box == (x1, y1, x2 - x1, y2 - y1) and each.category == scene.objects[found].shape
            assert each.alike == sum(item.shape == each.category for item in scene.objects)
            needy += len(objects_of(parts(each.text)[0], scene)) > 1
            total += 1
            lengths.append(len(each.text.split()))
    task = json.loads((folder / "task.json").read_text())
    assert sum(task["all"].values()) == total and sum(task["need_a_relation"].values()) == needy
    assert needy > 0.55 * total and max(lengths) > 8 and min(lengths) < 4


def test_stores_show_the_pictures(scenes):
    root, folder = scenes
    proposals, annotated = LmdbRegions(folder / "proposals.lmdb"), LmdbRegions(folder / "annotated.lmdb")
    assert proposals.detector == annotated.detector == "scenes"
    truth = read_truth(root)
    assert set(annotated.ids) == {facts["scene"].image_id for facts in truth["train"]}
    for facts in truth["train"][:6]:
        scene, found = facts["scene"], proposals[facts["scene"].image_id]
        np.testing.assert_array_equal(found.boxes, [region["box"] for region in facts["regions"]])
        true = annotated[scene.image_id]
        np.testing.assert_array_equal(true.boxes, [item.box for item in scene.objects])
        assert (true.width, true.height) == (scene.width, scene.height) and (true.features > 0).any(axis=1).all()


def test_the_words_are_known_and_the_folder_is_kept(scenes):
    root, folder = scenes
    tokenizer = build_tokenizer(folder / "init", True)
    texts = {each.text for each in read_expressions(folder / "scenes", "umd", "train")[0]}
    pieces = {number: word for word, number in tokenizer.vocab.items()}
    words = {pieces[number] for text in texts for number in tokenizer.encode(text)}
    assert not [word for word in words if word.startswith("##")] and tokenizer.unk_id not in words
    before = (folder / "task.json").stat().st_mtime_ns
    assert write_referring(root, workers=0) == folder and (folder / "task.json").stat().st_mtime_ns == before
