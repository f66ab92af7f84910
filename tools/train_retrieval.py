#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for image-text retrieval."""

import sys

from oscar_paddle.tools.doors import train_door


def load_task():
    from oscar_paddle.solvers.tasks.retrieval import RetrievalTask

    return RetrievalTask


if __name__ == "__main__":
    sys.exit(train_door(__doc__, "retrieval", load_task))
