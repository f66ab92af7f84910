#!/usr/bin/env python
"""Score generated captions against people's: BLEU, ROUGE-L and CIDEr with the official toolkit's digits, without Java;
METEOR and SPICE through the toolkit. Or write the file for the servers of COCO and NoCaps.

Captions: [{"image_id", "caption"}], {image: caption}, the same as JSON lines (*.jsonl), or pred.*.tsv. References:
COCO's JSON or {image: [captions]}. Images are compared by the text of their ids."""

import json
import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/score_captions.py --captions pred.coco.test.beam5.max20.tsv --references test_caption_coco_format.json
  python tools/score_captions.py --captions captions.json --references refs.json --with METEOR --output scores.json
  python tools/score_captions.py --captions pred.tsv --submission nocaps --image_info nocaps_val_image_info.json \\
      --output submission.json"""


def add_arguments(parser):
    add = parser.add_argument
    add("--captions", required=True, metavar="FILE", help="generated captions, one an image (or the first of several)")
    add("--references", metavar="FILE", help="people's captions of the same images")
    add(
        "--with", dest="extra", nargs="+", default=[], choices=("METEOR", "SPICE"), help="scores that need Java as well"
    )
    add("--spice_jars", default="", metavar="DIR", help="folder with SPICE's two CoreNLP jars (default: the package's)")
    add("--output", metavar="FILE", help="JSON to write: scores of all and of each image, or the submission")
    add("--submission", choices=("coco", "nocaps"), help="write the file for this server, checked, to --output")
    add("--image_info", metavar="FILE", help="with --submission: JSON that lists the images of the split")


UNCHECKED = {"SPICE": "   (as its program says, not checked here)"}


def main(args):
    from oscar_paddle.datasets.captions.scored_files import read_generated

    if args.submission:
        submit(args, read_generated(args.captions))
    elif args.references:
        score(args, read_generated(args.captions))
    else:
        raise ConfigError("neither --references, to score, nor --submission, to write a file for a server")


def submit(args, captions):
    from oscar_paddle.datasets.captions.submission import write_submission

    if not args.image_info or not args.output:
        raise ConfigError("--submission needs --image_info, the list of the split's images, and --output")
    count = write_submission(args.output, captions, args.image_info, args.submission)
    print(f"{args.output}: captions of all {count:,} images, for the server of {args.submission}")


def score(args, captions):
    from oscar_paddle.datasets.captions.scored_files import read_references
    from oscar_paddle.datasets.formats.whole_files import whole_file
    from oscar_paddle.solvers.metrics.captioning import ONE_IMAGE, caption_metrics
    from oscar_paddle.solvers.metrics.toolkit import check_toolkit, toolkit_metrics

    check_toolkit(args.extra, args.spice_jars)
    references = read_references(args.references)
    scores, of_image = caption_metrics(captions, references)
    if args.extra:
        more, own = toolkit_metrics(captions, references, args.extra, args.spice_jars)
        scores |= more
        of_image = {image: found | own[image] for image, found in of_image.items()}
    for name, value in scores.items():
        print(f"{name:8}{100 * value:8.2f}{UNCHECKED.get(name, '')}")
    print(f"{len(captions):,} images, {sum(map(len, references.values())):,} references; as percentages")
    if len(captions) == 1:
        print(ONE_IMAGE)
    if args.output:
        with whole_file(args.output) as temporary:
            found = {"num_images": len(captions), "scores": scores, "images": of_image}
            temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
