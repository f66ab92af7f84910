#!/usr/bin/env python
"""Write a page with the results of an evaluation and pictures: one HTML file that opens anywhere, without a network."""

import logging
import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/report_retrieval.py --eval_dir quickstart/eval --images quickstart/scenes/images \\
      --features quickstart/scenes/model_0060000/predictions.tsv --run_folder quickstart/scenes_train \\
      --output report.html"""


def add_arguments(parser):
    add_page_arguments(parser, "tools/eval_retrieval.py", "", "names the data set and split")
    parser.add_argument("--queries", type=int, default=12, help="queries of each kind (default: %(default)s)")
    parser.add_argument("--hardest", type=int, default=6, help="failed queries of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random draw of queries (default: %(default)s)")


def add_page_arguments(parser, tool, title, title_words):
    """What the report of every evaluation, which `tool` wrote, is made from; title_words: how `--help` says `title`."""
    add = parser.add_argument
    add("--eval_dir", required=True, metavar="DIR", help=f"folder that {tool} wrote")
    add("--images", required=True, metavar="DIR", help="pictures, named by image id or as the data set names them")
    add("--output", required=True, metavar="FILE", help="the page to write, such as report.html")
    boxes = "predictions.tsv, the features.tsv beside it, or a folder of .npz: the page can then show boxes and tags"
    add("--features", metavar="PATH", default="", help=boxes)
    names = "DATASET.DATA_DIR, where it names the pictures and the evaluation folder does not (docs/own_images.md)"
    add("--data_dir", metavar="DIR", default="", help=names)
    add("--run_folder", metavar="DIR", default="", help="folder of the training run, for its curves")
    add("--title", default=title, help=f"heading of the page (default: {title_words})")
    facts = "something to say about the run, for example --fact 'Training time=5 minutes'; may be repeated"
    add("--fact", action="append", default=[], metavar="NAME=TEXT", help=facts)


def page_arguments(args, *counts):
    """Keyword arguments that both reports share; ConfigError for one of `counts` below 0, or a fact without a name."""
    for name in counts:
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; expected 0 or more")
    facts = [tuple(fact.split("=", 1)) for fact in args.fact]
    for fact in facts:
        if len(fact) != 2:
            raise ConfigError(f"--fact {fact[0]!r}: expected NAME=TEXT")
    names = ("images", "output", "features", "run_folder", "data_dir", "title")
    return {"facts": facts, **{name: getattr(args, name) for name in names}}


def main(args):
    arguments = page_arguments(args, "queries", "hardest", "seed")
    from oscar_paddle.tools.pages.retrieval import RetrievalResults, write_report

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    results = RetrievalResults(args.eval_dir)
    path = write_report(results, **arguments, num_queries=args.queries, num_hardest=args.hardest, seed=args.seed)
    say_page(path, recall_table(results.metrics, results.chance()))


def say_page(path, table):
    """Say what has been found and where the page is."""
    print(f"\n{table}\n\n{path.resolve()}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


def recall_table(metrics, chance):
    """Recalls of each direction in percent, above what a random order would reach."""
    names = {"i2t_retrieval": "text retrieval (a picture finds captions)"}
    names["t2i_retrieval"] = "image retrieval (a caption finds pictures)"
    lines = [" " * 44 + "".join(f"{column:>9}" for column in chance["i2t_retrieval"])]
    for key, by_chance in chance.items():
        for label, recalls in ((names[key], metrics[key]), ("  by chance", by_chance)):
            lines.append(f"{label:44}" + "".join(f"{100 * recalls[column]:7.1f} %" for column in by_chance))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
