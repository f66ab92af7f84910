"""oscar_paddle: Oscar and VinVL in PaddlePaddle.

This folder is the package: `pyproject.toml` installs it as `oscar_paddle`, with the folders beside this file as its
parts. Nothing is imported here until it is used, so `import oscar_paddle` is quick and loads neither Paddle nor
PaddleNLP.

    import oscar_paddle
    oscar_paddle.score("checkpoint", "image.npz", ["a dog catches a frisbee", "two cats asleep"])
"""

__all__ = ["score"]


def __getattr__(name):
    if name == "score":
        from oscar_paddle.solvers.search.score import score

        return score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
