"""Captions of scenes: what is claimed (structured) and how it is worded (a grammar with synonyms).

A caption is partial: it mentions two or three of the three to five objects, most with some attributes left out, and
at times one relation, a count or the background. The claims are kept beside the words, so that an oracle (or a later
question) works on facts instead of parsing text. Every word has one meaning: nothing but the claims decides.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from oscar_paddle.datasets.scenes.world import RELATIONS, Stream

CAPTIONS_PER_IMAGE = 5
GRAMMAR = yaml.safe_load(Path(__file__).with_name("grammar.yaml").read_text(encoding="ascii"))
SHAPE_WORDS, COLOUR_WORDS, TEXTURE_WORDS = GRAMMAR["shapes"], GRAMMAR["colours"], GRAMMAR["textures"]
SIZE_WORDS, RELATION_WORDS, BACKGROUND_WORDS = GRAMMAR["sizes"], GRAMMAR["relations"], GRAMMAR["backgrounds"]
NUMBER_WORDS, GENERIC_WORDS = GRAMMAR["numbers"], GRAMMAR["anything"]


@dataclass(frozen=True)
class Mention:
    """One thing a caption speaks of; None = not said. `count` 2 or 3 means "exactly so many such objects"."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    count: int = 1

    def fits(self, item):
        """Whether a `SceneObject` has every attribute that is said."""
        return all(
            getattr(self, name) in (None, getattr(item, name)) for name in ("shape", "colour", "size", "texture")
        )


@dataclass(frozen=True)
class Caption:
    """A sentence and its claims. `relations` are (relation, mention index, mention index); `background` or None."""

    text: str
    mentions: tuple
    relations: tuple = ()
    background: str | None = None


def caption_from_dict(record):
    """The `Caption` of one entry of `captions` in `scenes_truth.jsonl`."""
    mentions = tuple(Mention(**mention) for mention in record["mentions"])
    relations = tuple((name, i, j) for name, i, j in record["relations"])
    return Caption(record["text"], mentions, relations, record["background"])


def write_captions(scene, seed):
    """Five different captions of a scene, each true of it.

    Args:
        scene: `Scene`.
        seed: seed of the data set.
    Returns:
        list of `CAPTIONS_PER_IMAGE` `Caption`s with different texts.
    """
    stream = Stream(seed, scene.image_id, "captions")
    captions = {}
    while len(captions) < CAPTIONS_PER_IMAGE:
        caption = _write_caption(stream, scene)
        captions.setdefault(caption.text, caption)
    return list(captions.values())


def _write_caption(stream, scene):
    background = scene.background if stream.chance(0.25) else None
    chosen = _choose_objects(stream, scene)
    mentions = [Mention()]
    while not any(mention.colour for mention in mentions):  # "a ring and a star" alone would fit half the pictures
        mentions = [_describe(stream, scene.objects[i]) for i in chosen]
    if stream.chance(0.2):
        mentions = _with_count(stream, scene, chosen, mentions)
    relations = ()
    if stream.chance(0.65) and mentions[0].count == mentions[1].count == 1:
        relation = draw_relation(stream, scene, *chosen[:2])
        relations = ((relation, 0, 1),) if relation else ()
    text = _word(stream, mentions, relations, background)
    return Caption(text, tuple(mentions), relations, background)


def _choose_objects(stream, scene):
    """Two or three object indices; pairs that overlap are striking and chosen more often."""
    chosen = stream.sample(range(len(scene.objects)), 3 if stream.chance(0.35) else 2)
    if scene.overlaps and stream.chance(0.3):
        pair = stream.sample(stream.choice(scene.overlaps), 2)
        chosen = [*pair, *(i for i in chosen if i not in pair)][: len(chosen)]
    return chosen


