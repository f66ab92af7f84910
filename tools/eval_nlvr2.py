#!/usr/bin/env python
"""Evaluate a checkpoint on statements about two images (NLVR2): accuracy and consistency."""

import sys

from oscar_paddle.tools.shell.doors import eval_door

if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "nlvr2", ["--opts DATASET.TEST val"]))
