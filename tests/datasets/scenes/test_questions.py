"""Questions and statements about scenes: one true answer each, read back from the words; nothing to be learnt without
looking. Statements are true and false half and half."""

import math
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.datasets.scenes.captions import Words, plural, vocabulary
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.questions import ANSWERS, KINDS, SYNONYMS, ask
from oscar_paddle.datasets.scenes.statements import KINDS as STATEMENT_KINDS
from oscar_paddle.datasets.scenes.statements import write_statements
from oscar_paddle.datasets.scenes.world import GRAMMAR, Scene, SceneObject
from oscar_paddle.datasets.tokenization import Tokenizer

NAMES = ("shape", "colour", "texture", "size")
MEANING = {words: (name, value) for name in NAMES for value, row in GRAMMAR[name].items() for words in row}
MEANING |= {plural(word): (name, value) for word, (name, value) in list(MEANING.items()) if name == "shape"}
ANYTHING = {word + ending for word in GRAMMAR["anything"] for ending in ("", "s")}
RELATION = {words: name for name, row in GRAMMAR["relation"].items() for words in row}
RELATIONS = re.compile(rf"(.*?)(?:^| )({'|'.join(sorted(RELATION, key=len, reverse=True))}) (the .+)")
CONTRARY = dict(zip(("left", "above", "front", "larger"), ("right", "below", "behind", "smaller"), strict=True))
CONTRARY |= {b: a for a, b in CONTRARY.items()}


def make(form, scene, seed, num_questions=6):
    key = {"plain": ("vqa",), "chains": ("gqa", "")}[form]  # as in the tasks
    return ask(Words(seed, scene.image_id, *key), scene, num_questions, form)


# The oracle: answers from words and facts, by brute force.


def holds(scene, relation, i, j):
    a, b = scene.objects[i], scene.objects[j]
    if relation in ("right", "below", "behind", "smaller"):
        return holds(scene, CONTRARY[relation], j, i)
    return {
        "left": b.centre[0] - a.centre[0] >= 28,
        "above": b.centre[1] - a.centre[1] >= 24,
        "front": (i, j) in scene.overlaps,
        "larger": a.radius >= 1.3 * b.radius,
    }[relation]


def undisputed(scene, relation, i, j):
    if holds(scene, relation, i, j) or holds(scene, CONTRARY[relation], i, j):
        return True
    (a, b, c, d), (e, f, g, h) = scene.objects[i].box, scene.objects[j].box
    return relation in ("front", "behind") and not (a < g and e < c and b < h and f < d)


def described(scene, words):
    """Objects that "red star with dots" fits; every word must be known."""
    for two in re.findall(r"with \w+", words):
        words = words.replace(two, two.replace(" ", "_"))
    said = {}
    for word in words.replace("_", " _").split():
        if word in ANYTHING or word == "with":
            continue
        name, value = MEANING["with " + word[1:] if word.startswith("_") else word]
        assert name not in said
        said[name] = value
    return [i for i, item in enumerate(scene.objects) if all(getattr(item, n) == v for n, v in said.items())]


def bare(phrase):
    return re.sub(r"^(the|an?) ", "", phrase)


def standing(scene, outer, relation, anchor):
    """Objects that fit and stand in the relation to the one that the anchor denotes; no fitting one is in doubt."""
    j = the_one(scene, anchor)
    fitting = [i for i in described(scene, bare(outer)) if i != j]
    assert all(undisputed(scene, RELATION[relation], i, j) for i in fitting)
    return [i for i in fitting if holds(scene, RELATION[relation], i, j)]


def the_one(scene, phrase):
    """The object that a definite phrase denotes: exactly one must fit."""
    assert phrase.startswith("the ")
    chain = RELATIONS.fullmatch(phrase)
    found = (
        standing(scene, chain[1].removesuffix(" that is"), *chain.groups()[1:])
        if chain
        else described(scene, bare(phrase))
    )
    assert len(found) == 1, phrase
    return found[0]


def value_of(scene, phrase, name):
    return getattr(scene.objects[the_one(scene, phrase)], name)


def has_value(scene, phrase, words):
    name, value = MEANING[bare(words)]
    assert (name == "shape") == (bare(words) != words)
    return value_of(scene, phrase, name) == value


def answer_of(scene, text):
    assert text.endswith("?")
    text = text[:-1]
    for pattern, answer in FORMS:
        found = re.fullmatch(pattern, text)
        reply = found and answer(scene, *found.groups())
        if reply is not None:
            return {True: "yes", False: "no"}.get(reply, reply) if isinstance(reply, bool) else str(reply)
    raise AssertionError(f"not understood: {text}")


def _how_many_related(scene, thing, words):
    parts = RELATIONS.fullmatch(words)
    return len(standing(scene, thing, *parts.groups()[1:]))


