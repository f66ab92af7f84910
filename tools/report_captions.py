#!/usr/bin/env python
"""Write a page with generated captions: picture, boxes, captions, what people wrote, where it fails; one HTML file."""

import sys

from oscar_paddle.tools.report_retrieval import add_page_arguments, page_arguments, say_page
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/report_captions.py --eval_dir output/captioning/best/eval/test --images data/val2014 \\
      --features data/model_0060000/predictions.tsv --run_folder output/captioning --output captions.html"""


def add_arguments(parser):
    add_page_arguments(parser, "tools/eval_captioning.py", "Captions", "%(default)s")
    baselines = "what tools/caption_baselines.py wrote: scores that are reached without a model, to compare with"
    parser.add_argument("--baselines", metavar="FILE", default="", help=baselines)
    parser.add_argument("--pictures", type=int, default=24, help="drawn at random (default: %(default)s)")
    parser.add_argument("--worst", type=int, default=12, help="captions with the lowest CIDEr (default: %(default)s)")


def main(args):
    arguments = page_arguments(args, "pictures", "worst")
    from oscar_paddle.tools.pages.captions import Captions, read_baselines, score_rows, write_captions

    captions, baselines = Captions(args.eval_dir), read_baselines(args.baselines)
    counts = {"num_random": args.pictures, "num_worst": args.worst}
    path = write_captions(captions, **arguments, baselines=baselines, **counts)
    say_page(path, score_table(score_rows(captions.metrics, baselines), baselines))


def score_table(rows, baselines):
    """Scores times 100, beside those of the baselines."""
    lines = [f"{'':12}{'captions':>10}" + "".join(f"{name:>20}" for name in baselines)]
    for name, own, others in rows:
        cells = "".join(f"{100 * others[label]:20.1f}" if label in others else " " * 20 for label in baselines)
        lines.append(f"{name:12}{100 * own:10.1f}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
