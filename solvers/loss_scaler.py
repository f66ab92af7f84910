"""Dynamic loss scaling for float16."""


class LossScaler:
    """Keeps small float16 gradients from vanishing: the loss is multiplied by `scale` before the backward pass.

    After an overflow the update is skipped and the scale halved; after `growth_interval` good updates it doubles.
    Without float16 the scale stays 1 and nothing is ever skipped.

    Args:
        enabled: whether training runs in float16.
    Source: the usual scheme of mixed-precision training (Micikevicius et al., 2018).
    """

    growth_interval = 2000

    def __init__(self, enabled):
        self.enabled = enabled
        self.scale = 2.0**15 if enabled else 1.0
        self.good_updates = 0
        self.skipped_updates = 0

    @property
    def may_overflow(self):
        """Whether a non-finite gradient may come from the scale; at scale 1 it is the run's own."""
        return self.enabled and self.scale > 1.0

    def after_update(self, finite):
        """Adapt the scale to whether the gradients were finite."""
        if not self.enabled:
            return
        if not finite:
            self.scale = max(1.0, self.scale / 2)
            self.good_updates = 0
            self.skipped_updates += 1
            return
        self.good_updates += 1
        if self.good_updates == self.growth_interval:
            self.scale *= 2
            self.good_updates = 0

    def state(self):
        return {"scale": self.scale, "good_updates": self.good_updates, "skipped_updates": self.skipped_updates}

    def restore(self, state):
        self.scale, self.good_updates = state["scale"], state["good_updates"]
        self.skipped_updates = state["skipped_updates"]
