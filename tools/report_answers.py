#!/usr/bin/env python
"""Write a page with the results of questions about pictures: picture, question, answer, prediction; one HTML file."""

import sys

from oscar_paddle.tools.report_retrieval import add_page_arguments, page_arguments, say_page
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/report_answers.py --eval_dir output/answers/best/eval --images data/val2014 \\
      --features data/model_0060000/predictions.tsv --run_folder output/answers --output answers.html"""


def add_arguments(parser):
    add_page_arguments(parser, "tools/eval_<task>.py", "Questions and answers", "%(default)s")
    scenes = "folder of a scenes task (tools/make_scenes.py --tasks): shows what guessing reaches, by kind of question"
    parser.add_argument("--guessing", metavar="DIR", default="", help=scenes)
    parser.add_argument("--questions", type=int, default=24, help="drawn at random (default: %(default)s)")
    parser.add_argument("--wrong", type=int, default=12, help="wrong answers (default: %(default)s)")


def main(args):
    arguments = page_arguments(args, "questions", "wrong")
    from oscar_paddle.tools.pages.answers import Answers, read_guessing, score_rows, write_answers

    answers, guessing = Answers(args.eval_dir), read_guessing(args.guessing, args.eval_dir)
    path = write_answers(answers, **arguments, guessing=guessing, num_random=args.questions, num_wrong=args.wrong)
    say_page(path, score_table(score_rows(answers, guessing)))


def score_table(rows):
    """Scores in percent, over all and for each kind of question, beside what guessing reaches where that is known."""
    lines = [f"{'':24}{'model':>9}{'guessing':>12}{'questions':>12}"]
    for name, count, score, guess in rows:
        guessed = "" if guess is None else f"{100 * guess:.1f} %"
        lines.append(f"{name:24}{100 * score:7.1f} %{guessed:>12}{count:12,}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
