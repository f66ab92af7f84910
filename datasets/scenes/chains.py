"""Questions that take several steps: chains ("the shape to the left of the striped circle"), choices, and logic.

The same rules as in questions.py: one true answer, and nothing to be learnt from the words alone.
"""

from oscar_paddle.datasets.scenes import references as refs
from oscar_paddle.datasets.scenes.captions import Mention
from oscar_paddle.datasets.scenes.questions import ask_attribute, ask_relation, exists, yes
from oscar_paddle.datasets.scenes.world import RELATIONS


def _chain(stream, scene, i, without=()):
    """Words for object `i` by its relation to another one: "the circle that is above the red star".

    Args:
        without: attributes of object `i` not to be said.
    Returns:
        str; None where no relation tells the object from all others.
    """
    names = [name for name in ("shape", "colour", "texture") if name not in without]
    outer = [Mention(), *(refs.mention_of(scene.objects[i], (name,)) for name in names)]
    chains = [
        (relation, j, mention)
        for relation in RELATIONS
        for j in range(len(scene.objects))
        if j != i and scene.holds(relation, i, j)
        for mention in outer
        if refs.related(scene, mention, relation, j) == [i] and refs.beside(scene, relation, j)
    ]
    if not chains:
        return None
    relation, j, mention = stream.choice(chains)
    link = stream.choice(("", "that is "))
    anchor = refs.the(stream, refs.beside(scene, relation, j))
    return f"{refs.the(stream, [mention])} {link}{refs.relation_words(stream, relation)} {anchor}"


def _query(name, *frames):
    """A kind that asks for an attribute of an object at the end of a chain."""

    def make(stream, scene):
        i = refs.draw_object(stream, scene, name)
        phrase = _chain(stream, scene, i, without=(name,))
        return phrase and (stream.choice(frames).format(phrase), getattr(scene.objects[i], name))

    return make


def _verify(stream, scene):
    """ "does the circle that is above the star look dotted?" """
    name, i = stream.choice(tuple(refs.VALUES)), stream.below(len(scene.objects))
    phrase = _chain(stream, scene, i, without=(name,))
    return phrase and ask_attribute(stream, scene, i, name, phrase)


def _choose(stream, scene):
    """ "is the ring red or blue?" """
    name, i = stream.choice(tuple(refs.VALUES)), stream.below(len(scene.objects))
    item, mentions = scene.objects[i], refs.unique_mentions(scene, i, without=(name,))
    if not mentions or getattr(item, name) not in refs.VALUES[name]:
        return None
    phrase = stream.chance(0.4) and _chain(stream, scene, i, without=(name,))
    phrase = phrase or refs.the(stream, mentions)
    values = stream.sample((getattr(item, name), refs.false_value(stream, scene, item, name)), 2)
    first, second = (refs.value_words(stream, name, value) for value in values)
    return f"is {phrase} {first} or {second}?", getattr(item, name)


def _logic(stream, scene):
    """ "is there a star and a square?" Both words stand for things that are there or not, in all four ways."""
    name, both = stream.choice(("shape", "colour")), stream.chance(0.5)
    true = stream.chance(0.5)
    # "and" is true of two present things, "or" false of two absent ones; the other answers leave three ways.
    present = (True, True) if both and true else (False, False) if not both and not true else _mixed(stream, both)
    here = {getattr(item, name) for item in scene.objects}
    pools = {True: [v for v in refs.VALUES[name] if v in here], False: [v for v in refs.VALUES[name] if v not in here]}
    values = [stream.choice(pools[present[0]])]
    rest = [v for v in pools[present[1]] if v not in values]
    if rest:
        values.append(stream.choice(rest))
        first, second = (refs.some(stream, [Mention(**{name: value})]) for value in values)
        frame = stream.choice(("is there {} {} {}?", "do we see {} {} {}?"))
        return frame.format(first, "and" if both else "or", second), yes(true)


def _mixed(stream, both):
    """Presence of two things where "and" is false, or "or" is true."""
    return stream.choice(((True, False), (False, True), (not both, not both)))


def _related(stream, scene):
    """ "is there a striped star to the left of the red ring?" """
    return ask_relation(stream, scene, refs.some, ("is there {} {} {}?", "do we see {} {} {}?"))


KINDS = {
    "colour": (0.17, _query("colour", "what colour is {}?", "which colour is {}?", "what is the colour of {}?")),
    "texture": (0.1, _query("texture", "what pattern does {} have?", "what is the pattern of {}?")),
    "shape": (0.17, _query("shape", "what is {}?", "what shape is {}?")),
    "verify": (0.15, _verify),
    "choose": (0.17, _choose),
    "exists": (0.07, exists),
    "logic": (0.08, _logic),
    "relation": (0.12, _related),
}
