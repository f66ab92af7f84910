"""Plain questions about a scene: colour, shape, pattern, number, and four kinds of yes/no.

Every question has one true answer under the facts: what it speaks of exists once, and borderline relations are not
asked. Yes and no are equally frequent and ask for the same words (`references.VALUES` says why), so that the
text alone gives nothing away. chains.py has questions that take several steps.
"""

from dataclasses import dataclass, replace

from oscar_paddle.datasets.scenes import references as refs
from oscar_paddle.datasets.scenes.captions import COLOUR_WORDS, SHAPE_WORDS, TEXTURE_WORDS, Mention, draw_relation
from oscar_paddle.datasets.scenes.world import CONTRARY, RELATIONS, TEXTURES

NUMBERS = ("0", "1", "2", "3", "4", "5")  # of objects
ANSWERS = ("no", "yes", *COLOUR_WORDS, *SHAPE_WORDS, *TEXTURE_WORDS)  # to questions without numbers
# What else people call it: the captions' synonyms, and number words.
SYNONYMS = {
    meaning: next((word for word in list(words)[1:] if " " not in word), None)
    for table in (SHAPE_WORDS, COLOUR_WORDS, TEXTURE_WORDS)
    for meaning, words in table.items()
} | {"2": "two", "3": "three"}
# Score of a synonym by how many of ten annotators say it (none: not listed).
_SYNONYM_SCORES = {None: 0.5, 0.3: 0.3, 0.6: 0.2}


@dataclass(frozen=True)
class Question:
    """A question, its kind, and (answer, score) pairs; the first answer is the true one and scores 1."""

    text: str
    kind: str
    answers: tuple


def ask(stream, scene, num_questions, kinds):
    """Draw kinds until there are enough questions with different texts.

    Args:
        stream: `Stream`.
        scene: `Scene`.
        num_questions: how many; a longer list begins with the shorter one.
        kinds: name -> (weight, function of stream and scene that returns (text, answer), or None where the scene does
            not have what it takes).
    Returns:
        list of `Question` with one answer each.
    """
    weights, questions = {kind: weight for kind, (weight, _) in kinds.items()}, {}
    while len(questions) < num_questions:
        kind = stream.weighted(weights)
        made = kinds[kind][1](stream, scene)
        if made:
            text, answer = made
            questions.setdefault(text, Question(text, kind, ((answer, 1.0),)))
    return list(questions.values())


def with_synonym(stream, question):
    """The question with the true answer, which most people give, and perhaps its synonym."""
    extra, synonym = stream.weighted(_SYNONYM_SCORES), SYNONYMS.get(question.answers[0][0])
    return replace(question, answers=(*question.answers, (synonym, extra))) if synonym and extra else question


def _query(name, *frames):
    """A kind that asks for an attribute of an object."""

    def make(stream, scene):
        i = refs.draw_object(stream, scene, name)
        mentions = refs.unique_mentions(scene, i, without=(name,))
        if mentions:
            return stream.choice(frames).format(refs.the(stream, mentions)), getattr(scene.objects[i], name)

    return make


def _shape(stream, scene):
    """ "what is the red thing?", or "what is left of the red star?" """
    if stream.chance(0.3):
        i = stream.below(len(scene.objects))
        mentions = refs.unique_mentions(scene, i, without=("shape",))
        return mentions and (f"what is {refs.the(stream, mentions)}?", scene.objects[i].shape)
    alone = [(relation, j) for number, relation, j in _relatable(scene) if number == 1]
    if alone:
        relation, j = stream.choice(alone)
        (found,) = refs.related(scene, Mention(), relation, j)
        frame = stream.choice(("what is {}?", "what shape is {}?", "which shape is {}?"))
        return frame.format(refs.beside_the(stream, scene, relation, j)), scene.objects[found].shape


def _count(stream, scene):
    """The number is drawn first, among those the scene offers: most descriptions fit one object or none."""
    form = stream.weighted({"there": 0.5, "not": 0.2, "related": 0.3})
    options = list({"there": _countable, "not": _deniable, "related": _relatable}[form](scene))
    if not options:
        return None
    number = stream.weighted({number: 4 if number else 2 for number in sorted({number for number, _, _ in options})})
    name = stream.choice(sorted({name for found, name, _ in options if found == number}))
    option = stream.choice([option for *found, option in options if found == [number, name]])
    if form == "there":
        frame = stream.choice(("how many {} are there?", "how many {} do we see?", "how many {} are in the picture?"))
        return frame.format(refs.several(stream, option)), str(number)
    shapes = refs.several(stream, Mention())
    if form == "not":
        return f"how many {shapes} are not {refs.value_words(stream, name, option)}?", str(number)
    return f"how many {shapes} are {refs.beside_the(stream, scene, name, option)}?", str(number)


