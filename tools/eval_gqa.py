#!/usr/bin/env python
"""Evaluate a checkpoint on compositional question answering (GQA): accuracy, or the file for the evaluation server."""

import sys

from oscar_paddle.tools.doors import eval_door


def load_task():
    from oscar_paddle.solvers.tasks.gqa import GqaTask

    return GqaTask


if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "gqa", load_task, ["--opts DATASET.TEST test"]))
