#!/usr/bin/env python
"""Evaluate a checkpoint on image-text retrieval: R@1, R@5 and R@10 in both directions."""

import sys

from oscar_paddle.config.cli import run_tool
from oscar_paddle.config.machine import prepare

EXAMPLE = """\
  python tools/eval_retrieval.py --cfg_file configs/retrieval_test.yaml
  python tools/eval_retrieval.py --cfg_file configs/retrieval_test.yaml --opts EVAL.CHECKPOINT_DIR exp/my_run/best"""


def add_arguments(parser):
    parser.add_argument(
        "--output_dir", metavar="DIR", default="",
        help="where to write metrics.json, margins.npy and the rest (default: eval/ in the checkpoint folder)",
    )  # fmt: skip


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data
    from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation, set_device, set_up_logging
    from oscar_paddle.solvers.evaluation import default_folder, evaluate
    from oscar_paddle.solvers.ranks import Ranks
    from oscar_paddle.solvers.retrieval_task import recall_lines, score_split

    set_device(cfg)
    ranks = Ranks()
    set_up_logging(rank=ranks.rank, world_size=ranks.world_size)
    tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
    data = build_evaluation_data(cfg, tokenizer, cfg.DATASET.TEST)

    def score():
        return score_split(model_for_evaluation(cfg, tokenizer), data, cfg.EVAL.BATCH_TOKENS, ranks)

    metrics = evaluate(cfg, data, args.output_dir or default_folder(cfg), ranks, score)
    if ranks.is_main:
        print("\n".join(recall_lines(metrics)))


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="eval", example=EXAMPLE, extra=add_arguments))