def _countable(scene):
    """(number, what is said, Mention): all shapes, or those with one attribute, absent ones included."""
    yield len(scene.objects), "all", Mention()
    for name, values in {**refs.VALUES, "texture": TEXTURES}.items():
        for value in values:
            mention = Mention(**{name: value})
            yield refs.count(scene, mention), name, mention


def _deniable(scene):
    """(number, attribute, value that some object has and so many have not)."""
    for name in ("colour", "texture"):
        for value in sorted({getattr(item, name) for item in scene.objects}):
            yield len(scene.objects) - refs.count(scene, Mention(**{name: value})), name, value


def _relatable(scene):
    """(number, relation, object that so many stand in the relation to)."""
    for relation in RELATIONS:
        for j in range(len(scene.objects)):
            found = refs.related(scene, Mention(), relation, j)
            if found is not None and refs.beside(scene, relation, j):
                yield len(found), relation, j


def exists(stream, scene):
    """ "is there a red circle?" A no differs from a yes about the same object in one attribute."""
    item = stream.choice(scene.objects)
    said = stream.choice((("shape",), ("colour",), ("shape", "colour"), ("shape", "texture"), ("colour", "texture")))
    if "texture" in said and item.texture not in refs.VALUES["texture"]:
        return None
    true = stream.chance(0.5)
    mention = refs.mention_of(item, said) if true else refs.false_mention(stream, scene, refs.mention_of(item, said))
    if mention:
        frame = stream.choice(("is there {}?", "do we see {}?", "is there {} in the picture?"))
        return frame.format(refs.some(stream, [mention])), yes(true)


def _attribute(stream, scene):
    """ "is the striped circle red?" """
    name, i = stream.choice(tuple(refs.VALUES)), stream.below(len(scene.objects))
    mentions = refs.unique_mentions(scene, i, without=(name,))
    if mentions:
        return ask_attribute(stream, scene, i, name, refs.the(stream, mentions))


def ask_attribute(stream, scene, i, name, phrase):
    """(text, answer) of "is ... red?" about object `i`, which `phrase` denotes; None for a plain object's texture."""
    item = scene.objects[i]
    if getattr(item, name) not in refs.VALUES[name]:
        return None
    true = stream.chance(0.5)
    value = getattr(item, name) if true else refs.false_value(stream, scene, item, name)
    frame = "is {} {}?" if name == "shape" or stream.chance(0.5) else "does {} look {}?"
    return frame.format(phrase, refs.value_words(stream, name, value)), yes(true)


def _relation(stream, scene):
    """ "is the star above the blue ring?" """
    return ask_relation(stream, scene, refs.the, ("is {} {} {}?",))


def ask_relation(stream, scene, article, frames):
    """(text, answer) about a relation of two objects; a no asks for the contrary of what holds.

    Args:
        stream: `Stream`.
        scene: `Scene`.
        article: `refs.the` or `refs.some`, for the first object.
        frames: texts with places for first object, relation, second object.
    Returns:
        None where the drawn objects have no clear relation or no description of their own.
    """
    i, j = stream.sample(range(len(scene.objects)), 2)
    relation = draw_relation(stream, scene, i, j)
    if relation is None:
        return None
    first, second = (refs.beside(scene, relation, k) for k in (i, j))
    if first and second:
        true = stream.chance(0.5)
        words = refs.relation_words(stream, relation if true else CONTRARY[relation])
        return stream.choice(frames).format(article(stream, first), words, refs.the(stream, second)), yes(true)


def _compare(stream, scene):
    """ "are there more circles than stars?" """
    name = stream.choice(("shape", "colour"))
    item = stream.choice(scene.objects)
    values = getattr(item, name), refs.false_value(stream, scene, item, name)
    pair = stream.sample([Mention(**{name: value}) for value in values], 2)
    first, second = (refs.count(scene, mention) for mention in pair)
    if first != second:
        frame = stream.choice(("are there more {} than {}?", "do we see more {} than {}?"))
        return frame.format(*(refs.several(stream, mention) for mention in pair)), yes(first > second)


def yes(true):
    return "yes" if true else "no"


KINDS = {
    "colour": (0.15, _query("colour", "what colour is {}?", "which colour is {}?", "what is the colour of {}?")),
    "texture": (
        0.1,
        _query("texture", "what pattern does {} have?", "which pattern is on {}?", "what is the pattern of {}?"),
    ),
    "shape": (0.17, _shape),
    "count": (0.17, _count),
    "exists": (0.11, exists),
    "attribute": (0.15, _attribute),
    "relation": (0.12, _relation),
    "compare": (0.11, _compare),
}
