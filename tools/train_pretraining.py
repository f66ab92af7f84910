#!/usr/bin/env python
"""Pre-train Oscar on a corpus of captions, tags and regions: masked words, and whether texts and image fit."""

import sys

from oscar_paddle.tools.shell.doors import train_door

if __name__ == "__main__":
    sys.exit(train_door(__doc__, "pretraining"))
