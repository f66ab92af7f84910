"""Questions about a scene: plain ones, and those that take several steps (chains, choices, logic).

Every question has one true answer under the facts: what it speaks of exists once, and borderline relations are not
asked. Yes and no are equally frequent and ask for the same words (`VALUES` says why), so that the text alone gives
nothing away.

A kind is a function of stream and scene that returns text and answer (str, or bool for yes and no), or None where the
scene does not have what it takes.
"""

from collections import namedtuple
from dataclasses import replace
from itertools import product

from oscar_paddle.datasets.scenes.captions import Words
from oscar_paddle.datasets.scenes.world import COLOURS, CONTRARY, GRAMMAR, RELATIONS, SHAPES, TEXTURES, Mention

# Values that a text may claim or deny. The world draws all values of a row equally often (plain, the exception, is
# left out), so a wrong value drawn from the same row occurs in texts as often as a right one: words give nothing away.
VALUES = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES[1:]}
NUMBERS = ("0", "1", "2", "3", "4", "5")  # of objects
# What else people call it: the captions' synonyms, and number words.
SYNONYMS = {
    meaning: next((word for word in list(words)[1:] if " " not in word), None)
    for name in ("shape", "colour", "texture")
    for meaning, words in GRAMMAR[name].items()
} | {"2": "two", "3": "three"}
ANSWERS = {"chains": ("no", "yes", *COLOURS, *SHAPES, *TEXTURES), "statements": ("false", "true")}
ANSWERS["plain"] = (*ANSWERS["chains"], *NUMBERS, *filter(None, SYNONYMS.values()))
# Score of a synonym by how many of ten annotators say it (none: not listed).
_SYNONYM_SCORES = {None: 0.5, 0.3: 0.3, 0.6: 0.2}
# `answers` are (answer, score) pairs; the first answer is the true one and scores 1.
Question = namedtuple("Question", "text kind answers")


def ask(stream, scene, num_questions, form):
    """`Question`s with different texts, of the kinds of `KINDS[form]`; a longer list begins with the shorter one.

    For "plain" ones comes, to the true answer, which most people give, perhaps its synonym.
    """
    kinds, questions = KINDS[form], {}
    weights = {kind: weight for kind, (weight, _) in kinds.items()}
    while len(questions) < num_questions:
        kind = stream.weighted(weights)
        made = kinds[kind][1](stream, scene)
        if made:
            text, answer = made
            answer = {True: "yes", False: "no"}.get(answer, answer)
            questions.setdefault(text, Question(text, kind, ((answer, 1.0),)))
    for text, question in questions.items() if form == "plain" else ():
        score, synonym = stream.weighted(_SYNONYM_SCORES), SYNONYMS.get(question.answers[0][0])
        if score and synonym:
            questions[text] = question._replace(answers=(*question.answers, (synonym, score)))
    return list(questions.values())


def _chain(stream, scene, i, name):
    """Words for object `i` by its relation to another one, its attribute `name` not said: "the circle that is above the
    red star"; None where no relation tells the object from all others."""
    names = [said for said in ("shape", "colour", "texture") if said != name]
    outer = [Mention(), *(Mention.of(scene.objects[i], (said,)) for said in names)]
    chains = [
        (relation, j, mention)
        for relation, j, mention in product(RELATIONS, range(len(scene.objects)), outer)
        if scene.holds(relation, i, j) and scene.related(mention, relation, j) == [i] and scene.beside(relation, j)
    ]
    if not chains:
        return None
    relation, j, mention = stream.choice(chains)
    link = stream.choice(("", "that is "))
    anchor = stream.the(scene.beside(relation, j))
    return f"{stream.the([mention])} {link}{stream.weighted(GRAMMAR['relation'][relation])} {anchor}"


def _false_mention(stream, scene, mention):
    """The description with one attribute changed so that no object fits; None where that cannot be."""
    said = [name for name in VALUES if getattr(mention, name)]
    for name in stream.sample(said, len(said)):
        changed = [replace(mention, **{name: value}) for value in VALUES[name]]
        absent = [m for m in changed if not scene.count(m)]
        if absent:
            return stream.choice(absent)
    return None


def _false_value(stream, scene, item, name):
    """A value that an object does not have, every second time that of another object, so that seeing the value
    somewhere in the picture is no answer."""
    values = [value for value in VALUES[name] if value != getattr(item, name)]
    elsewhere = sorted({getattr(other, name) for other in scene.objects} & set(values))
    return stream.choice(elsewhere if elsewhere and stream.chance(0.5) else values)


