"""What GQA needs of a configuration."""

from oscar_paddle.config.checks import all_see_all, choices, folders

_CHOICES = {
    "DATASET.TRAIN": ("train",),
    "DATASET.DEV": ("val",),
    "DATASET.TEST": ("val", "test-dev", "test"),
    "DATASET.EVAL_DATA_TYPE": ("bal", "all"),
    "OPTIMIZATION.LOSS_TYPE": ("xe", "sfmx"),
}


def needs(cfg, action):
    """Rows for `config.checks.contradiction`; `action` is "train" or "eval"."""
    yield from folders(cfg, action, "the question files")
    yield from choices(cfg, action, "gqa", _CHOICES)
    yield all_see_all(cfg)
