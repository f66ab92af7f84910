#!/usr/bin/env python
"""Evaluate a checkpoint on visual question answering (VQA v2): soft score, or the file for the evaluation server."""

import sys

from oscar_paddle.tools.shell.doors import eval_door

if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "vqa", ["--opts DATASET.TEST test2015"]))
