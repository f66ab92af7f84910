"""Captions that say what they must (NoCaps) as results, see `models.constrained`."""

import numpy as np

from oscar_paddle.models.constrained import check_constrained, generate_constrained
from oscar_paddle.solvers.scoring.captions import CaptionBackend


class ConstrainedBackend(CaptionBackend):
    """What `CaptionScorer` runs for constrained search.

    Args:
        writer, specials, decoding: see `CaptionBackend`; num_beams are those of every state of a machine.
        machines: list of Machine, one of each image of the data set.
        min_satisfied: constraints that a caption satisfies, where its image has so many.
    Raises:
        ConfigError: constrained search does not know a setting.
    """

    def __init__(self, writer, specials, decoding, *, machines, min_satisfied=2):
        check_constrained(decoding)
        super().__init__(writer, specials, decoding)
        self.machines, self.min_satisfied = machines, min_satisfied

    @property
    def written(self):
        return super().written * max(machine.num_reached for machine in self.machines)

    def captions(self, prefix, images):
        machines = [self.machines[image] for image in images]
        options = self.specials, self.decoding, machines, self.min_satisfied
        ids, scores = generate_constrained(self.writer, prefix, *options)
        return np.concatenate([ids, scores[:, :, None]], axis=2).astype(np.float32).reshape(len(ids), -1)
