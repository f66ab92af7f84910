#!/usr/bin/env python
"""Evaluate a checkpoint on image-text retrieval: R@1, R@5 and R@10 in both directions."""

import sys

from oscar_paddle.tools.shell.command_line import add_output_dir
from oscar_paddle.tools.shell.doors import eval_door

EXAMPLES = ["--opts EVAL.CHECKPOINT_DIR exp/my_run/best", "--eccv annotations/captions_val2014.json"]


def add_arguments(parser):
    add_output_dir(parser)
    parser.add_argument(
        "--eccv",
        metavar="FILE",
        default="",
        help="also ECCV Caption, CxC and mAP@R on the 5,000 test images of COCO; FILE holds the annotation ids of the "
        "captions: captions_val2014.json of COCO, dataset_coco.json of Karpathy, or a JSON object "
        '{"image id": [annotation id, ...], ...} in the order of the captions',
    )


if __name__ == "__main__":
    sys.exit(
        eval_door(
            __doc__, "retrieval", EXAMPLES, extra=add_arguments, arguments=lambda args: {"annotations": args.eccv}
        )
    )