def _there_is(scene, words):
    words = words.removesuffix(" in the picture")
    for link, fold in ((" and ", all), (" or ", any)):
        if link in words:
            return fold(bool(described(scene, bare(part))) for part in words.split(link))
    parts = RELATIONS.fullmatch(words)
    return bool(standing(scene, *parts.groups()) if parts else described(scene, bare(words)))


def _attribute(scene, phrase, words):
    known = MEANING.get(bare(words), ("",))[0] in ("colour", "texture") or bare(words) != words
    return has_value(scene, phrase, words) if known else None


def _relation(scene, words):
    first, relation, second = RELATIONS.fullmatch(words).groups()
    i, j = the_one(scene, first), the_one(scene, second)
    assert undisputed(scene, RELATION[relation], i, j) and i != j
    return holds(scene, RELATION[relation], i, j)


def _choice(scene, phrase, first, second):
    true = [has_value(scene, phrase, words) for words in (first, second)]
    assert sum(true) == 1
    return MEANING[bare(first if true[0] else second)][1]


def _shape(scene, words):
    parts = RELATIONS.fullmatch(words)
    if parts and not parts[1]:
        (found,) = standing(scene, "shape", *parts.groups()[1:])
        return scene.objects[found].shape
    return value_of(scene, words, "shape")


VALUE = r"((?:an? )?\w+)"
FORMS = (
    (r"how many (.+?) (?:are there|do we see|are in the picture)", lambda s, words: len(described(s, words))),
    (r"how many \w+ are not (\w+)", lambda s, word: len(s.objects) - len(described(s, word))),
    (r"how many (\w+) are (.+)", _how_many_related),
    (r"(?:are there|do we see) more (.+) than (.+)", lambda s, a, b: len(described(s, a)) > len(described(s, b))),
    (r"(?:is there|do we see) (.+)", _there_is),
    (r"(?:what|which) colour is (.+)", lambda s, phrase: value_of(s, phrase, "colour")),
    (r"what is the colour of (.+)", lambda s, phrase: value_of(s, phrase, "colour")),
    (r"what pattern does (.+) have", lambda s, phrase: value_of(s, phrase, "texture")),
    (r"(?:which pattern is on|what is the pattern of) (.+)", lambda s, phrase: value_of(s, phrase, "texture")),
    (r"(?:what|what shape|which shape) is (.+)", _shape),
    (rf"is (the .+?) {VALUE} or {VALUE}", _choice),
    (rf"does (the .+) look {VALUE}", _attribute),
    (rf"is (the .+?) {VALUE}", _attribute),
    (r"is (the .+)", _relation),
)


@pytest.fixture(scope="module")
def asked():
    """{"plain": [(scene, its questions), ...], "chains": ...} of 500 training scenes."""
    scenes = [sample_scene(3, "train", i) for i in range(500)]
    return {form: [(scene, make(form, scene, 3)) for scene in scenes] for form in KINDS}


def questions(asked, form):
    return [question for _, own in asked[form] for question in own]


@pytest.mark.parametrize("form", KINDS)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, 10**6))
def test_every_question_has_one_true_answer(form, seed, index):
    scene = sample_scene(seed, "test", index)
    made = make(form, scene, seed, 8)
    assert len({question.text for question in made}) == 8
    for question in made:
        assert answer_of(scene, question.text) == question.answers[0][0], question
    assert make(form, scene, seed, 8) == made
    assert [question.text for question in make(form, scene, seed, 3)] == [q.text for q in made[:3]]


@pytest.mark.parametrize("form", KINDS)
def test_the_oracle_agrees_on_many(asked, form):
    for scene, own in asked[form]:
        assert [answer_of(scene, question.text) for question in own] == [q.answers[0][0] for q in own], own


def test_the_oracle_refuses_what_is_not_unique_or_in_doubt():
    star = SceneObject("star", "red", "small", "dotted", (50, 50), 12, box=(38, 38, 62, 62))
    near = SceneObject("ring", "blue", "small", "plain", (70, 90), 12, box=(58, 78, 82, 102))
    scene = Scene(1, "train", "sky", (star, near, star), ())
    assert answer_of(scene, "is there a spotted star?") == "yes"
    for text in ("what colour is the star?", "is the ring left of the crimson shape?", "what is left of the ring?"):
        with pytest.raises(AssertionError):
            answer_of(scene, text)


@pytest.mark.parametrize("form", KINDS)
def test_every_kind_is_asked_and_no_answer_dominates(asked, form):
    answers = defaultdict(Counter)
    for question in questions(asked, form):
        answers[question.kind][question.answers[0][0]] += 1
    assert set(answers) == set(KINDS[form])
    limits = {"colour": 0.16, "texture": 0.36, "shape": 0.11, "count": 0.36, "choose": 0.14}
    for kind, counts in answers.items():
        assert max(counts.values()) / sum(counts.values()) < limits.get(kind, 0.58), (kind, counts.most_common(3))
        assert sum(counts.values()) > 0.04 * sum(map(len, answers.values()))
    if form == "plain":
        assert set(answers["count"]) == set("012345") and answers["count"]["0"] > 30


