#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for visual question answering (VQA v2)."""

import sys

from oscar_paddle.tools.doors import train_door


def load_task():
    from oscar_paddle.solvers.tasks.vqa import VqaTask

    return VqaTask


if __name__ == "__main__":
    sys.exit(train_door(__doc__, "vqa", load_task))
