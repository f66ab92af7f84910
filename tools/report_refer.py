#!/usr/bin/env python
"""Write a page with the results of referring expressions: pictures, proposals, chosen and true boxes; one HTML file."""

import sys

from oscar_paddle.tools.report_retrieval import add_page_arguments, page_arguments, say_page
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/report_refer.py --eval_dir quickstart/refer_eval --images quickstart/scenes/images \\
      --run_folder quickstart/scenes_refer_train --output refer.html"""


def add_arguments(parser):
    add_page_arguments(parser, "tools/eval_refer.py", "Referring expressions", "%(default)s")
    controls = "evaluations of the same split with REFER.CONTROL, shown beside it"
    parser.add_argument("--controls", nargs="*", metavar="EVAL_DIR", default=[], help=controls)
    parser.add_argument("--expressions", type=int, default=24, help="drawn at random (default: %(default)s)")
    parser.add_argument("--wrong", type=int, default=10, help="worst misses (default: %(default)s)")


def main(args):
    arguments = page_arguments(args, "expressions", "wrong")
    del arguments["features"]  # the evaluation has the boxes
    from oscar_paddle.tools.pages.refer import ReferResults, score_rows, write_refer_page

    results, controls = ReferResults(args.eval_dir), [ReferResults(folder) for folder in args.controls]
    counts = {"num_random": args.expressions, "num_wrong": args.wrong}
    path = write_refer_page(results, **arguments, controls=controls, **counts)
    say_page(path, score_table(score_rows(results.metrics, controls)))


def score_table(rows):
    """Accuracies in percent beside what the proposals allow."""
    lines = [f"{'':32}{'accuracy':>10}{'allowed':>12}{'expressions':>14}"]
    for name, count, score, most in rows:
        lines.append(f"{name:32}{100 * score:8.1f} %{100 * most:10.1f} %{count:14,}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