@pytest.mark.parametrize("form", KINDS)
def test_yes_is_as_frequent_as_no(asked, form):
    counts = Counter(question.answers[0][0] for question in questions(asked, form))
    assert 0.47 < counts["yes"] / (counts["yes"] + counts["no"]) < 0.53


@pytest.mark.parametrize(
    "pieces",
    [lambda words: words, lambda words: [*words, *zip(words, words[1:], strict=False)]],
    ids=["words", "pairs of words"],
)
@pytest.mark.parametrize("form", KINDS)
def test_words_alone_do_not_tell_yes_from_no(asked, form, pieces):
    """Naive Bayes over the words of training questions, measured on other scenes."""
    votes = defaultdict(lambda: [1, 1])
    for question in questions(asked, form):
        if question.answers[0][0] in ("yes", "no"):
            for piece in set(pieces(question.text.split())):
                votes[piece][question.answers[0][0] == "yes"] += 1
    right = []
    for i in range(400):
        for question in make(form, sample_scene(3, "test", i), 3):
            answer = question.answers[0][0]
            if answer in ("yes", "no"):
                found = [votes[piece] for piece in set(pieces(question.text.split())) if piece in votes]
                right.append((sum(math.log(y / n) for n, y in found) > 0) == (answer == "yes"))
    assert len(right) > 800 and 0.45 < sum(right) / len(right) < 0.55


def test_a_relation_is_denied_as_often_as_claimed(asked):
    said, (_, make) = Counter(), KINDS["plain"]["relation"]
    for scene, _ in asked["plain"]:
        stream = Words("relations", scene.image_id)
        for text, answer in filter(None, (make(stream, scene) for _ in range(8))):
            said[RELATION[RELATIONS.fullmatch(text[3:-1])[2]], answer] += 1
    for relation in CONTRARY:
        share = said[relation, True] / (said[relation, True] + said[relation, False])
        assert 0.38 < share < 0.62, (relation, share)


def test_soft_scores(asked):
    scores = Counter()
    for question in questions(asked, "plain"):
        (answer, score), *others = question.answers
        assert score == 1.0 and len(others) <= 1
        for synonym, other in others:
            assert synonym == SYNONYMS[answer] and other in (0.3, 0.6)
            scores[other] += 1
        scores["may have one"] += bool(SYNONYMS.get(answer))
    assert 0.4 < (scores[0.3] + scores[0.6]) / scores["may have one"] < 0.6
    assert all(len(question.answers) == 1 for question in questions(asked, "chains"))


@pytest.mark.parametrize("form", KINDS)
def test_the_answer_sets_are_closed(asked, form):
    given = [answer for question in questions(asked, form) for answer, _ in question.answers]
    assert set(given) == set(ANSWERS[form]) and len(set(given)) == len(ANSWERS[form])


# Statements, and how to read them.

PLACE = {words: name for name, row in GRAMMAR["background"].items() for words in row}
NUMBERS = {"no": 0, "a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5}
PLACES = "|".join(PLACE)


def count(scene, words):
    """How many objects "a red star with dots" or "red stars" fits; every word must be known."""
    return len(described(scene, re.sub(r"^(an?|no|two|three) ", "", words)))


def shows(scene, words):
    number = NUMBERS[words.split()[0]]
    assert count(scene, words) <= number or number == 0, "people might argue"
    return count(scene, words) == number


def is_true(text, left, right):
    sides = {"left": left, "right": right}
    for pattern, judge in STATEMENT_FORMS:
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


STATEMENT_FORMS = (
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


@settings(max_examples=25)
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
            _, x, _, y = re.fullmatch(STATEMENT_FORMS[4][0], statement.text).groups()
            left_first = statement.text.startswith("the left")
            for left, right, true in statement.pairs:
                pair = (left, right) if left_first else (right, left)
                if not true:
                    half[sum(shows(scenes[i], words) for i, words in zip(pair, (x, y), strict=True))] += 1
    assert half[2] == 0 and half[1] > half[0] > 0


def test_every_kind_occurs(written):
    assert {statement.kind for statement in written} == set(STATEMENT_KINDS)
    assert min(Counter(statement.kind for statement in written).values()) >= 8


def test_no_word_is_unknown_to_the_quick_starts_model(asked, written):
    """Its vocabulary has no question words; they fall into letters, which must not make the texts long."""
    tokenizer = Tokenizer(vocabulary(), do_lower_case=True)
    for texts in (*(questions(asked, form) for form in KINDS), written):
        encoded = [tokenizer.encode(text.text) for text in texts]
        assert all(tokenizer.unk_id not in pieces for pieces in encoded)
        assert max(map(len, encoded)) <= 40 and np.mean([len(pieces) for pieces in encoded]) < 22
