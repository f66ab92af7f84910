#!/usr/bin/env python
"""Compare two ways to train by their evaluations, one for each seed: means, and how many standard errors lie between.

What is compared is R@1 of both directions of retrieval, or a metric of one's choice."""

import sys
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.formats.reading import read_json
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/compare_evaluations.py --first run-1/eval run-2/eval --second other-1/eval other-2/eval
python tools/compare_evaluations.py --first tuned-1/eval tuned-2/eval --second start/eval --metric CIDEr"""
RECALLS = {"text retrieval R@1": "i2t_retrieval.R@1", "image retrieval R@1": "t2i_retrieval.R@1"}


def add_arguments(parser):
    for name in ("first", "second"):
        words = f"evaluation folders of the {name} way, a seed each"
        parser.add_argument(f"--{name}", nargs="+", required=True, metavar="FOLDER", help=words)
    metric = "entry of metrics.json to compare, such as CIDEr or i2t_retrieval.R@5 (default: R@1 of both directions)"
    parser.add_argument("--metric", metavar="NAME", default="", help=metric)


def main(args):
    if len(args.first) < 2:
        raise ConfigError("--first: at least two folders, or there is no standard error (--second may have one)")
    for words, metric in ({args.metric: args.metric} if args.metric else RECALLS).items():
        ways = [np.array([value_of(folder, metric) for folder in folders]) for folders in (args.first, args.second)]
        difference = ways[0].mean() - ways[1].mean()
        error = np.sqrt(sum(way.var(ddof=1) / len(way) for way in ways if len(way) > 1))
        shown = [f"{way.mean():.1f} ({', '.join(f'{value:.1f}' for value in way)})" for way in ways]
        times = f"{difference / error:.1f} standard errors" if error else "no spread"
        print(f"{words}: {shown[0]} against {shown[1]}: {difference:+.1f} points, {times}")


def value_of(folder, metric):
    """A fraction of an evaluation folder's metrics.json, times 100."""
    path = Path(folder) / "metrics.json"
    value = read_json(path)
    try:
        for key in metric.split("."):
            value = value[key]
        return 100 * float(value)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: no {metric}; expected the metrics of the evaluation that has it") from None


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
