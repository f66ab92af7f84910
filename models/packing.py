"""From the rows of a batch to the tensors of `models.bert`, in NumPy, before anything reaches the device.

Shape letters: B rows, N longest row, Pt text positions of all rows, Pu regions of the distinct images, P positions of
all rows, D values of a region.
"""

from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.visibility import kinds_of_rows, score_bias, visible

# Ids of a position -> the key of config.json with the size of their embedding table.
_TABLES = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size", "position_ids": "max_position_embeddings"}


class PackedBatch(NamedTuple):
    """One batch without padding, as NumPy arrays; the inputs of `models.oscar.OscarModel`, in this order.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, the text positions, row by row.
        img_feats: [Pu, D] float32, the regions of the distinct images.
        order: [P] int32, for each packed position its row in concat(text [Pt], regions [Pu]): text first, then
            regions, for every row; rows that share an image point to the same regions.
        spread: [B, N] int32, packed position shown at each place of the padded layout; any, and not always the same,
            where there is none: a GPU adds up the gradients of equal ones one after the other.
        collect: [P] int32, place in the flattened padded layout of each packed position.
        first: [B] int32, packed position of each row's [CLS].
        text: [Pt] int32, packed position of each text position.
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
    text: np.ndarray
    bias: np.ndarray


class RowBatch(NamedTuple):
    """Rows of (nearly) equal length, which stay apart; the scorers' batches, as NumPy arrays.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, the text positions, row by row.
        order: [B, N] int32, for each position of a row its place in concat(text [Pt], regions [Pu]); any place where
            the row has ended.
        bias: [B, 1, 1, N] or [B, 1, N, N] float32, added to the attention scores.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    order: np.ndarray
    bias: np.ndarray


class SomePositions(NamedTuple):
    """Positions that alone are asked of the last layer, as NumPy arrays; see `models.bert.Some`."""

    positions: np.ndarray
    spread: np.ndarray
    collect: np.ndarray


def with_first(packed, places):
    """[CLS] of every row, and these text positions.

    Args:
        packed: PackedBatch of B rows. places: [M] int64, rising, places among its text positions.
    Returns:
        SomePositions: the [CLS] of the B rows, then the M positions.
    """
    rows = len(packed.first)
    row = np.searchsorted(packed.first, further := packed.text[places], side="right") - 1
    count = np.bincount(row, minlength=rows)
    column = np.concatenate([np.zeros(rows, int), 1 + np.arange(len(row)) - (np.cumsum(count) - count)[row]])
    spread = np.zeros((rows, 1 + count.max()), np.int32)
    everything = np.concatenate([np.arange(rows), row])
    spread[everything, column] = np.arange(rows + len(row))
    collect = everything * spread.shape[1] + column
    return SomePositions(np.concatenate([packed.first, further]).astype(np.int32), spread, collect.astype(np.int32))


def pack(batch, mask_type="CLR"):
    """A batch as one matrix of positions.

    Args:
        batch: dict of named arrays, see `datasets.collate.collate`.
        mask_type: INPUT.ATT_MASK_TYPE, or "S2S".
    Returns:
        PackedBatch.
    Source: docs/reference.md, encoder: exact, as regions carry no position and hidden keys get weight 0.
    """
    lengths = batch["text_length"] + batch["num_regions"]
    order = _order(batch["text_length"], batch["region_start"], lengths)
    inside = np.arange(order.shape[1]) < lengths[:, None]
    first = np.cumsum(lengths) - lengths
    spread = first[:, None] + np.arange(order.shape[1])
    spread[~inside] = np.arange(np.count_nonzero(~inside)) % lengths.sum()
    order = order[inside]
    return PackedBatch(
        input_ids=batch["input_ids"],
        token_type_ids=batch["token_type_ids"],
        position_ids=batch["position_ids"],
        img_feats=batch["img_feats"],
        order=order,
        spread=spread.astype(np.int32),
        collect=np.flatnonzero(inside).astype(np.int32),
        first=first.astype(np.int32),
        text=np.flatnonzero(order < len(batch["input_ids"])).astype(np.int32),
        bias=_bias(mask_type, batch["caption_length"], batch["text_length"], lengths),
    )


def check_ids(text, config, where):
    """Refuse ids without a row in the embedding tables: the CPU reads beyond a table without a word.

    Args:
        text: dict with input_ids, token_type_ids, position_ids [Pt] and text_length [B], as of TextRows.
        config: BertConfig. where: function of a row's number -> what it is, for the message.
    Raises:
        DataError: names the row, the id and the table's size.
    """
    for field, key in _TABLES.items():
        ids, size = text[field], getattr(config, key)
        outside = (ids < 0) | (ids >= size)
        if outside.any():
            place = int(outside.argmax())
            row = int(np.searchsorted(np.cumsum(text["text_length"]), place, side="right"))
            raise DataError(
                f"{where(row)}: {field} hold {ids[place]}, but the model's table has {size} rows ({key} in "
                "config.json): use the vocab.txt and the INPUT.MAX_SEQ_LEN that belong to the weights"
            )


def row_batch(text, num_regions, region_start, mask_type="CLR"):
    """Rows of nearly one length as they are.

    Args:
        text: `datasets.tensorize.TextRows` of B rows.
        num_regions, region_start: [B] int, regions of each row and where they begin among the embedded ones.
        mask_type: as for `pack`.
    Returns:
        RowBatch.
    """
    lengths = text.text_length + num_regions
    order = _order(text.text_length, region_start, lengths)
    order[np.arange(order.shape[1]) >= lengths[:, None]] = 0
    bias = _bias(mask_type, text.caption_length, text.text_length, lengths)
    return RowBatch(text.input_ids, text.token_type_ids, text.position_ids, order, bias)


def _order(text_length, region_start, lengths):
    """[B, N] int32, place in concat(text [Pt], regions [Pu]) of each position; meaningless behind a row's end."""
    column = np.arange(lengths.max(), dtype=np.int32)
    text_start = np.cumsum(text_length) - text_length
    from_text = text_start.astype(np.int32)[:, None] + column
    from_image = (text_length.sum() + region_start - text_length).astype(np.int32)[:, None] + column
    return np.where(column < text_length[:, None], from_text, from_image)


def _bias(mask_type, caption_length, text_length, lengths):
    return score_bias(visible(mask_type, kinds_of_rows(caption_length, text_length, lengths, lengths.max())))
