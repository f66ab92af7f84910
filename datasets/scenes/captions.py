"""Captions of scenes: what is claimed (structured) and how it is worded (a grammar with synonyms).

A caption is partial: it mentions two or three of the three to five objects, most with some attributes left out, and
at times one relation, a count or the background. The claims are kept beside the words, so that an oracle (or a later
question) works on facts instead of parsing text. Every word has one meaning: nothing but the claims decides.
"""

import string
from collections import namedtuple
from dataclasses import replace

from oscar_paddle.datasets.scenes.world import GRAMMAR, RELATIONS, Mention, Stream


class Words(Stream):
    """Random choices of wordings, all of them from the grammar."""

    def noun_phrase(self, mention):
        """Size, texture, colour, noun (plural for a count above 1); some textures follow it ("star with dots")."""
        noun = self.weighted(GRAMMAR["shape"][mention.shape] if mention.shape else GRAMMAR["anything"])
        said = ((name, getattr(mention, name)) for name in ("size", "texture", "colour"))
        words = [self.weighted(GRAMMAR[name][value]) for name, value in said if value]
        words.append(plural(noun) if mention.count > 1 else noun)
        return " ".join(sorted(words, key=lambda word: word.startswith("with ")))

    def phrase(self, mention):
        """A description with its article or number: "a red star", "two red stars"."""
        words = self.noun_phrase(mention)
        if mention.count > 1:
            return f"{self.weighted(GRAMMAR['number'][mention.count])} {words}"
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def some(self, mentions):
        """One of the descriptions: "a red star"."""
        return self.phrase(self.choice(mentions))

    def the(self, mentions):
        """One of the descriptions: "the red star"."""
        return f"the {self.noun_phrase(self.choice(mentions))}"

    def several(self, mention):
        """A description in the plural: "red stars"."""
        return self.noun_phrase(replace(mention, count=2))

    def value(self, name, value):
        """A value as it follows "is": "red", "dotted", "a star"."""
        if name == "shape":
            return self.phrase(Mention(shape=value))
        return self.weighted({word: weight for word, weight in GRAMMAR[name][value].items() if " " not in word})

    def draw_relation(self, scene, i, j):
        """A relation in which object `i` stands to object `j`, or None; few pairs overlap: that is said more often."""
        holding = [name for name in RELATIONS if scene.holds(name, i, j)]
        hiding = [name for name in holding if name in ("front", "behind")]
        return self.choice(hiding if hiding and self.chance(0.6) else holding) if holding else None


# A sentence and its claims. `relations` are (relation, mention index, mention index); `background` or None.
Caption = namedtuple("Caption", "text mentions relations background")


def write_captions(scene, seed):
    """Five `Caption`s of a scene of the data set `seed`: different texts, each true of it."""
    stream = Words(seed, scene.image_id, "captions")
    captions = {}
    while len(captions) < 5:
        caption = _write_caption(stream, scene)
        captions.setdefault(caption.text, caption)
    return list(captions.values())


def _write_caption(stream, scene):
    background = scene.background if stream.chance(0.25) else None
    chosen = stream.sample(range(len(scene.objects)), 3 if stream.chance(0.35) else 2)
    if scene.overlaps and stream.chance(0.3):  # pairs that overlap are striking and chosen more often
        pair = stream.sample(stream.choice(scene.overlaps), 2)
        chosen = [*pair, *(i for i in chosen if i not in pair)][: len(chosen)]
    mentions = [Mention()]
    while not any(mention.colour for mention in mentions):  # "a ring and a star" alone would fit half the pictures
        mentions = [_describe(stream, scene.objects[i]) for i in chosen]
    if stream.chance(0.2):
        mentions = _with_count(scene, chosen, mentions)
    relations = ()
    if stream.chance(0.65) and mentions[0].count == mentions[1].count == 1:
        relation = stream.draw_relation(scene, *chosen[:2])
        relations = ((relation, 0, 1),) if relation else ()
    return Caption(_word(stream, mentions, relations, background), tuple(mentions), relations, background)


def _describe(stream, item):
    """A partial description of one object."""
    generic = stream.chance(0.1)
    colour = item.colour if generic or stream.chance(0.7) else None
    size = item.size if item.size != "medium" and stream.chance(0.35) else None
    texture = item.texture if stream.chance(0.12 if item.texture == "plain" else 0.4) else None
    return Mention(None if generic else item.shape, colour, size, texture)


def _with_count(scene, chosen, mentions):
    """Let a count replace the first mention ("two stars and a red heart"), if two or three objects share its shape
    (and perhaps its colour)."""
    item = scene.objects[chosen[0]]
    for colour in (item.colour, None):
        mention = Mention(shape=item.shape, colour=colour)
        alike = scene.count(mention)
        others = [m for i, m in zip(chosen, mentions, strict=True) if not mention.fits(scene.objects[i])]
        if alike in GRAMMAR["number"] and others:
            return [Mention(item.shape, colour, count=alike), *others]
    return mentions


def _word(stream, mentions, relations, background):
    phrases = [stream.phrase(mention) for mention in mentions]
    if relations:
        rel = stream.weighted(GRAMMAR["relation"][relations[0][0]])
        text = stream.weighted(GRAMMAR["link_frames"]).format(a=phrases[0], rel=rel, b=phrases[1])
        if len(phrases) == 3:
            text += f" and {phrases[2]}" if stream.chance(0.5) else f" , with {phrases[2]}"
    else:
        text = f"{' , '.join(phrases[:-1])} {stream.choice(('and', 'and', 'with'))} {phrases[-1]}"
        text = stream.weighted(GRAMMAR["list_frames"]).format(list=text)
    if background:
        place = stream.weighted(GRAMMAR["background"][background])
        text = f"{place} , {text}" if stream.chance(0.3) else f"{text} {place}"
    return text


def plural(noun):
    return GRAMMAR["plurals"].get(noun, noun + "s")


def vocabulary():
    """Special tokens, every word of captions and tags, and single characters with their `##` forms, so that a text
    outside the grammar still has pieces."""
    names = ("shape", "colour", "texture", "size", "relation", "background", "number", "scenery")
    phrases = [phrase for name in names for wordings in GRAMMAR[name].values() for phrase in wordings]
    nouns = [*GRAMMAR["anything"], *(noun for wordings in GRAMMAR["shape"].values() for noun in wordings)]
    phrases += [*nouns, *map(plural, nouns), "a an and with , is there we see picture of group"]
    words = sorted({word for phrase in phrases for word in phrase.split()})
    characters = string.ascii_lowercase + string.digits
    pieces = [*characters, *string.punctuation, *("##" + character for character in characters)]
    return list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *pieces]))
