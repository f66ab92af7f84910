#!/usr/bin/env python
"""Look at photographs with a detector and write the region features that all tasks take.

A run that was stopped goes on where it was when started again with the same words. Under paddle.distributed.launch the
pictures are divided among the processes.
"""

import logging
import sys
from pathlib import Path

from oscar_paddle.tools.shell.command_line import run_tool

EXAMPLE = """\
python tools/extract_features.py --cfg_file configs/detector_x152c4.yaml --images photos --output_dir data/mine
python tools/extract_features.py --cfg_file configs/detector_x152c4.yaml --images val.img.tsv --output_dir data/val \\
    --layout vinvl captioning"""
LAYOUTS = ("store", "vinvl", "captioning", "bottom-up", "npz")


def add_arguments(parser):
    add = parser.add_argument
    what = "a folder, a list (.txt, a path a line), a .tsv of key and base64 image, or one picture"
    add("--images", required=True, metavar="PATH", help=what)
    add("--output_dir", required=True, metavar="DIR", help="where to write; what is done is kept there")
    layouts = (
        "what to write (default: store): packed file; VinVL's three files; the captioning pair; bottom-up's TSV; .npz"
    )
    add("--layout", nargs="+", choices=LAYOUTS, default=["store"], help=layouts)
    add("--name", default="images", help="of the files of captioning and bottom-up (default: %(default)s)")
    damaged = "a picture that cannot be read: stop, or skip it and name it in skipped.jsonl (default: %(default)s)"
    add("--damaged", choices=("stop", "skip"), default="stop", help=damaged)
    add("--exif", action="store_true", help="turn pictures as their EXIF data say (DETECTOR.UPRIGHT True)")


def main(cfg, args):
    from oscar_paddle.solvers.machine import prepare

    if args.exif:
        cfg = cfg.clone()
        cfg.DETECTOR.UPRIGHT = True
    machine = prepare(cfg.MISC.NUM_THREADS)
    from oscar_paddle.datasets.pictures import Pictures
    from oscar_paddle.solvers.detection import extract
    from oscar_paddle.solvers.ranks import Ranks
    from oscar_paddle.solvers.runtime import set_device, set_up_logging

    set_device(cfg)
    ranks = Ranks()
    set_up_logging(rank=ranks.rank, world_size=ranks.world_size)
    logging.getLogger(__name__).info(machine)
    pictures = Pictures(args.images, cfg.DETECTOR.UPRIGHT)
    options = {"layouts": args.layout, "skip_damaged": args.damaged == "skip", "name": args.name}
    paths = extract(cfg, pictures, Path(args.output_dir), ranks=ranks, **options)
    if ranks.is_main:
        print("\n".join(map(str, paths)))


def kept(args):
    return "what was looked at is kept; the same command goes on from there"


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task=None, example=EXAMPLE, extra=add_arguments, kept=kept))
