#!/usr/bin/env python
"""Make the file of document frequencies that self-critical training rewards captions by, from one's own captions.

The captions are COCO's JSON ({"annotations": [{"image_id", "caption"}]}), a list of such entries, or {image:
[captions]}. They are counted as they are: words are what stands between white space, and <eos> ends each sentence."""

import sys

from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/caption_frequencies.py --captions data/mine/train_caption.json --output data/mine/my-words.p"""


def add_arguments(parser):
    add = parser.add_argument
    add("--captions", required=True, metavar="FILE", help="captions of the training images")
    add("--output", required=True, metavar="FILE", help="file to write; CAPTION.CIDER_FREQUENCIES names it")


def main(args):
    from oscar_paddle.datasets.captions.frequencies import write_frequencies
    from oscar_paddle.datasets.captions.scored_files import read_references
    from oscar_paddle.solvers.metrics.cider import word_frequencies

    frequencies = word_frequencies(read_references(args.captions).values())
    write_frequencies(args.output, frequencies)
    print(f"{args.output}: {len(frequencies.document_frequency):,} n-grams of {frequencies.num_images:,} images")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
