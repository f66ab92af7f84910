"""Constrained beam search: captions that say what they must, as a finite-state machine keeps count of it.

Every state of an image's machine has beams of its own, so that a likely caption without a constraint does not crowd out
one with it. A state that no caption reaches costs nothing.

Shape letters: B images, n beams that go on, V words, G positions of a caption.

Source: docs/reference.md, constrained captions; Anderson et al., "Guided Open Vocabulary Image Captioning with
Constrained Beam Search" (EMNLP 2017).
"""

from typing import NamedTuple


class Beam(NamedTuple):
    """A caption so far.

    Attributes:
        state: of the machine. score: sum of its tokens' log-probabilities. tokens: tuple of ids, without [CLS].
        row: row of the last step's model batch that it went on from.
    """

    state: int
    score: float
    tokens: tuple
    row: int


class ImageSearch:
    """The beams of one image.

    Args:
        machine: Machine. num_beams: of each state. sep_id: id of [SEP], which ends a caption.
    Attributes:
        beams: list of Beam, by state, the best first.
    """

    def __init__(self, machine, num_beams, sep_id):
        self.machine, self.num_beams, self.sep_id = machine, num_beams, sep_id
        self.beams = [Beam(0, 0.0, (), 0)]

    @property
    def open(self):
        """The beams that go on."""
        return [beam for beam in self.beams if beam.tokens[-1:] != (self.sep_id,)]

    @property
    def most_excluded(self):
        """How many of a row's likeliest tokens an edge may leave out."""
        return max(len(words.ids) for edges in self.machine.edges.values() for _, words in edges if words.all_but)

    @property
    def listed(self):
        """The ids that edges name."""
        found = (words.ids for edges in self.machine.edges.values() for _, words in edges if not words.all_but)
        return frozenset().union(*found)

    def advance(self, first_row, likeliest, log_prob):
        """Every beam by one token; ended ones stay as they are.

        Of equally likely captions the one whose beam stood earlier comes first, then that with the lower token.

        Args:
            first_row: row of the first of `open` in the model batch.
            likeliest: function of a row -> its likeliest (token, log-probability), at least num_beams + most_excluded.
            log_prob: function of a row and a token of `listed` -> its log-probability.
        """
        pools, row = {}, first_row
        for place, beam in enumerate(self.beams):
            ended = beam.tokens[-1:] == (self.sep_id,)
            for target, words in self.machine.edges[beam.state]:
                if ended:
                    found = [(self.sep_id, 0.0)] if self.sep_id in words else []
                elif words.all_but:
                    found = [entry for entry in likeliest(row) if entry[0] not in words.ids][: self.num_beams]
                else:
                    found = [(token, log_prob(row, token)) for token in words.ids]
                pool = pools.setdefault(target, [])
                pool += [(-(beam.score + value), place, token, row) for token, value in found]
            row += not ended
        beams = []
        for state in sorted(pools):
            for cost, place, token, row in sorted(pools[state])[: self.num_beams]:
                beams.append(Beam(state, -cost, (*self.beams[place].tokens, token), row))
        self.beams = beams

    def best(self, wanted):
        """(tokens, score) of the best caption that satisfies so many constraints, or all that the image has.

        Captions compete by their log-probability over their number of tokens, [SEP] and all behind it counted as one.
        Where none reached such a state, as many constraints as possible count instead.
        """
        first = {}
        for beam in self.beams:
            first.setdefault(beam.state, beam)
        for number in range(min(wanted, self.machine.num_constraints), -1, -1):
            reached = [first[state] for state in self.machine.satisfying(number) if state in first]
            if reached:
                best = max(reached, key=self._normalised)
                return best.tokens, self._normalised(best)
        raise AssertionError("state 0 is always reached, and satisfies 0 constraints")

    def _normalised(self, beam):
        return beam.score / (sum(token != self.sep_id for token in beam.tokens) + 1)
