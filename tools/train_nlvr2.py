#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for statements about two images (NLVR2)."""

import sys

from oscar_paddle.tools.doors import train_door


def load_task():
    from oscar_paddle.solvers.tasks.nlvr2 import Nlvr2Task

    return Nlvr2Task


if __name__ == "__main__":
    sys.exit(train_door(__doc__, "nlvr2", load_task))
