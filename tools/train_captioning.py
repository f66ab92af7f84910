#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for image captioning: by masked words, or self-critically (CAPTION.SCST)."""

import sys

from oscar_paddle.tools.shell.doors import train_door

if __name__ == "__main__":
    sys.exit(train_door(__doc__, "captioning"))
