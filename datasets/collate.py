"""Rows of text and the regions of their images to one batch of named arrays, without padding.

Shape letters: B rows, Pt text positions of all rows, U distinct images, Pu their regions, D values of a region.
"""

import numpy as np


def collate(text, features, img_index):
    """A batch that `models.packing.pack` takes.

    Args:
        text: `datasets.tensorize.TextRows` of B rows.
        features: list of U arrays [regions, D] float32, the regions of the distinct images.
        img_index: [B] int, which of them each row shows.
    Returns:
        dict: input_ids, token_type_ids, position_ids [Pt] int64; caption_length, text_length, num_regions,
        region_start [B] int64; img_feats [Pu, D] float32, of which row b shows those from region_start[b] on.
    """
    counts = np.array([len(rows) for rows in features])
    return {
        **text._asdict(),
        "num_regions": counts[img_index],
        "region_start": (np.cumsum(counts) - counts)[img_index],
        "img_feats": np.concatenate(features),
    }
