#!/usr/bin/env python
"""Fine-tune ViLBERT to find what an expression refers to (RefCOCO, RefCOCO+, RefCOCOg)."""

import sys

from oscar_paddle.tools.shell.doors import train_door

if __name__ == "__main__":
    sys.exit(train_door(__doc__, "refer"))
