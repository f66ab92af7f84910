#!/usr/bin/env python
"""Evaluate a checkpoint on compositional question answering (GQA): accuracy, or the file for the evaluation server.

A run that was stopped goes on where it was when started again. Under paddle.distributed.launch the examples are divided
among the processes."""

import sys

from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import add_output_dir, run_tool

EXAMPLE = """\
  python tools/eval_gqa.py --cfg_file configs/gqa_test.yaml
  python tools/eval_gqa.py --cfg_file configs/gqa_test.yaml --opts DATASET.TEST test"""


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.solvers.scoring.example_evaluation import run_example_evaluation
    from oscar_paddle.solvers.tasks.gqa import GQA

    run_example_evaluation(cfg, machine, GQA, args.output_dir)


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="eval_gqa", example=EXAMPLE, extra=add_output_dir))
