"""Constrained beam search: captions that say what they must, as a finite-state machine keeps count of it.

Every state of an image's machine has beams of its own, so that a likely caption without a constraint does not crowd out
one with it. A state that no caption reaches costs nothing, and every image starts from its own first words.

Shape letters: B images, K captions of an image that go on, V words, G positions of the longest caption.

Source: docs/reference.md, constrained captions; Anderson et al. (EMNLP 2017), arXiv 1612.00576.
"""

from typing import NamedTuple

import numpy as np
import paddle

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.models.decoding import best_words, check_decoding, log_softmax
from oscar_paddle.models.generation import Captions


class Beam(NamedTuple):
    """A caption so far.

    Attributes:
        state: of the machine. score: sum of its words' log-probabilities. ids: tuple of words, without [CLS].
        parent: number of the beam that it went on from, among those that went on then.
    """

    state: int
    score: float
    ids: tuple
    parent: int


class ImageSearch:
    """The beams of one image.

    Args:
        machine: Machine. num_beams: of each state. sep_id: id of [SEP], which ends a caption.
    Attributes:
        beams: list of Beam, by state, the best first.
    """

    def __init__(self, machine, num_beams, sep_id):
        self.machine, self.num_beams, self.sep_id = machine, num_beams, sep_id
        excluded = (words.ids for edges in machine.edges.values() for _, words in edges if words.all_but)
        self.candidates = num_beams + max(map(len, excluded))  # of the likeliest words, so many may be asked for
        self.beams = [Beam(0, 0.0, (), 0)]

    def ended(self, beam):
        return beam.ids[-1:] == (self.sep_id,)

    @property
    def open(self):
        """The beams that go on."""
        return [beam for beam in self.beams if not self.ended(beam)]

    def advance(self, log_probs):
        """Every beam by one word; ended ones get another [SEP], at no cost.

        Of equally likely captions the one whose beam stood earlier comes first, then that with the lower id.

        Args:
            log_probs: [K, V] float, of the words that follow each beam of `open`.
        """
        likeliest = best_words(log_probs, min(self.candidates, log_probs.shape[1])).tolist()
        pools, row = {}, 0
        for place, beam in enumerate(self.beams):
            ended = self.ended(beam)
            for target, words in self.machine.edges[beam.state]:
                if ended:
                    found = [self.sep_id] if self.sep_id in words else []
                elif words.all_but:
                    found = [word for word in likeliest[row] if word not in words.ids][: self.num_beams]
                else:
                    found = words.ids
                scores = [0.0] * len(found) if ended else log_probs[row, list(found)].tolist()
                pool = pools.setdefault(target, [])
                pool += [(-beam.score - score, place, word, row) for word, score in zip(found, scores, strict=True)]
            row += not ended
        self.beams = [
            Beam(state, -cost, (*self.beams[place].ids, word), parent)
            for state in sorted(pools)
            for cost, place, word, parent in sorted(pools[state])[: self.num_beams]
        ]

    def best(self, wanted):
        """The best caption that satisfies so many constraints, or all that the image has: (ids, score).

        Captions compete by their log-probability over their number of words, [SEP] counted as one even where there is
        none. Where no caption satisfies so many, because G is too short, it is as many as possible.
        """
        first = {}
        for beam in self.beams:
            first.setdefault(beam.state, beam)
        reached, number = [], min(wanted, self.machine.num_constraints)
        while not reached:  # state 0 is always reached, and enough for 0 constraints
            reached = [first[state] for state in self.machine.satisfying(number) if state in first]
            number -= 1
        best = max(reached, key=self._normalised)
        return best.ids, self._normalised(best)

    def _normalised(self, beam):
        return beam.score / (sum(word != self.sep_id for word in beam.ids) + 1)


def check_constrained(decoding):
    """ConfigError where constrained search does not know a setting of a Decoding, or gives no such captions."""
    for wrong, what in (
        (decoding.keep != 1, f"keep is {decoding.keep}, but it gives one caption an image"),
        (decoding.do_sample, "do_sample is on, but it draws nothing"),
        (decoding.repetition_penalty != 1, f"repetition_penalty is {decoding.repetition_penalty}, but it has none (1)"),
        (decoding.length_penalty != 1, f"length_penalty is {decoding.length_penalty}, but it has none (1)"),
    ):
        if wrong:
            raise ConfigError(f"constrained search: {what}")


def generate_constrained(writer, prefix, specials, decoding, machines, min_satisfied=2):
    """The best caption of each image that says what it must.

    Args:
        writer, prefix, specials: see `models.generation.generate`.
        decoding: Decoding; `num_beams` are those of every state of a machine. machines: list of B Machines.
        min_satisfied: constraints that a caption satisfies, where its image has so many.
    Returns:
        (ids [B, 1, G] int64, [CLS] first, [PAD] behind the end, which need not be [SEP]; scores [B, 1] float32,
        log-probability over words, see `ImageSearch.best`).
    Raises:
        ConfigError: the model cannot write so, or not with constraints.
    """
    check_decoding(decoding, writer.config)
    check_constrained(decoding)
    with paddle.no_grad():
        searches = constrained_search(Captions(writer, prefix, specials.mask), specials, decoding, machines)
    ids = np.full((len(searches), 1, decoding.max_length), specials.pad, np.int64)
    ids[:, :, 0] = specials.cls
    scores = np.zeros((len(searches), 1), np.float32)
    for row, search in enumerate(searches):
        words, scores[row] = search.best(min_satisfied)
        end = words.index(specials.sep) + 1 if specials.sep in words else len(words)
        ids[row, 0, 1 : end + 1] = words[:end]
    return ids, scores


def constrained_search(captions, specials, decoding, machines):
    """The searches of B images, at their ends: list of B ImageSearch.

    Args:
        captions: `models.generation.Captions` of these images, or whatever has its `images`, `advance` and `keep`.
        specials, decoding, machines: see `generate_constrained`.
    """
    searches = [ImageSearch(machine, decoding.num_beams, specials.sep) for machine in machines]
    ids, parents = np.full((len(machines), 1), specials.cls, np.int64), None
    for _ in range(decoding.max_length - 1):
        logits = np.asarray(captions.advance(ids, parents))
        for row, image in enumerate(captions.images):
            going_on = len(searches[image].open)
            searches[image].advance(log_softmax(logits[row, :going_on]))
        left = [place for place, image in enumerate(captions.images) if searches[image].open]
        if not left:
            break
        if len(left) < len(captions.images):
            captions.keep(np.array(left))
        ids, parents = _next_step([searches[image].open for image in captions.images], specials.pad)
    return searches


def _next_step(beams, pad_id):
    """Last words and parents, [B, K] int64 each, of the beams that go on; an image with fewer has [PAD] behind them."""
    ids = np.full((len(beams), max(map(len, beams))), pad_id, np.int64)
    parents = np.zeros_like(ids)
    for row, own in enumerate(beams):
        ids[row, : len(own)] = [beam.ids[-1] for beam in own]
        parents[row, : len(own)] = [beam.parent for beam in own]
    return ids, parents
