#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for compositional question answering (GQA)."""

import sys

from oscar_paddle.tools.doors import train_door


def load_task():
    from oscar_paddle.solvers.tasks.gqa import GqaTask

    return GqaTask


if __name__ == "__main__":
    sys.exit(train_door(__doc__, "gqa", load_task))
