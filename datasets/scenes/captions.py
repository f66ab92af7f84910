"""Captions of scenes: what is claimed (structured) and how it is worded (a grammar with synonyms).

A caption is partial: it mentions two or three of the three to five objects, most with some attributes left out, and
at times one relation, a count or the background. The claims are kept beside the words, so that an oracle (or a later
question) works on facts instead of parsing text. Every word has one meaning: nothing but the claims decides.
"""

from dataclasses import asdict, dataclass

from oscar_paddle.datasets.scenes.world import RELATIONS, Stream

CAPTIONS_PER_IMAGE = 5

# Meaning -> wordings with their weights; the first wording is the usual one.
SHAPE_WORDS = {
    "circle": {"circle": 3, "disc": 1},
    "square": {"square": 3, "block": 1},
    "triangle": {"triangle": 3, "wedge": 1},
    "star": {"star": 1},
    "ring": {"ring": 3, "hoop": 1},
    "cross": {"cross": 3, "plus": 1},
    "heart": {"heart": 1},
    "moon": {"moon": 3, "crescent": 1},
    "arrow": {"arrow": 1},
    "bolt": {"bolt": 1},
    "hourglass": {"hourglass": 1},
    "crown": {"crown": 1},
    "house": {"house": 3, "hut": 1},
    "tree": {"tree": 3, "fir": 1},
    "flower": {"flower": 3, "blossom": 1},
    "fish": {"fish": 1},
    "drop": {"drop": 1},
    "boat": {"boat": 3, "ship": 1},
    "mushroom": {"mushroom": 3, "toadstool": 1},
    "flag": {"flag": 1},
}
GENERIC_WORDS = {"shape": 2, "thing": 1, "object": 1}
COLOUR_WORDS = {
    "red": {"red": 4, "crimson": 1},
    "orange": {"orange": 1},
    "yellow": {"yellow": 4, "golden": 1},
    "green": {"green": 1},
    "blue": {"blue": 4, "azure": 1},
    "purple": {"purple": 4, "violet": 1},
    "pink": {"pink": 4, "rosy": 1},
    "brown": {"brown": 1},
    "black": {"black": 1},
    "white": {"white": 1},
}
TEXTURE_WORDS = {
    "plain": {"plain": 1},
    "striped": {"striped": 3, "with stripes": 1},
    "dotted": {"dotted": 2, "spotted": 1, "with dots": 1},
    "checkered": {"checkered": 3, "with checks": 1},
}
SIZE_WORDS = {"small": {"small": 3, "little": 1, "tiny": 1}, "large": {"large": 2, "big": 2, "huge": 1}}
RELATION_WORDS = {
    "left": {"left of": 1, "to the left of": 1},
    "right": {"right of": 1, "to the right of": 1},
    "above": {"above": 2, "higher than": 1},
    "below": {"below": 2, "under": 1},
    "front": {"in front of": 2, "partly hiding": 1},
    "behind": {"behind": 2, "partly hidden by": 1},
    "larger": {"larger than": 1, "bigger than": 1},
    "smaller": {"smaller than": 1},
}
BACKGROUND_WORDS = {
    "grass": {"on grass": 1, "on a lawn": 1},
    "sky": {"in the sky": 2, "among clouds": 1},
    "sand": {"on sand": 1, "on a beach": 1},
    "night": {"at night": 2, "in the dark": 1},
    "brick": {"on a brick wall": 2, "on bricks": 1},
    "wood": {"on wood": 1, "on a wooden floor": 1},
}
NUMBER_WORDS = {2: {"two": 2, "a pair of": 1}, 3: {"three": 1}}
PLURALS = {"cross": "crosses", "plus": "pluses", "hourglass": "hourglasses", "fish": "fish"}

LINK_FRAMES = {"{a} {rel} {b}": 3, "{a} is {rel} {b}": 2, "there is {a} {rel} {b}": 1, "we see {a} {rel} {b}": 1}
LIST_FRAMES = {"{list}": 3, "there is {list}": 1, "a picture of {list}": 1, "we see {list}": 1}


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
        pairs = ((self.shape, item.shape), (self.colour, item.colour), (self.size, item.size))
        return all(said in (None, is_) for said, is_ in (*pairs, (self.texture, item.texture)))


@dataclass(frozen=True)
class Caption:
    """A sentence and its claims. `relations` are (relation, mention index, mention index); `background` or None."""

    text: str
    mentions: tuple
    relations: tuple = ()
    background: str | None = None

    def as_dict(self):
        return asdict(self)


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
        holding = [name for name in RELATIONS if scene.holds(name, chosen[0], chosen[1])]
        if holding:
            rare = [name for name in holding if name in ("front", "behind")]
            relations = ((stream.choice(rare if rare and stream.chance(0.6) else holding), 0, 1),)
    text = _word(stream, mentions, relations, background)
    return Caption(text, tuple(mentions), relations, background)


def _choose_objects(stream, scene):
    """Two or three object indices; pairs that overlap are striking and chosen more often."""
    chosen = stream.sample(range(len(scene.objects)), 3 if stream.chance(0.35) else 2)
    if scene.overlaps and stream.chance(0.3):
        pair = stream.sample(stream.choice(scene.overlaps), 2)
        chosen = [*pair, *(i for i in chosen if i not in pair)][: len(chosen)]
    return chosen


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
    phrases = [_phrase(stream, mention) for mention in mentions]
    if relations:
        rel = stream.weighted(RELATION_WORDS[relations[0][0]])
        text = stream.weighted(LINK_FRAMES).format(a=phrases[0], rel=rel, b=phrases[1])
        if len(phrases) == 3:
            text += f" and {phrases[2]}" if stream.chance(0.5) else f" , with {phrases[2]}"
    else:
        link = stream.choice(("and", "and", "with"))
        text = f"{' , '.join(phrases[:-1])} {link} {phrases[-1]}"
        text = stream.weighted(LIST_FRAMES).format(list=text)
    if background:
        place = stream.weighted(BACKGROUND_WORDS[background])
        text = f"{place} , {text}" if stream.chance(0.3) else f"{text} {place}"
    return text


def _phrase(stream, mention):
    """A description with its article or number."""
    words = noun_phrase(stream, mention)
    if mention.count > 1:
        return f"{stream.weighted(NUMBER_WORDS[mention.count])} {words}"
    return with_article(words)


def with_article(words):
    """ "a star", "an orange star"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def noun_phrase(stream, mention):
    """Size, texture, colour, noun (plural for a count above 1); some textures follow it ("star with dots")."""
    noun = stream.weighted(SHAPE_WORDS[mention.shape] if mention.shape else GENERIC_WORDS)
    if mention.count > 1:
        noun = PLURALS.get(noun, noun + "s")
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
    phrases += [*GENERIC_WORDS, "a an and with , is there we see picture of"]
    words = {word for phrase in phrases for word in phrase.split()}
    nouns = [noun for wordings in SHAPE_WORDS.values() for noun in wordings] + list(GENERIC_WORDS)
    return sorted(words | {PLURALS.get(noun, noun + "s") for noun in nouns})
