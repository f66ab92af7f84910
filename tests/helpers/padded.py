"""The padded arrays of the reference implementation, made from our batches without padding: for comparisons only."""

import numpy as np

from oscar_paddle.models.visibility import KINDS, visible


def padded(batch, mask_type, max_text, max_region):
    """What the reference feeds its model.

    Args:
        batch: dict, see `datasets.collate.collate`.
        mask_type: INPUT.ATT_MASK_TYPE. max_text, max_region: T and R of the padded rows.
    Returns:
        dict: input_ids, token_type_ids [B, T] int64; attention_mask [B, T+R] or [B, T+R, T+R] int64 (query, key);
        img_feats [B, R, D] float32.
    """
    text_length, num_regions = batch["text_length"][:, None], batch["num_regions"][:, None]
    text, region = np.arange(max_text), np.arange(max_region)
    rows = {name: np.zeros((len(text_length), max_text), np.int64) for name in ("input_ids", "token_type_ids")}
    for name, array in rows.items():
        array[text < text_length] = batch[name]
    features = np.zeros((len(text_length), max_region, batch["img_feats"].shape[1]), np.float32)
    shown = region < num_regions
    features[shown] = batch["img_feats"][(batch["region_start"][:, None] + region)[shown]]
    kind = np.full((len(text_length), max_text + max_region), KINDS.index("padding"))
    kind[:, :max_text][text < text_length] = KINDS.index("tags")
    kind[:, :max_text][text < batch["caption_length"][:, None]] = KINDS.index("caption")
    kind[:, max_text:][shown] = KINDS.index("regions")
    return {**rows, "attention_mask": visible(mask_type, kind).astype(np.int64), "img_feats": features}
