"""What NLVR2 needs of a configuration."""

from oscar_paddle.config.checks import all_see_all, choices, folders

_CHOICES = {
    "DATASET.TRAIN": ("train",),
    "DATASET.DEV": ("val",),
    "DATASET.TEST": ("val", "test1", "val+test1"),
    "OPTIMIZATION.LOSS_TYPE": ("xe", "sfmx", "kl"),  # of one right class, kl is cross entropy
    "OUTPUT.NUM_LABELS": (2,),
}


def needs(cfg, action):
    """Rows for `config.checks.contradiction`; `action` is "train" or "eval"."""
    yield from folders(cfg, action, "the question files")
    yield from choices(cfg, action, "nlvr2", _CHOICES)
    yield all_see_all(cfg)
