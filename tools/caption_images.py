#!/usr/bin/env python
"""Write captions for your own pictures: all of a file or folder of region features, in any layout that is read.

--features takes features.tsv (with predictions.tsv), *.feature.tsv (with *.label.tsv), a YAML that names both, Oscar
v1's .pt, a folder of .npz or .npy, a packed store, or the .npz of a single picture (docs/own_images.md). The first
captions are shown, with their scores (mean log-probability of a word); captions.json and pred.*.tsv have all.
"""

import sys

from oscar_paddle.tools.shell.command_line import add_output_dir
from oscar_paddle.tools.shell.doors import eval_door

EXAMPLE = [
    "--features data/mine/features --opts EVAL.CHECKPOINT_DIR exp/captioning_scst/best",
    "--features data/mine/features/photo_17.npz --opts CAPTION.NUM_KEEP_BEST 3",
]


def add_arguments(parser):
    add_output_dir(parser)
    parser.add_argument("--features", required=True, metavar="PATH", help="regions of the pictures, see above")


if __name__ == "__main__":
    options = {"extra": add_arguments, "arguments": lambda args: {"features": args.features}, "tool": "caption_images"}
    sys.exit(eval_door(__doc__, "captioning", EXAMPLE, **options))
