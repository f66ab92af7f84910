"""From padded rows to the packed layout of `models.bert`, in NumPy, before anything reaches the device.

Shape letters: B rows, T padded text, R padded regions, N longest row, U distinct images, P real positions of all rows.
In every row the real text and the real regions come before their padding.
"""

from typing import NamedTuple

import numpy as np

from oscar_paddle.models.bert import HIDDEN_BIAS


class PackedBatch(NamedTuple):
    """One batch without padding, as NumPy arrays; the inputs of `models.oscar.OscarModel`, in this order.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, the real text positions, row by row.
        img_feats: [Pu, 2054] float32, the real regions of the distinct images.
        order: [P] int32, for each packed position its row in concat(text [Pt], regions [Pu]): text first, then
            regions, for every row; rows that share an image point to the same regions.
        spread: [B, N] int32, packed position shown at each place of the padded layout (0 where there is none).
        collect: [P] int32, place in the flattened padded layout of each packed position.
        first: [B] int32, packed position of each row's [CLS].
        bias: [B, 1, 1, N] or [B, 1, N, N] float32, added to the attention scores.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    img_feats: np.ndarray
    order: np.ndarray
    spread: np.ndarray
    collect: np.ndarray
    first: np.ndarray
    bias: np.ndarray


class RowBatch(NamedTuple):
    """Pairs of (nearly) equal length, whose rows stay apart; the scorer's batches, as NumPy arrays.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, the real text positions, row by row.
        order: [B, N] int32, for each position of a row its place in concat(text [Pt], regions [Pu]); any place where
            the row has ended.
        bias: [B, 1, 1, N] or [B, 1, N, N] float32, added to the attention scores.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    order: np.ndarray
    bias: np.ndarray


def pack(input_ids, token_type_ids, attention_mask, img_feats, img_index=None):
    """Drop all padding from a batch of named arrays.

    Args:
        input_ids, token_type_ids: [B, T] int64.
        attention_mask: [B, T+R] or [B, T+R, T+R], 1 = visible. A position is real when it is visible at all (2-D)
            or sees itself (3-D).
        img_feats: [B, R, D] float32, or [U, R, D] distinct images together with `img_index`.
        img_index: [B] int, row of `img_feats` that each row uses; None means its own.
    Returns:
        PackedBatch.
    Source: exact, because regions carry no position (common_model.md section 4) and hidden keys get weight 0.
    """
    rows, text_width = input_ids.shape
    real = attention_mask if attention_mask.ndim == 2 else np.diagonal(attention_mask, axis1=1, axis2=2)
    text_length = real[:, :text_width].sum(axis=1)
    num_regions = real[:, text_width:].sum(axis=1)
    image = np.arange(rows) if img_index is None else np.asarray(img_index)

    image_regions = np.zeros(len(img_feats), dtype=np.int64)
    image_regions[image] = num_regions
    start = np.cumsum(image_regions) - image_regions
    flat = img_feats[np.arange(img_feats.shape[1]) < image_regions[:, None]]
    packed = pack_rows(input_ids, token_type_ids, text_length, num_regions, start[image], flat.astype(np.float32))
    if attention_mask.ndim == 2:
        return packed
    return packed._replace(bias=pair_bias(attention_mask, text_width, text_length, num_regions))


def pack_rows(input_ids, token_type_ids, text_length, num_regions, region_start, regions):
    """Pack rows whose regions already stand in one matrix, everything visible to everything (mask CLR).

    Args:
        input_ids, token_type_ids: [B, T] int.
        text_length, num_regions: [B] int, real positions of each row.
        region_start: [B] int, row of `regions` where the regions of each row's image begin.
        regions: [Pu, D], passed through as the field `img_feats`.
    """
    text_real = np.arange(input_ids.shape[1]) < text_length[:, None]
    text_total = int(text_length.sum())
    lengths = text_length + num_regions
    spread, collect, first = layout(lengths)

    column = np.arange(spread.shape[1])
    text_start = np.cumsum(text_length) - text_length
    from_text = text_start[:, None] + column
    from_image = (text_total + region_start - text_length)[:, None] + column
    source = np.where(column < text_length[:, None], from_text, from_image)
    return PackedBatch(
        input_ids=input_ids[text_real].astype(np.int64),
        token_type_ids=token_type_ids[text_real].astype(np.int64),
        position_ids=np.broadcast_to(np.arange(text_real.shape[1]), text_real.shape)[text_real],
        img_feats=regions,
        order=source.ravel()[collect].astype(np.int32),
        spread=spread,
        collect=collect,
        first=first,
        bias=length_bias(lengths, len(column)),
    )


def layout(lengths):
    """Index arrays between packed and padded positions.

    Args:
        lengths: [B] int, real positions of each row, each at least 1.
    Returns:
        spread [B, N] int32, collect [P] int32, first [B] int32 (see `PackedBatch`).
    """
    longest = np.arange(int(lengths.max()))
    inside = longest < lengths[:, None]
    first = np.cumsum(lengths) - lengths
    spread = np.where(inside, first[:, None] + longest, 0)
    return spread.astype(np.int32), np.flatnonzero(inside).astype(np.int32), first.astype(np.int32)


def length_bias(lengths, longest):
    """[B] lengths -> [B, 1, 1, N] float32: 0 for real keys, -10000 for padding."""
    inside = np.arange(longest) < lengths[:, None]
    return np.where(inside, np.float32(0), np.float32(HIDDEN_BIAS))[:, None, None, :]


def pair_bias(attention_mask, text_width, text_length, num_regions):
    """[B, T+R, T+R] mask (query, key) with T = text_width -> [B, 1, N, N] float32 bias of rows without padding."""
    longest = int((text_length + num_regions).max())
    bias = np.full((len(attention_mask), 1, longest, longest), HIDDEN_BIAS, dtype=np.float32)
    for row, mask in enumerate(attention_mask):
        places = np.r_[: text_length[row], text_width : text_width + num_regions[row]]
        bias[row, 0, : len(places), : len(places)] = (1.0 - mask[np.ix_(places, places)]) * HIDDEN_BIAS
    return bias
