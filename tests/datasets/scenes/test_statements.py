"""Statements about two scenes: true or false as an oracle reads them, half and half for every sentence."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.datasets.scenes.captions import plural, vocabulary
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.statements import KINDS, write_statements
from oscar_paddle.datasets.scenes.world import GRAMMAR
from oscar_paddle.datasets.tokenization import Tokenizer

NAMES = ("shape", "colour", "texture")
MEANING = {words: (name, value) for name in NAMES for value, row in GRAMMAR[name].items() for words in row}
MEANING |= {plural(word): (name, value) for word, (name, value) in list(MEANING.items()) if name == "shape"}
PLACE = {words: name for name, row in GRAMMAR["background"].items() for words in row}
NUMBERS = {"no": 0, "a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5}
PLACES = "|".join(PLACE)


def count(scene, words):
    """How many objects "a red star with dots" or "red stars" fits; every word must be known."""
    words = re.sub(r"^(an?|no|two|three) ", "", words)
    found = re.findall(r"with \w+", words)
    said = [
        MEANING[w]
        for w in [*found, *re.sub(r" with \w+", "", words).split()]
        if not re.fullmatch("(shape|thing|object)s?", w)
    ]
    return sum(all(getattr(item, name) == value for name, value in said) for item in scene.objects)


def shows(scene, words):
    number = NUMBERS[words.split()[0]]
    assert count(scene, words) <= number or number == 0, "people might argue"
    return count(scene, words) == number


def is_true(text, left, right):
    sides = {"left": left, "right": right}
    for pattern, judge in FORMS:
        found = re.fullmatch(pattern, text)
        if found:
            return judge(sides, *found.groups())
    raise AssertionError(f"not understood: {text}")


def pictures_with(sides, words):
    return sum(count(scene, words) > 0 for scene in sides.values())


def exactly_one_of_those(sides, words):
    assert pictures_with(sides, words) < 2, "people might argue"
    return pictures_with(sides, words) == 1


def places(sides, first, second):
    return (sides["left"].background, sides["right"].background) == (PLACE[first], PLACE[second])


FORMS = (
    (rf"both pictures show \w+ ({PLACES})", lambda s, words: places(s, words, words)),
    (rf"we see \w+ ({PLACES}) in both pictures", lambda s, words: places(s, words, words)),
    (rf"the left picture is ({PLACES}) and the right picture is ({PLACES})", places),
    (rf"the left picture shows a scene ({PLACES}) and the right picture one ({PLACES})", places),
    (
        r"the (\w+) picture (?:has|shows) (.+) and the (\w+) picture (?:has|shows) (.+)",
        lambda s, a, x, b, y: shows(s[a], x) and shows(s[b], y),
    ),
    (r"one of the pictures shows (.+)", exactly_one_of_those),
    (r"there is (.+) in one of the pictures", exactly_one_of_those),
    (r"exactly one picture (?:has|shows) (.+)", lambda s, words: pictures_with(s, words) == 1),
    (r"both pictures show (.+)", lambda s, words: pictures_with(s, words) == 2),
    (r"(?:there is|we see) (.+) in both pictures", lambda s, words: pictures_with(s, words) == 2),
    (r"no picture shows (.+)", lambda s, words: pictures_with(s, words) == 0),
    (r"there is not (.+) in the two pictures", lambda s, words: pictures_with(s, words) == 0),
    (
        r"(?:there are|we see) more (.+) in the (\w+) picture than in the (\w+) picture",
        lambda s, words, a, b: a != b and count(s[a], words) > count(s[b], words),
    ),
    (
        r"there are exactly (\w+) (.+) in the two pictures",
        lambda s, number, words: sum(count(scene, words) for scene in s.values()) == NUMBERS[number],
    ),
)


@pytest.fixture(scope="module")
def scenes():
    return {scene.image_id: scene for scene in (sample_scene(3, "test", i) for i in range(150))}


@pytest.fixture(scope="module")
def written(scenes):
    return list(write_statements(list(scenes.values()), 3, 300))


def test_the_oracle_agrees(scenes, written):
    assert len(written) == 300
    for statement in written:
        for left, right, true in statement.pairs:
            assert is_true(statement.text, scenes[left], scenes[right]) is true, statement


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), num_scenes=st.integers(0, 12))
def test_a_handful_of_scenes(seed, num_scenes):
    scenes = {scene.image_id: scene for scene in (sample_scene(seed, "train", i) for i in range(num_scenes))}
    statements = list(write_statements(list(scenes.values()), seed, 10))
    assert len(statements) == 10 if num_scenes > 3 else len(statements) <= 10 * (num_scenes > 1)
    for statement in statements:
        for left, right, true in statement.pairs:
            assert is_true(statement.text, scenes[left], scenes[right]) is true
    assert statements == list(write_statements(list(scenes.values()), seed, 10))


def test_every_sentence_is_true_of_half_its_pairs(written):
    assert len({statement.text for statement in written}) == len(written)
    for statement in written:
        verdicts = [true for _, _, true in statement.pairs]
        assert len(verdicts) in (2, 4) and sum(verdicts) * 2 == len(verdicts)
        assert len({(left, right) for left, right, _ in statement.pairs}) == len(verdicts)
        assert all(left != right for left, right, _ in statement.pairs)
    assert sum(len(statement.pairs) == 4 for statement in written) > 270


def test_the_place_in_the_file_tells_nothing(written):
    first = [statement.pairs[0][2] for statement in written]
    assert 0.42 < sum(first) / len(first) < 0.58


def test_one_picture_alone_tells_little(scenes):
    """The more often a picture was in true pairs, the less that says about its next pair."""
    balance = defaultdict(list)
    for statement in write_statements(list(scenes.values()), 3, 600):
        for left, right, true in statement.pairs:
            balance["left", left].append(true)
            balance["right", right].append(true)
    right = []
    for verdicts in balance.values():
        half = len(verdicts) // 2
        right += [verdict == (np.mean(verdicts[:half]) > 0.5) for verdict in verdicts[half:]]
    assert 0.45 < np.mean(right) < 0.55


def test_many_false_pairs_are_half_right(scenes, written):
    half = Counter()
    for statement in written:
        if statement.kind == "sides":
            _, x, _, y = re.fullmatch(FORMS[4][0], statement.text).groups()
            left_first = statement.text.startswith("the left")
            for left, right, true in statement.pairs:
                pair = (left, right) if left_first else (right, left)
                if not true:
                    half[sum(shows(scenes[i], words) for i, words in zip(pair, (x, y), strict=True))] += 1
    assert half[2] == 0 and half[1] > half[0] > 0


def test_every_kind_occurs(written):
    assert {statement.kind for statement in written} == set(KINDS)
    assert min(Counter(statement.kind for statement in written).values()) >= 8


def test_no_word_is_unknown_to_the_quick_starts_model(written):
    tokenizer = Tokenizer(vocabulary(), do_lower_case=True)
    encoded = [tokenizer.encode(statement.text) for statement in written]
    assert all(tokenizer.unk_id not in pieces for pieces in encoded)
    lengths = [len(pieces) for pieces in encoded]
    assert max(lengths) <= 40 and sum(lengths) / len(lengths) < 22
