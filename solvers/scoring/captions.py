"""Captions of a split as rows of a matrix: their word ids, and how likely the model found them.

Shape letters: K images, n captions an image, G longest caption.
"""

import logging
import time

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.constrained import generate_constrained
from oscar_paddle.models.decoding import seeded_draws
from oscar_paddle.models.generation import CaptionPrefix, generate
from oscar_paddle.models.packing import check_ids
from oscar_paddle.solvers.scoring.rows import Block

log = logging.getLogger(__name__)

BLOCK_IMAGES = 64
BATCH_IMAGES = 8  # that are written for at once: memory is bounded by them, and their steps are one matrix product
PROBE_IMAGES = 2  # whose captions are timed for the forecast


def prefix_of(data, images, tag_room=None):
    """CaptionPrefix of images [B] int of a CaptionDataset; `tag_room` as of its `prefix`."""
    rows, features = data.prefix(images, tag_room)
    counts = np.array([len(regions) for regions in features], np.int64)
    return CaptionPrefix(
        rows.input_ids, rows.token_type_ids, rows.position_ids, rows.text_length, np.concatenate(features), counts
    )


def caption_blocks(num_images, columns):
    """All images as Blocks, whatever the number of ranks; each is a group of its own, see `score_blocks`."""
    starts = range(0, num_images, BLOCK_IMAGES)
    return [[Block(range(start, min(start + BLOCK_IMAGES, num_images)), range(columns))] for start in starts]


class CaptionScorer:
    """Writes the captions of a CaptionDataset's images; see `solvers.scoring.rows.BlockScorer` for what asks it.

    Args:
        backend: EagerWriter, or what else runs passes; with `name`.
        data: CaptionDataset. batch_tokens: not used: BATCH_IMAGES bounds a batch.
        decoding, specials: see `models.generation.generate`.
        tag_room: see `CaptionDataset.prefix`.
        constraints: Constraints, or None. min_constraints: see `generate_constrained`.
    """

    unit, layout = "captions", {"block_images": BLOCK_IMAGES}

    def __init__(
        self, backend, data, batch_tokens, *, decoding, specials, tag_room=None, constraints=None, min_constraints=2
    ):
        self.backend, self.data, self.batch_tokens = backend, data, batch_tokens
        self.decoding, self.specials, self.tag_room = decoding, specials, tag_room
        self.constraints, self.min_constraints = constraints, min_constraints

    @property
    def title(self):
        return f"captions of {self.data.num_images:,} images"

    def amount(self, block):
        return len(block.rows)

    def score(self, block, on_done=lambda units: None):
        """float32 [block.rows, n * (G + 1)]: of each caption its ids, then its score (see `models.decoding.search`).

        Raises:
            DataError: the model's scores are NaN, or ids are not in its tables.
        """
        parts = []
        for start in range(block.rows.start, block.rows.stop, BATCH_IMAGES):
            images = range(start, min(start + BATCH_IMAGES, block.rows.stop))
            parts.append(self.write(images))
            on_done(len(images))
        return np.concatenate(parts)

    def write(self, images):
        """The same of images (range)."""
        prefix = prefix_of(self.data, images, self.tag_room)
        check_ids(prefix._asdict(), self.backend.config, lambda row: f"image {self.data.image_keys[images[row]]}")
        options = self.backend, prefix, self.specials, self.decoding
        try:
            if self.constraints is not None:
                machines = [self.constraints.machine(self.data.image_keys[image]) for image in images]
                ids, scores = generate_constrained(*options, machines, self.min_constraints)
            else:
                ids, scores = generate(*options, self._draws(images))
        except DataError as error:
            names = ", ".join(self.data.image_keys[image] for image in images)
            raise DataError(f"images {names}: {error}") from None
        return np.concatenate([ids.astype(np.float32), scores[:, :, None]], axis=2).reshape(len(images), -1)

    def _draws(self, images):
        keep = self.decoding.keep
        return seeded_draws([(self.data.seed, image, number) for image in images for number in range(keep)])

    def speed(self, block):
        """Images a second, measured on the first few."""
        images = range(block.rows.start, min(block.rows.start + PROBE_IMAGES, block.rows.stop))
        self.write(images)  # the first run also prepares what the later ones use
        started = time.perf_counter()
        self.write(images)
        return len(images) / (time.perf_counter() - started)
