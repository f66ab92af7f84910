#!/usr/bin/env python
"""Evaluate a checkpoint on referring expressions: accuracy at an IoU of 0.5, beside what the proposals allow."""

import sys

from oscar_paddle.tools.shell.doors import eval_door

if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "refer", ["--opts DATASET.TEST testA", "--opts REFER.CONTROL expressions"]))
