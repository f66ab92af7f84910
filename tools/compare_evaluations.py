#!/usr/bin/env python
"""Compare two ways to train by their retrieval evaluations, one for each seed: R@1 of both directions, means, and
whether the difference is more than its standard errors."""

import sys
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.formats.reading import read_json
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = "python tools/compare_evaluations.py --first run-1/eval run-2/eval --second other-1/eval other-2/eval"
DIRECTIONS = {"text retrieval": "i2t_retrieval", "image retrieval": "t2i_retrieval"}


def add_arguments(parser):
    for name in ("first", "second"):
        words = f"evaluation folders of the {name} way, a seed each"
        parser.add_argument(f"--{name}", nargs="+", required=True, metavar="DIR", help=words)


def main(args):
    if min(len(args.first), len(args.second)) < 2:
        raise ConfigError("--first, --second: at least two folders each, or there is no standard error")
    for words, key in DIRECTIONS.items():
        ways = [np.array([recall(folder, key) for folder in folders]) for folders in (args.first, args.second)]
        difference = ways[0].mean() - ways[1].mean()
        error = np.sqrt(sum(way.var(ddof=1) / len(way) for way in ways))
        shown = [f"{way.mean():.1f} % ({', '.join(f'{value:.1f}' for value in way)})" for way in ways]
        times = f"{difference / error:.1f} standard errors" if error else "no spread"
        print(f"{words} R@1: {shown[0]} against {shown[1]}: {difference:+.1f} points, {times}")


def recall(folder, key):
    """R@1 of an evaluation folder, in percent."""
    path = Path(folder) / "metrics.json"
    try:
        return 100 * float(read_json(path)[key]["R@1"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: no R@1 of {key}; expected the metrics of tools/eval_retrieval.py") from None


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
