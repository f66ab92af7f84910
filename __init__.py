"""oscar_paddle: Oscar and VinVL in PaddlePaddle.

This folder is the package: `pyproject.toml` installs it as `oscar_paddle`, with the folders beside this file as its
parts. Nothing is imported here until it is used, so `import oscar_paddle` is quick and loads neither Paddle nor
PaddleNLP.

    import oscar_paddle
    oscar_paddle.score("checkpoint", "image.npz", ["a dog catches a frisbee", "two cats asleep"])
    scorer = oscar_paddle.ImageScorer("checkpoint")  # read once, for many pictures
    model = oscar_paddle.load("checkpoint")  # the network itself
"""

import importlib

__version__ = "0.3.0"

_ERRORS = ("UserError", "ConfigError", "DataError", "WeightsError", "TrainingError")
_HOMES = {
    "score": "solvers.search.score",
    "ImageScorer": "solvers.search.score",
    "load": "solvers.build",
    **dict.fromkeys(_ERRORS, "config.errors"),
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _ERRORS:
        importlib.import_module("oscar_paddle.solvers.machine").load_paddle()
    return getattr(importlib.import_module(f"oscar_paddle.{_HOMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *_HOMES])
