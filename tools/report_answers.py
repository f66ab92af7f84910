#!/usr/bin/env python
"""Write a page with the results of questions about pictures: picture, question, answer, prediction; one HTML file."""

import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.command_line import run_plain_tool

EXAMPLE = """\
  python tools/report_answers.py --eval_dir output/answers/best/eval --images data/val2014 \\
      --features data/model_0060000/predictions.tsv --run_folder output/answers --output answers.html"""


def add_arguments(parser):
    parser.add_argument("--eval_dir", required=True, metavar="DIR", help="folder that tools/eval_<task>.py wrote")
    parser.add_argument(
        "--images", required=True, metavar="DIR", help="pictures, named by image id, or as --data_dir says"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the page to write, such as report.html")
    parser.add_argument("--features", metavar="FILE", default="", help="predictions.tsv, for boxes and tags")
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        default="",
        help="DATASET.DATA_DIR, where it names the files of the pictures (your own images: see docs/own_images.md)",
    )
    parser.add_argument("--run_folder", metavar="DIR", default="", help="folder of the training run, for its curves")
    parser.add_argument(
        "--guessing",
        metavar="DIR",
        default="",
        help="folder of a scenes task (tools/make_scenes.py --tasks): shows what guessing reaches, by kind of question",
    )
    parser.add_argument("--title", default="Questions and answers", help="heading of the page (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=24, help="drawn at random (default: %(default)s)")
    parser.add_argument("--wrong", type=int, default=12, help="wrong answers (default: %(default)s)")


def main(args):
    from oscar_paddle.tools.pages.answers import write_answers

    for name in ("questions", "wrong"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; expected 0 or more")
    path = write_answers(
        args.eval_dir,
        args.images,
        args.output,
        features=args.features,
        run_folder=args.run_folder,
        data_dir=args.data_dir,
        guessing=args.guessing,
        title=args.title,
        num_random=args.questions,
        num_wrong=args.wrong,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
