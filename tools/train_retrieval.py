#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for image-text retrieval."""

import sys

from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import run_tool

EXAMPLE = """\
  python tools/train_retrieval.py --cfg_file configs/retrieval_train.yaml
  python -m paddle.distributed.launch tools/train_retrieval.py --cfg_file configs/retrieval_train.yaml
  python tools/train_retrieval.py --cfg_file configs/retrieval_train.yaml --opts PRETRAINED.RESUME auto"""


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    from oscar_paddle.solvers.training import run_training  # Paddle loads here, after threads and maths path are chosen

    run_training(cfg, machine, build)


def build(cfg, ranks):
    from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data, build_training_data
    from oscar_paddle.solvers.build import load_tokenizer, model_for_training
    from oscar_paddle.solvers.tasks.retrieval import RetrievalTask

    tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
    data = build_training_data(cfg, tokenizer)
    evaluates = cfg.MONITOR.EVAL_FREQ or cfg.MONITOR.EVAL_STEPS
    dev = build_evaluation_data(cfg, tokenizer, cfg.DATASET.DEV) if evaluates else None
    model = model_for_training(cfg, tokenizer)
    return model, RetrievalTask(data, dev, cfg, ranks), tokenizer


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="train", example=EXAMPLE))
