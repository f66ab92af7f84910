#!/usr/bin/env python
"""Write the captions of Karpathy's dataset_coco.json, dataset_flickr30k.json or a JSONL of your own in the published
layout: {split}_captions.pt, {split}_img_keys.tsv, and minival with 20 candidate captions for each of its images.

COCO's own captions_val2014.json and Flickr30k's results_20130124.token are read too; the latter does not say which
split its pictures are in: --split. A second file joins the first in the same folder, unless their image ids collide."""

import shlex
import sys

from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/prepare_captions.py --annotations dataset_flickr30k.json --output_dir data/flickr30k
  python tools/prepare_captions.py --annotations mine.jsonl --output_dir data/mine --feat_file data/mine/features
  python tools/prepare_captions.py --annotations results_20130124.token --split test --no_dev --output_dir data/fl"""


def add_arguments(parser):
    add = parser.add_argument
    add("--annotations", required=True, metavar="FILE", help="Karpathy's JSON, or JSONL with image, captions, split")
    add("--split", default="", metavar="NAME", help="split of the pictures for which the file names none")
    add("--output_dir", required=True, metavar="DIR", help="folder to write, the DATASET.DATA_DIR of later runs")
    add(
        "--feat_file",
        default="",
        metavar="PATH",
        help="region features whose tags tell which captions are hard; "
        "without: what DATASET.FEAT_FILE '' would find, or else the words of the captions",
    )
    add("--od_label_type", default="vg", help="tags of Oscar v1: {split}_xx_labels.pt (default: %(default)s)")
    add("--dev_split", default="val", help="split that minival's images are drawn from (default: %(default)s)")
    add("--dev_images", type=number, default=1000, help="how many; 0 = all of them (default: %(default)s)")
    add("--candidates", type=number, default=20, help="captions of each list (default: %(default)s)")
    add("--hard", type=number, default=15, help="wrong ones from the images most alike (default: %(default)s)")
    add("--seed", type=number, default=88, help="(default: %(default)s)")
    add("--no_dev", action="store_true", help="make no minival")
    add("--overwrite", action="store_true", help="replace files that are there already")


def number(text):
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def main(args):
    from oscar_paddle.datasets.captions.prepare import DEV, DevLists, prepare

    size, hard, seed = args.candidates, args.hard, args.seed
    dev = None if args.no_dev else DevLists(args.dev_split, args.dev_images, size=size, num_hard=hard, seed=seed)
    tags_from, typed = (args.feat_file, args.od_label_type), [word for word in sys.argv[1:] if word != "--overwrite"]
    command = "python tools/prepare_captions.py " + shlex.join(typed)
    splits, chosen_by = prepare(args.annotations, args.output_dir, dev, *tags_from, args.overwrite, args.split, command)
    for split, captions in splits.items():
        counts = [len(texts) for texts in captions.values()]
        print(f"{split}: {len(captions)} images, {sum(counts)} captions, {min(counts)} to {max(counts)} an image")
        if min(counts) < 5 and split != DEV:
            key = "INPUT.NUM_CAPTIONS_PER_IMAGE_" + ("TRN" if split == "train" else "DEV")
            print(
                f"  an image has only {min(counts)}: set {key} to {min(counts)} for this split, or to 0 for all of each"
            )
    if dev:
        print(f"{DEV}: {size} candidates an image, the hard ones by {chosen_by}")
    print(f"{args.output_dir}: ready as DATASET.DATA_DIR")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
