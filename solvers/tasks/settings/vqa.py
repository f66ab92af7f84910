"""What VQA needs of a configuration."""

from oscar_paddle.config.checks import all_see_all, choices, folders

_CHOICES = {
    "DATASET.TRAIN": ("train", "train+val"),
    "DATASET.DEV": ("val",),
    "DATASET.TEST": ("val", "test2015", "test-dev2015"),
    "DATASET.DATA_LABEL_TYPE": ("mask", "all"),
}


def needs(cfg, action):
    """Rows for `config.checks.contradiction`; `action` is "train" or "eval"."""
    yield from folders(cfg, action, "the question files")
    yield from choices(cfg, action, "vqa", _CHOICES)
    yield all_see_all(cfg)
