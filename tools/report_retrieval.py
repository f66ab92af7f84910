#!/usr/bin/env python
"""Write a page with the results of an evaluation and pictures: one HTML file that opens anywhere, without a network."""

import logging
import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.command_line import run_plain_tool

EXAMPLE = """\
  python tools/report_retrieval.py --eval_dir quickstart/eval --images quickstart/scenes/images \\
      --features quickstart/scenes/model_0060000/predictions.tsv --run_folder quickstart/scenes_train \\
      --output report.html"""


def add_arguments(parser):
    parser.add_argument("--eval_dir", required=True, metavar="DIR", help="folder that tools/eval_retrieval.py wrote")
    parser.add_argument(
        "--images", required=True, metavar="DIR", help="pictures, named by image id, or as --data_dir says"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the page to write, such as report.html")
    parser.add_argument(
        "--features",
        metavar="FILE",
        default="",
        help="predictions.tsv, or the features.tsv beside it: the page can then show boxes and tags",
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        default="",
        help="DATASET.DATA_DIR, where it names the files of the pictures (your own images: see docs/own_images.md)",
    )
    parser.add_argument("--run_folder", metavar="DIR", default="", help="folder of the training run, for its curves")
    parser.add_argument("--title", default="", help="heading of the page (default: names the data set and split)")
    parser.add_argument(
        "--fact",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="something to say about the run, for example --fact 'Training time=5 minutes'; may be repeated",
    )
    parser.add_argument("--queries", type=int, default=12, help="queries of each kind (default: %(default)s)")
    parser.add_argument("--hardest", type=int, default=6, help="failed queries of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random draw of queries (default: %(default)s)")


def main(args):
    from oscar_paddle.tools.pages.retrieval import write_report

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for name in ("queries", "hardest", "seed"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; expected 0 or more")
    facts = [tuple(fact.split("=", 1)) for fact in args.fact]
    for fact in facts:
        if len(fact) != 2:
            raise ConfigError(f"--fact {fact[0]!r}: expected NAME=TEXT")
    path = write_report(
        args.eval_dir,
        args.images,
        args.output,
        features=args.features,
        run_folder=args.run_folder,
        data_dir=args.data_dir,
        title=args.title,
        facts=facts,
        num_queries=args.queries,
        num_hardest=args.hardest,
        seed=args.seed,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
