#!/usr/bin/env python
"""Write a page with the results of VQA, GQA or NLVR2: picture, question, answer and prediction, in one HTML file."""

import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.command_line import run_plain_tool
from oscar_paddle.tools.pages.answers_page import Answers, score_rows
from oscar_paddle.tools.pages.answers_report import question_file, read_guessing, write_answers
from oscar_paddle.tools.report_retrieval import add_facts, read_facts

EXAMPLE = """\
  python tools/report_answers.py --eval_dir quickstart/vqa_eval --images quickstart/scenes/images \\
      --features quickstart/scenes/model_0060000/predictions.tsv --run_folder quickstart/scenes_vqa_train \\
      --guessing quickstart/scenes/vqa --output vqa.html"""


def add_arguments(parser):
    parser.add_argument("--eval_dir", required=True, metavar="DIR", help="folder that tools/eval_<task>.py wrote")
    parser.add_argument("--images", required=True, metavar="DIR", help="pictures, named by image id")
    parser.add_argument("--output", required=True, metavar="FILE", help="the page to write, such as report.html")
    parser.add_argument("--features", metavar="FILE", default="", help="predictions.tsv, for boxes and tags")
    parser.add_argument("--run_folder", metavar="DIR", default="", help="folder of the training run, for its curves")
    parser.add_argument(
        "--guessing",
        metavar="DIR",
        default="",
        help="folder of a scenes task (tools/make_scenes.py --tasks): shows what guessing reaches, by kind of question",
    )
    parser.add_argument("--title", default="Questions and answers", help="heading of the page (default: %(default)s)")
    add_facts(parser)
    parser.add_argument("--questions", type=int, default=24, help="drawn at random (default: %(default)s)")
    parser.add_argument("--wrong", type=int, default=12, help="wrong answers (default: %(default)s)")


def main(args):
    for name in ("questions", "wrong"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; expected 0 or more")
    path = write_answers(
        args.eval_dir,
        args.images,
        args.output,
        args.features,
        args.run_folder,
        args.guessing,
        args.title,
        read_facts(args),
        num_random=args.questions,
        num_wrong=args.wrong,
    )
    guessing = read_guessing(args.guessing, question_file(args.eval_dir)) if args.guessing else None
    print(f"\n{score_table(score_rows(Answers(args.eval_dir), guessing))}\n")
    print(f"{path.resolve()}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


def score_table(rows):
    """Scores in percent, over all and for each kind of question, beside what guessing reaches where that is known."""
    lines = [f"{'':24}{'model':>9}{'guessing':>12}{'questions':>12}"]
    for name, count, score, guess in rows:
        guessed = "" if guess is None else f"{100 * guess:.1f} %"
        lines.append(f"{name:24}{100 * score:7.1f} %{guessed:>12}{count:12,}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
