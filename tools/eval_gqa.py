#!/usr/bin/env python
"""Evaluate a checkpoint on compositional question answering (GQA): accuracy, or the file for the evaluation server."""

import sys

from oscar_paddle.tools.shell.doors import eval_door

if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "gqa", ["--opts DATASET.TEST test"]))
