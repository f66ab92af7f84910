#!/usr/bin/env python
"""Evaluate a checkpoint on image-text retrieval: R@1, R@5 and R@10 in both directions.

A run that was stopped goes on where it was when started again. Under paddle.distributed.launch the images are divided
among the processes."""

import functools
import logging
import sys
from pathlib import Path

from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import run_tool

EXAMPLE = """\
  python tools/eval_retrieval.py --cfg_file configs/retrieval_test.yaml
  python tools/eval_retrieval.py --cfg_file configs/retrieval_test.yaml --opts EVAL.CHECKPOINT_DIR exp/my_run/best
  python tools/eval_retrieval.py --cfg_file configs/retrieval_test_5k.yaml --eccv annotations/captions_val2014.json"""


def add_arguments(parser):
    parser.add_argument(
        "--output_dir",
        metavar="DIR",
        default="",
        help="where to write metrics.json, margins.npy and the rest (default: eval/ in the checkpoint folder)",
    )
    parser.add_argument(
        "--eccv",
        metavar="FILE",
        default="",
        help="also ECCV Caption, CxC and mAP@R on the 5,000 test images of COCO; FILE holds the annotation ids of the "
        "captions: captions_val2014.json of COCO, dataset_coco.json of Karpathy, or a JSON object "
        '{"image id": [annotation id, ...], ...} in the order of the captions',
    )


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.datasets.captions.annotation_ids import read_annotation_ids
    from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data
    from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation
    from oscar_paddle.solvers.ranks import Ranks, together
    from oscar_paddle.solvers.runtime import set_device, set_up_logging
    from oscar_paddle.solvers.scoring.evaluation import default_folder, evaluate, result_lines
    from oscar_paddle.solvers.scoring.exported import build_backend, planned_backend

    set_device(cfg)
    planned_backend(cfg.EVAL.BACKEND, cfg.EVAL.PRECISION)  # refuse now what this machine cannot do
    ranks = Ranks()
    set_up_logging(rank=ranks.rank, world_size=ranks.world_size)
    logging.getLogger(__name__).info(machine)

    def load():
        tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
        data = build_evaluation_data(cfg, tokenizer, cfg.DATASET.TEST)
        return tokenizer, data, read_annotation_ids(args.eccv, data) if args.eccv else None

    tokenizer, data, annotation_ids = together(ranks, load)

    model = functools.cache(lambda: together(ranks, lambda: model_for_evaluation(cfg, tokenizer)))

    def make_backend(weights, precision):
        programs = Path(cfg.EVAL.CHECKPOINT_DIR) / ".oscar_cache"
        return build_backend(model(), cfg.EVAL.BACKEND, precision, weights, programs, ranks)

    metrics = evaluate(cfg, data, args.output_dir or default_folder(cfg), ranks, make_backend, annotation_ids)
    if ranks.is_main:
        print("\n".join(result_lines(metrics)))


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="eval", example=EXAMPLE, extra=add_arguments))