def draw_relation(stream, scene, i, j):
    """A relation in which object `i` stands to object `j`, or None; few pairs overlap, so that is said more often."""
    holding = [name for name in RELATIONS if scene.holds(name, i, j)]
    hiding = [name for name in holding if name in ("front", "behind")]
    return stream.choice(hiding if hiding and stream.chance(0.6) else holding) if holding else None


def _describe(stream, item):
    """A partial description of one object."""
    generic = stream.chance(0.1)
    colour = item.colour if generic or stream.chance(0.7) else None
    size = item.size if item.size != "medium" and stream.chance(0.35) else None
    texture = item.texture if stream.chance(0.12 if item.texture == "plain" else 0.4) else None
    return Mention(None if generic else item.shape, colour, size, texture)


def _with_count(stream, scene, chosen, mentions):
    """Let a count replace the first mention ("two stars and a red heart"), if two or three objects share its shape
    (and perhaps its colour)."""
    item = scene.objects[chosen[0]]
    for colour in (item.colour, None):
        mention = Mention(shape=item.shape, colour=colour)
        alike = [other for other in scene.objects if mention.fits(other)]
        others = [(i, m) for i, m in zip(chosen, mentions, strict=True) if not mention.fits(scene.objects[i])]
        if len(alike) in NUMBER_WORDS and others:
            return [Mention(item.shape, colour, count=len(alike)), *(m for _, m in others)]
    return mentions


def _word(stream, mentions, relations, background):
    phrases = [phrase(stream, mention) for mention in mentions]
    if relations:
        rel = stream.weighted(RELATION_WORDS[relations[0][0]])
        text = stream.weighted(GRAMMAR["link_frames"]).format(a=phrases[0], rel=rel, b=phrases[1])
        if len(phrases) == 3:
            text += f" and {phrases[2]}" if stream.chance(0.5) else f" , with {phrases[2]}"
    else:
        link = stream.choice(("and", "and", "with"))
        text = f"{' , '.join(phrases[:-1])} {link} {phrases[-1]}"
        text = stream.weighted(GRAMMAR["list_frames"]).format(list=text)
    if background:
        place = stream.weighted(BACKGROUND_WORDS[background])
        text = f"{place} , {text}" if stream.chance(0.3) else f"{text} {place}"
    return text


def phrase(stream, mention):
    """A description with its article or number: "a red star", "two red stars"."""
    words = noun_phrase(stream, mention)
    if mention.count > 1:
        return f"{stream.weighted(NUMBER_WORDS[mention.count])} {words}"
    return with_article(words)


def with_article(words):
    """ "a star", "an orange star"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(noun):
    return GRAMMAR["plurals"].get(noun, noun + "s")


def noun_phrase(stream, mention):
    """Size, texture, colour, noun (plural for a count above 1); some textures follow it ("star with dots")."""
    noun = stream.weighted(SHAPE_WORDS[mention.shape] if mention.shape else GENERIC_WORDS)
    noun = plural(noun) if mention.count > 1 else noun
    before, after = [], []
    if mention.size:
        before.append(stream.weighted(SIZE_WORDS[mention.size]))
    if mention.texture:
        words = stream.weighted(TEXTURE_WORDS[mention.texture])
        (after if words.startswith("with") else before).append(words)
    if mention.colour:
        before.append(stream.weighted(COLOUR_WORDS[mention.colour]))
    return " ".join([*before, noun, *after])


def grammar_words():
    """Every word a caption can hold, sorted."""
    tables = (SHAPE_WORDS, COLOUR_WORDS, TEXTURE_WORDS, SIZE_WORDS, RELATION_WORDS, BACKGROUND_WORDS, NUMBER_WORDS)
    phrases = [phrase for table in tables for wordings in table.values() for phrase in wordings]
    nouns = [*GENERIC_WORDS, *(noun for wordings in SHAPE_WORDS.values() for noun in wordings)]
    phrases += [*nouns, *map(plural, nouns), "a an and with , is there we see picture of"]
    return sorted({word for phrase in phrases for word in phrase.split()})
