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
    parser.add_argument("--images", required=True, metavar="DIR", help="pictures, named by image id")
    parser.add_argument("--output", required=True, metavar="FILE", help="the page to write, such as report.html")
    parser.add_argument(
        "--features",
        metavar="FILE",
        default="",
        help="predictions.tsv, or the features.tsv beside it: the page can then show boxes and tags",
    )
    parser.add_argument("--run_folder", metavar="DIR", default="", help="folder of the training run, for its curves")
    parser.add_argument("--title", default="", help="heading of the page (default: names the data set and split)")
    add_facts(parser)
    parser.add_argument("--queries", type=int, default=12, help="queries of each kind (default: %(default)s)")
    parser.add_argument("--hardest", type=int, default=6, help="failed queries of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random draw of queries (default: %(default)s)")


def add_facts(parser):
    parser.add_argument(
        "--fact",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="something to say about the run, for example --fact 'Training time=5 minutes'; may be repeated",
    )


def read_facts(args):
    """[(name, text), ...] of the command line."""
    facts = [tuple(fact.split("=", 1)) for fact in args.fact]
    for fact in facts:
        if len(fact) != 2:
            raise ConfigError(f"--fact {fact[0]!r}: expected NAME=TEXT")
    return facts


def main(args):
    from oscar_paddle.tools.pages.report import write_report
    from oscar_paddle.tools.pages.report_data import RetrievalResults

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for name in ("queries", "hardest", "seed"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; expected 0 or more")
    path = write_report(
        args.eval_dir,
        args.images,
        args.output,
        features=args.features,
        run_folder=args.run_folder,
        title=args.title,
        facts=read_facts(args),
        num_queries=args.queries,
        num_hardest=args.hardest,
        seed=args.seed,
    )
    results = RetrievalResults(args.eval_dir)
    print(f"\n{recall_table(results.metrics, results.chance())}\n")
    print(f"{path.resolve()}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


def recall_table(metrics, chance):
    """Recalls of each direction in percent, above what a random order would reach."""
    names = {
        "i2t_retrieval": "text retrieval (a picture finds captions)",
        "t2i_retrieval": "image retrieval (a caption finds pictures)",
    }
    lines = [" " * 44 + "".join(f"{column:>9}" for column in chance["i2t_retrieval"])]
    for key, by_chance in chance.items():
        for label, recalls in ((names[key], metrics[key]), ("  by chance", by_chance)):
            lines.append(f"{label:44}" + "".join(f"{100 * recalls[column]:7.1f} %" for column in by_chance))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
