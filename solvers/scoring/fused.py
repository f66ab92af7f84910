"""Whether fused attention computes what the steps it stands for compute."""

import logging

import numpy as np
import paddle

from oscar_paddle.models.visibility import SEES, kinds_of_rows, score_bias, visible
from oscar_paddle.solvers.scoring.exported import last_line

log = logging.getLogger(__name__)

FUSED_AGREES = 2e-2  # largest difference of fused attention in half precision to float32, for values of variance 1


@paddle.no_grad()
def fused_attention_works(attention, precision):
    """Whether this GPU, driver and Paddle have it, and agree with the steps it stands for.

    The operator itself is compared, as a model's margins hardly show a mask that was dropped: for lengths that kernels
    like and others, every visibility, all queries and the first one, half of the keys behind the end of their rows.

    Args:
        attention: BertSelfAttention, of whose weights nothing is used. precision: "bfloat16", "float16" or "float32".
    """
    random, rows = np.random.default_rng(0), 4
    for longest in (8, 37, 93, 140):
        length = np.array([longest] + [longest // 2] * (rows - 1))
        caption, text = np.sort(random.integers(1, longest // 2, (2, rows)), axis=0)
        kinds = kinds_of_rows(caption, text, length, longest)
        shape = [rows, longest, attention.num_heads, attention.head_width]
        half = [paddle.to_tensor(random.standard_normal(shape), "float32").astype(precision) for _ in range(3)]
        for mask_type in SEES:
            bias = paddle.to_tensor(score_bias(visible(mask_type, kinds)))
            wanted = attention._attention(*(tensor.astype("float32") for tensor in half), bias).numpy()
            for count in (1, longest):
                try:
                    shown = bias[:, :, :count].astype(precision)
                    found = attention._fused_attention(half[0][:, :count], *half[1:], shown)
                    apart = np.abs(found.astype("float32").numpy() - wanted[:, :count])
                except Exception as error:  # whatever C++ raises becomes some Python type
                    log.info("no fused attention here: %s", last_line(error))
                    return False
                worst = apart[np.arange(count) < length[:, None]].max()
                if not worst <= FUSED_AGREES:
                    log.warning("no fused attention: it is off by %.2g (%s, %d positions)", worst, mask_type, longest)
                    return False
    return True
