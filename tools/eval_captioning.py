#!/usr/bin/env python
"""Write the captions of a split and score them: BLEU, ROUGE-L and CIDEr as the official toolkit gives them."""

import sys

from oscar_paddle.tools.shell.doors import eval_door

EXAMPLE = ["--opts CAPTION.NUM_BEAMS 1", "--opts EVAL.CHECKPOINT_DIR exp/captioning_train/best EVAL.PRECISION bfloat16"]

if __name__ == "__main__":
    sys.exit(eval_door(__doc__, "captioning", EXAMPLE))
