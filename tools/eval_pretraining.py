#!/usr/bin/env python
"""Evaluate a pre-training checkpoint on a held-out corpus: both losses and accuracies, and matching R@1."""

import sys

from oscar_paddle.tools.shell.doors import eval_door

if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "pretraining", ["--opts CORPUS.MATCHING_CAPTIONS 0"]))
