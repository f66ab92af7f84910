#!/usr/bin/env python
"""Score captions for one picture: the probability that each describes it, from the picture's region features.

The features are a .npz file with these arrays:
  features          [regions, 2054], or [regions, 2048] together with
  boxes             [regions, 4], x1, y1, x2, y2 in pixels, and
  image_w, image_h  size of the picture in pixels
  tags              the regions' object tags: a list of text, or one text
"""

import json
import logging
import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/score_pairs.py --checkpoint exp/retrieval_train/best --features dog.npz \\
      --caption "A dog catches a frisbee." --caption "Two cats asleep on a sofa."
"""


def add_arguments(parser):
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="checkpoint folder of a retrieval model")
    parser.add_argument("--features", required=True, metavar="FILE", help="the picture's .npz file, see above")
    several = "a caption; may be given several times"
    parser.add_argument("--caption", required=True, action="append", metavar="TEXT", help=several)
    parser.add_argument("--json", action="store_true", help="print a JSON object, margins and probabilities in full")
    parser.add_argument("--no_tags", action="store_true", help="leave the object tags out")
    as_trained = "(default: as the checkpoint was trained)"
    parser.add_argument("--max_seq_len", type=int, metavar="N", help=f"text positions {as_trained}")
    parser.add_argument("--max_region", type=int, metavar="N", help=f"regions {as_trained}")


def main(args):
    for flag, value, least in (("--max_seq_len", args.max_seq_len, 3), ("--max_region", args.max_region, 1)):
        if value is not None and value < least:
            raise ConfigError(f"{flag} is {value}; expected at least {least}")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    prepare(exact=True)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.solvers.search.score import ImageScorer

    add_tags = False if args.no_tags else None
    scorer = ImageScorer(args.checkpoint, max_seq_len=args.max_seq_len, max_region=args.max_region, add_tags=add_tags)
    scores = scorer.score(args.features, args.caption)
    if args.json:
        found = {"checkpoint": args.checkpoint, "features": args.features, "scores": [s._asdict() for s in scores]}
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return
    print("probability    margin  caption")
    for found in scores:
        print(f"{found.probability:11.4f}  {found.margin:+8.3f}  {found.caption}")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
