#!/usr/bin/env python
"""Evaluate a checkpoint on statements about two images (NLVR2): accuracy and consistency.

A run that was stopped goes on where it was when started again. Under paddle.distributed.launch the examples are divided
among the processes."""

import sys

from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import add_output_dir, run_tool

EXAMPLE = """\
  python tools/eval_nlvr2.py --cfg_file configs/nlvr2_test.yaml
  python tools/eval_nlvr2.py --cfg_file configs/nlvr2_test.yaml --opts DATASET.TEST val"""


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.solvers.scoring.example_evaluation import run_example_evaluation
    from oscar_paddle.solvers.tasks.nlvr2 import nlvr2_kind

    run_example_evaluation(cfg, machine, nlvr2_kind(cfg.INPUT.USE_PAIR), args.output_dir)


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="eval_nlvr2", example=EXAMPLE, extra=add_output_dir))
