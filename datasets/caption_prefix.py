"""What captions are written after: tags and regions of some images."""

from typing import NamedTuple

import numpy as np


class CaptionPrefix(NamedTuple):
    """What the captions of B images are written after, as NumPy arrays.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, tags and [SEP] of all images, row by row; nothing for an
            image without tags.
        text_length: [B] int64, how many of them each image has.
        img_feats: [Pu, D] float32, the regions of all images, row by row.
        num_regions: [B] int64.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    text_length: np.ndarray
    img_feats: np.ndarray
    num_regions: np.ndarray

    @property
    def caption_length(self):
        """[B] int64: no position is the caption's."""
        return np.zeros_like(self.text_length)

    def take_text(self, images):
        """The same with the text of these images [b] int; an image may come several times."""
        text = _positions(self.text_length, images)
        ids, types, places = (part[text] for part in self[:3])
        return self._replace(
            input_ids=ids, token_type_ids=types, position_ids=places, text_length=self.text_length[images]
        )

    def take(self, images):
        """The prefixes of these images [b] int; an image may come several times."""
        regions = _positions(self.num_regions, images)
        return self.take_text(images)._replace(img_feats=self.img_feats[regions], num_regions=self.num_regions[images])


def _positions(lengths, rows):
    """Where the elements of some rows stand, when those of all rows stand one after the other."""
    starts = np.cumsum(lengths) - lengths
    parts = [np.arange(starts[row], starts[row] + lengths[row]) for row in rows]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