def _query(name, *frames, chained=False):
    """A kind that asks for an attribute of an object, or of the object at the end of a chain."""

    def make(stream, scene):
        alike = range(len(scene.objects))
        if name == "texture":  # drawn first: plain objects are twice as many as those of any other texture
            present = {item.texture for item in scene.objects}
            texture = stream.weighted({t: 0.5 if t == "plain" else 1.0 for t in TEXTURES if t in present})
            alike = [i for i in alike if scene.objects[i].texture == texture]
        i = stream.choice(alike)
        found = _chain(stream, scene, i, name) if chained else scene.unique_mentions(i, name)
        if found:
            frame = stream.choice(frames)
            return frame.format(found if chained else stream.the(found)), getattr(scene.objects[i], name)

    return make


def _shape(stream, scene):
    """ "what is the red thing?", or "what is left of the red star?" """
    if stream.chance(0.3):
        i = stream.below(len(scene.objects))
        mentions = scene.unique_mentions(i, "shape")
        return mentions and (f"what is {stream.the(mentions)}?", scene.objects[i].shape)
    alone = [(*found, relation, j) for found, relation, j in _relatable(scene) if len(found) == 1]
    if alone:
        found, relation, j = stream.choice(alone)
        frame = stream.choice(("what is {}?", "what shape is {}?", "which shape is {}?"))
        return frame.format(_beside_the(stream, scene, relation, j)), scene.objects[found].shape


def _count(stream, scene):
    """The number is drawn first, among those the scene offers: most descriptions fit one object or none."""
    form, objects = stream.weighted({"there": 0.5, "not": 0.2, "related": 0.3}), scene.objects
    if form == "there":  # all shapes, or those with one attribute, absent ones included
        said = [("all", Mention())]
        said += [(name, Mention(**{name: value})) for name in ("shape", "colour", "texture") for value in GRAMMAR[name]]
        options = [(scene.count(mention), name, mention) for name, mention in said]
    elif form == "not":  # a value that some object has
        said = sorted({(name, getattr(item, name)) for name in ("colour", "texture") for item in objects})
        options = [(sum(getattr(item, name) != value for item in objects), name, value) for name, value in said]
    else:
        options = [(len(found), relation, j) for found, relation, j in _relatable(scene)]
    if not options:
        return None
    number = stream.weighted({number: 4 if number else 2 for number in sorted({number for number, _, _ in options})})
    name = stream.choice(sorted({name for found, name, _ in options if found == number}))
    option = stream.choice([option for *found, option in options if found == [number, name]])
    if form == "there":
        frame = stream.choice(("how many {} are there?", "how many {} do we see?", "how many {} are in the picture?"))
        return frame.format(stream.several(option)), str(number)
    shapes = stream.several(Mention())
    said = f"not {stream.value(name, option)}" if form == "not" else _beside_the(stream, scene, name, option)
    return f"how many {shapes} are {said}?", str(number)


def _relatable(scene):
    """(indices of objects, relation, object that they stand in the relation to)."""
    for relation, j in product(RELATIONS, range(len(scene.objects))):
        found = scene.related(Mention(), relation, j)
        if found is not None and scene.beside(relation, j):
            yield found, relation, j


def _beside_the(stream, scene, relation, j):
    """A relation and its second object: "left of the red star"."""
    anchor = stream.the(scene.beside(relation, j))
    return f"{stream.weighted(GRAMMAR['relation'][relation])} {anchor}"


def _exists(stream, scene):
    """ "is there a red circle?" A no differs from a yes about the same object in one attribute."""
    item = stream.choice(scene.objects)
    said = stream.choice(("shape", "colour", "shape colour", "shape texture", "colour texture"))
    if "texture" in said and item.texture == "plain":
        return None
    true, mention = stream.chance(0.5), Mention.of(item, said.split())
    mention = mention if true else _false_mention(stream, scene, mention)
    if mention:
        frame = stream.choice(("is there {}?", "do we see {}?", "is there {} in the picture?"))
        return frame.format(stream.some([mention])), true


