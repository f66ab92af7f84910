"""From expressions and the regions of their images to the tensors of `models.vilbert`, in NumPy.

Shape letters: B expressions, L longest text, R most regions, Pt text positions of all expressions, Pu regions of the
distinct images, Pv regions of all expressions.
"""

from typing import NamedTuple

import numpy as np

from oscar_paddle.models.visibility import HIDDEN_BIAS


class StreamBatch(NamedTuple):
    """Expressions without padding, as NumPy arrays.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, expression by expression.
        img_feats, img_locs: [Pu, D] and [Pu, 5] float32, each distinct image once.
        order: [Pv] int32, for each region of each expression its row among the Pu.
        text_spread: [B, L] int32, text position shown at each place of the padded layout; any where there is none.
        text_collect: [Pt] int32, place of each text position in the flattened padded layout.
        text_bias: [B, 1, 1, L] float32, added to the scores of texts as keys.
        region_spread, region_collect, region_bias: the same of regions, [B, R], [Pv], [B, 1, 1, R].
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    img_feats: np.ndarray
    img_locs: np.ndarray
    order: np.ndarray
    text_spread: np.ndarray
    text_collect: np.ndarray
    text_bias: np.ndarray
    region_spread: np.ndarray
    region_collect: np.ndarray
    region_bias: np.ndarray


def pack_streams(batch):
    """A batch as two matrices of positions.

    Args:
        batch: dict of arrays: input_ids, token_type_ids, position_ids [Pt], text_length [B], img_feats [Pu, D],
            img_locs [Pu, 5], num_regions [B] and region_start [B] (where an expression's image begins among the Pu).
    Returns:
        StreamBatch.
    Source: docs/reference.md, ViLBERT model: exact, as hidden keys get weight 0 and hidden rows no loss.
    """
    num_regions = batch["num_regions"]
    inside = np.arange(num_regions.max()) < num_regions[:, None]
    order = batch["region_start"][:, None] + np.arange(inside.shape[1])
    return StreamBatch(
        *(batch[name] for name in ("input_ids", "token_type_ids", "position_ids", "img_feats", "img_locs")),
        order[inside].astype(np.int32),
        *_layout(batch["text_length"]),
        *_layout(num_regions),
    )


def _layout(lengths):
    """spread, collect and bias of rows of these lengths, see `StreamBatch`."""
    column = np.arange(lengths.max())
    inside = column < lengths[:, None]
    spread = (np.cumsum(lengths) - lengths)[:, None] + column
    spread[~inside] = np.arange(np.count_nonzero(~inside)) % lengths.sum()  # see `models.packing`
    bias = np.where(inside, 0, HIDDEN_BIAS).astype(np.float32)[:, None, None]
    return spread.astype(np.int32), np.flatnonzero(inside).astype(np.int32), bias
