#!/usr/bin/env python
"""Score captions that need no model, to compare with: those of the nearest training picture, and the commonest one."""

import json
import sys
from pathlib import Path

from oscar_paddle.tools.shell.command_line import run_tool

EXAMPLE = "python tools/caption_baselines.py --cfg_file configs/captioning_test.yaml --output baselines.json"


def add_arguments(parser):
    what = "JSON to write, for --baselines of tools/report_captions.py (default: printed only)"
    parser.add_argument("--output", metavar="FILE", default="", help=what)


def main(cfg, args):
    from oscar_paddle.datasets.caption_dataset import build_caption_data
    from oscar_paddle.datasets.captions.baselines import baseline_captions
    from oscar_paddle.datasets.formats.whole_files import whole_file
    from oscar_paddle.datasets.tokenization import build_tokenizer
    from oscar_paddle.solvers.metrics.captioning import caption_metrics

    tokenizer = build_tokenizer(cfg.PRETRAINED.DIR or cfg.EVAL.CHECKPOINT_DIR, cfg.INPUT.DO_LOWER_CASE)
    train = build_caption_data(cfg, tokenizer, cfg.DATASET.TRAIN, training=True)
    test = build_caption_data(cfg, tokenizer, cfg.DATASET.TEST)
    scores = {}
    for name, captions in baseline_captions(train, test).items():
        own = {image: captions[image] for image in test.references}
        scores[name] = caption_metrics(own, test.references)[0]
        print(f"{name:20}" + ", ".join(f"{metric} {100 * value:.1f}" for metric, value in scores[name].items()))
    if args.output:
        with whole_file(Path(args.output)) as temporary:
            temporary.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task=None, example=EXAMPLE, extra=add_arguments))