def _attribute(chained):
    """A kind such as "is the striped circle red?", or about the object at the end of a chain."""

    def make(stream, scene):
        name, i = stream.choice(tuple(VALUES)), stream.below(len(scene.objects))
        item, found = scene.objects[i], _chain(stream, scene, i, name) if chained else scene.unique_mentions(i, name)
        phrase = found if chained or not found else stream.the(found)
        if not phrase or getattr(item, name) == "plain":
            return None
        true = stream.chance(0.5)
        value = getattr(item, name) if true else _false_value(stream, scene, item, name)
        frame = "is {} {}?" if name == "shape" or stream.chance(0.5) else "does {} look {}?"
        return frame.format(phrase, stream.value(name, value)), true

    return make


def _relation(article, *frames):
    """A kind such as "is the star above the blue ring?"; a no asks for the contrary of what holds. `article` (a method
    of `Words`) is for the first object."""

    def make(stream, scene):
        i, j = stream.sample(range(len(scene.objects)), 2)
        relation = stream.draw_relation(scene, i, j)
        first, second = (relation and scene.beside(relation, k) for k in (i, j))
        if first and second:
            true = stream.chance(0.5)
            words = stream.weighted(GRAMMAR["relation"][relation if true else CONTRARY[relation]])
            return stream.choice(frames).format(article(stream, first), words, stream.the(second)), true

    return make


def _compare(stream, scene):
    """ "are there more circles than stars?" """
    name, item = stream.choice(("shape", "colour")), stream.choice(scene.objects)
    values = getattr(item, name), _false_value(stream, scene, item, name)
    pair = stream.sample([Mention(**{name: value}) for value in values], 2)
    first, second = (scene.count(mention) for mention in pair)
    if first != second:
        frame = stream.choice(("are there more {} than {}?", "do we see more {} than {}?"))
        return frame.format(*(stream.several(mention) for mention in pair)), first > second


def _choose(stream, scene):
    """ "is the ring red or blue?" """
    name, i = stream.choice(tuple(VALUES)), stream.below(len(scene.objects))
    item, mentions = scene.objects[i], scene.unique_mentions(i, name)
    if not mentions or getattr(item, name) == "plain":
        return None
    phrase = stream.chance(0.4) and _chain(stream, scene, i, name)
    phrase = phrase or stream.the(mentions)
    values = stream.sample((getattr(item, name), _false_value(stream, scene, item, name)), 2)
    first, second = (stream.value(name, value) for value in values)
    return f"is {phrase} {first} or {second}?", getattr(item, name)


def _logic(stream, scene):
    """ "is there a star and a square?" Both words stand for things that are there or not, in all four ways."""
    name, both, true = stream.choice(("shape", "colour")), stream.chance(0.5), stream.chance(0.5)
    # "and" is true of two present things, "or" false of two absent ones; the other answers leave three ways.
    mixed = ((True, False), (False, True), (not both, not both))
    present = (both, both) if both == true else stream.choice(mixed)
    here, values = {getattr(item, name) for item in scene.objects}, []
    for there in present:
        pool = [value for value in VALUES[name] if (value in here) == there and value not in values]
        if not pool:
            return None
        values.append(stream.choice(pool))
    first, second = (stream.some([Mention(**{name: value})]) for value in values)
    frame = stream.choice(("is there {} {} {}?", "do we see {} {} {}?"))
    return frame.format(first, "and" if both else "or", second), true


_COLOUR_FRAMES = ("what colour is {}?", "which colour is {}?", "what is the colour of {}?")
_PATTERN_FRAMES = ("what pattern does {} have?", "which pattern is on {}?", "what is the pattern of {}?")
KINDS = {  # form -> kind -> weight and maker
    "plain": {
        "colour": (0.15, _query("colour", *_COLOUR_FRAMES)),
        "texture": (0.1, _query("texture", *_PATTERN_FRAMES)),
        "shape": (0.17, _shape),
        "count": (0.17, _count),
        "exists": (0.11, _exists),
        "attribute": (0.15, _attribute(chained=False)),
        "relation": (0.12, _relation(Words.the, "is {} {} {}?")),
        "compare": (0.11, _compare),
    },
    "chains": {
        "colour": (0.17, _query("colour", *_COLOUR_FRAMES, chained=True)),
        "texture": (0.1, _query("texture", *_PATTERN_FRAMES[::2], chained=True)),
        "shape": (0.17, _query("shape", "what is {}?", "what shape is {}?", chained=True)),
        "verify": (0.15, _attribute(chained=True)),
        "choose": (0.17, _choose),
        "exists": (0.07, _exists),
        "logic": (0.08, _logic),
        "relation": (0.12, _relation(Words.some, "is there {} {} {}?", "do we see {} {} {}?")),
    },
}
