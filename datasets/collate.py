"""Rows of text and the regions of their images to one batch of named arrays.

Shape letters: B rows, T longest text, R most regions, U distinct images.
"""

import numpy as np

from oscar_paddle.datasets.tensorize import attention_mask


def collate(text_rows, features, img_index, mask_type="CLR"):
    """A batch that `models.packing.pack` and the models take.

    Args:
        text_rows: what `TextBuilder.build_rows` returns: input_ids and token_type_ids [B, max_seq_len], caption_length
            and text_length [B].
        features: list of U arrays [R, 2054] float32, the regions of the distinct images.
        img_index: [B] int, which of them each row shows.
        mask_type: INPUT.ATT_MASK_TYPE.
    Returns:
        dict: input_ids [B, T] int64, token_type_ids [B, T] int64, attention_mask [B, T+R] or [B, T+R, T+R] int64,
        img_feats [U, R, 2054] float32, img_index [B] int64.
    """
    input_ids, token_type_ids, caption_length, text_length = text_rows
    counts = np.array([len(rows) for rows in features])
    img_feats = np.zeros((len(features), counts.max(), features[0].shape[1]), np.float32)
    for padded, rows in zip(img_feats, features, strict=True):
        padded[: len(rows)] = rows
    longest = int(text_length.max())
    return {
        "input_ids": input_ids[:, :longest],
        "token_type_ids": token_type_ids[:, :longest],
        "attention_mask": attention_mask(
            mask_type, caption_length, text_length, counts[img_index], longest, int(counts.max())
        ),
        "img_feats": img_feats,
        "img_index": img_index,
    }
