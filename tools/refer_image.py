#!/usr/bin/env python
"""Point at what an expression means in one picture of a store: boxes and scores, and a page.

The picture goes by its image id in the proposals (DATASET.FEAT_FILE); the expression may be any text. Where a refs file
has the very expression about this picture, its true box is shown, too."""

import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.shell.command_line import run_tool

EXAMPLE = """\
  python tools/refer_image.py --cfg_file configs/refer_test.yaml --image 581857 --expression "the man in red left"
  python tools/refer_image.py --cfg_file configs/scenes_refer_test.yaml --image 3000000 \\
      --expression "the largest thing" "the star" --html found.html --images quickstart/scenes/images"""


def add_arguments(parser):
    add = parser.add_argument
    add("--image", required=True, metavar="ID", help="image id in the store of proposals")
    add("--expression", required=True, nargs="+", metavar="TEXT", help="what is looked for; each in quotes")
    add("--top", type=int, default=5, metavar="N", help="boxes that are printed (default: %(default)s)")
    add("--html", metavar="FILE", default="", help="also write a page with the boxes over the picture")
    add(
        "--images", metavar="DIR", default="", help="pictures for the page, named by image id or as instances.json says"
    )


def main(cfg, args):
    if args.top < 1:
        raise ConfigError(f"--top is {args.top}; expected at least 1")
    if not all(text.strip() for text in args.expression):
        raise ConfigError("--expression is empty; expected what is looked for")
    if args.images and not args.html:
        raise ConfigError("--images: the pictures are for the page; name it with --html FILE")
    prepare(cfg.MISC.NUM_THREADS, exact=True)
    from oscar_paddle.solvers.tasks.refer import answers_about  # Paddle loads here
    from oscar_paddle.tools.pages.pictures import open_pictures
    from oscar_paddle.tools.pages.refer import write_answer_page

    answers, place, name = answers_about(cfg, args.image, args.expression)
    for answer in answers:
        print(f"“{answer['expression']}” in image {args.image}")
        for number, (row, logit, box) in enumerate(answer["ranked"][: args.top], start=1):
            what = "whole picture" if row == 0 else f"region {row}"
            print(f"  {number}: {what:14} {logit:+.3f}  x1 y1 x2 y2 = {' '.join(f'{edge:.1f}' for edge in box)}")
        if answer["box"] is not None:
            told = " ".join(f"{edge:.1f}" for edge in answer["box"])
            print(f"  meant: {told}; overlap of the first (IoU) {answer['iou']:.2f}")
    if args.html:
        picture = None
        if args.images:
            key = answers[0]["image_id"]
            pictures = open_pictures(args.images)
            pictures.names = {key: name} if name else {}
            picture = pictures.thumbnail(key)
        page = write_answer_page(answers, place, picture, args.html, f"Image {args.image}")
        print(f"{page}: open it in a browser")


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="eval_refer", example=EXAMPLE, extra=add_arguments))
