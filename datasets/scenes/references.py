"""How texts point at objects of a scene: descriptions that fit one object only, and relations nobody would dispute."""

from dataclasses import replace
from itertools import combinations

from oscar_paddle.datasets.scenes import captions
from oscar_paddle.datasets.scenes.captions import Mention, noun_phrase, phrase, with_article
from oscar_paddle.datasets.scenes.shapes import SHAPES
from oscar_paddle.datasets.scenes.world import COLOURS, CONTRARY, TEXTURES

# Values that a text may claim or deny. The world draws all values of a row equally often (plain, the exception, is
# left out), so a wrong value drawn from the same row occurs in texts as often as a right one: words give nothing away.
VALUES = {"shape": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES[1:]}
_WORDS = {"shape": captions.SHAPE_WORDS, "colour": captions.COLOUR_WORDS, "texture": captions.TEXTURE_WORDS}
_VISIBLE_SIZES = ("small", "large")  # nobody says "medium"
# Who hides whom, and who is larger, can be guessed from sizes; texts about these relations do not name sizes.
_TOLD_BY_SIZE = ("front", "behind", "larger", "smaller")


def unique_mentions(scene, i, without=()):
    """Descriptions by one or two attributes that fit object `i` and no other.

    Args:
        scene: `Scene`.
        i: object index.
        without: names of attributes not to be used.
    Returns:
        list of `Mention`, perhaps empty.
    """
    names = [name for name in ("shape", "colour", "texture", "size") if name not in without]
    mentions = (mention_of(scene.objects[i], said) for k in (1, 2) for said in combinations(names, k))
    return [m for m in mentions if m.size in (None, *_VISIBLE_SIZES) and count(scene, m) == 1]


def beside(scene, relation, j):
    """Descriptions that fit object `j` and no other, for a text that names a relation."""
    return unique_mentions(scene, j, ("size",) if relation in _TOLD_BY_SIZE else ())


def mention_of(item, names):
    """The `Mention` of a `SceneObject` that says these attributes."""
    return Mention(**{name: getattr(item, name) for name in names})


def count(scene, mention):
    """Number of objects that fit a description."""
    return sum(mention.fits(item) for item in scene.objects)


def related(scene, mention, relation, j):
    """The objects that fit a description and stand in a relation to object `j`.

    Args:
        scene: `Scene`.
        mention: `Mention`.
        relation: key of `RELATIONS`.
        j: object index; not among the result.
    Returns:
        list of object indices; None if a fitting object is a borderline case.
    """
    fitting = [k for k, item in enumerate(scene.objects) if k != j and mention.fits(item)]
    if not all(_is_clear(scene, relation, k, j) for k in fitting):
        return None
    return [k for k in fitting if scene.holds(relation, k, j)]


def _is_clear(scene, relation, i, j):
    """Whether the relation or its contrary holds, or the two lie so far apart that none can hide the other."""
    if scene.holds(relation, i, j) or scene.holds(CONTRARY[relation], i, j):
        return True
    (left, top, right, bottom), (x1, y1, x2, y2) = scene.objects[i].box, scene.objects[j].box
    return relation in ("front", "behind") and (right <= x1 or x2 <= left or bottom <= y1 or y2 <= top)


def false_mention(stream, scene, mention):
    """The description with one attribute changed so that no object fits; None where that cannot be."""
    said = [name for name in VALUES if getattr(mention, name)]
    for name in stream.sample(said, len(said)):
        changed = [replace(mention, **{name: value}) for value in VALUES[name]]
        absent = [m for m in changed if not count(scene, m)]
        if absent:
            return stream.choice(absent)
    return None


def false_value(stream, scene, item, name):
    """A value that an object does not have, every second time that of another object, so that seeing the value
    somewhere in the picture is no answer."""
    right = getattr(item, name)
    values = [value for value in VALUES[name] if value != right]
    elsewhere = sorted({getattr(other, name) for other in scene.objects} & set(values))
    return stream.choice(elsewhere if elsewhere and stream.chance(0.5) else values)


def draw_object(stream, scene, asked):
    """An object index. For a question about texture, that is drawn first: plain objects are twice as many as those of
    any other texture."""
    if asked != "texture":
        return stream.below(len(scene.objects))
    weights = {t: 0.5 if t == "plain" else 1.0 for t in TEXTURES if count(scene, Mention(texture=t))}
    texture = stream.weighted(weights)
    return stream.choice([i for i, item in enumerate(scene.objects) if item.texture == texture])


def value_words(stream, name, value):
    """A value as it follows "is": "red", "dotted", "a star"."""
    words = {word: weight for word, weight in _WORDS[name][value].items() if " " not in word}
    word = stream.weighted(words)
    return with_article(word) if name == "shape" else word


def relation_words(stream, relation):
    """A relation as it follows "is": "left of", "higher than"."""
    return stream.weighted(captions.RELATION_WORDS[relation])


def beside_the(stream, scene, relation, j):
    """A relation and its second object: "left of the red star"."""
    anchor = the(stream, beside(scene, relation, j))
    return f"{relation_words(stream, relation)} {anchor}"


def the(stream, mentions):
    """One of the descriptions in words: "the red star"."""
    return f"the {noun_phrase(stream, stream.choice(mentions))}"


def some(stream, mentions):
    """One of the descriptions in words: "a red star"."""
    return phrase(stream, stream.choice(mentions))


def several(stream, mention):
    """A description in the plural: "red stars"."""
    return noun_phrase(stream, replace(mention, count=2))
