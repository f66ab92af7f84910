#!/usr/bin/env python
"""Evaluate a checkpoint on statements about two images (NLVR2): accuracy and consistency."""

import sys

from oscar_paddle.tools.doors import eval_door


def load_task():
    from oscar_paddle.solvers.tasks.nlvr2 import Nlvr2Task

    return Nlvr2Task


if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "nlvr2", load_task, ["--opts DATASET.TEST val"]))
