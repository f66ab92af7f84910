#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for compositional question answering (GQA)."""

import sys

from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import run_tool

EXAMPLE = """\
  python tools/train_gqa.py --cfg_file configs/gqa_train.yaml
  python -m paddle.distributed.launch tools/train_gqa.py --cfg_file configs/gqa_train.yaml
  python tools/train_gqa.py --cfg_file configs/gqa_train.yaml --opts PRETRAINED.RESUME auto"""


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.solvers.tasks.gqa import GQA
    from oscar_paddle.solvers.tasks.questions import build_example_training
    from oscar_paddle.solvers.training import run_training

    run_training(cfg, machine, lambda cfg, ranks: build_example_training(cfg, ranks, GQA))


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="train_gqa", example=EXAMPLE))
