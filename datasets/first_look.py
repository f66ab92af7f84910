"""What a run says about its data before the first step, a line a finding, from numbers that are at hand by then."""

import logging

import numpy as np

from oscar_paddle.datasets.regions.source import BOX_DIM, VISUAL_DIM

log = logging.getLogger(__name__)
MANY_UNKNOWN, MANY_CUT = 0.05, 0.01  # shares: of word pieces, of sentences
_IMAGES = 16  # looked at for their boxes


def look_at_texts(split, tables, unk_id, lengths, kept):
    """Warn of unknown word pieces and of sentences that are cut.

    Args:
        split: what is being read, for the message.
        tables: {"captions": TokenTable, "tags": TokenTable}; the first are the sentences.
        unk_id: id of [UNK].
        lengths, kept: [N] int, word pieces of the sentences before and after cutting.
    """
    found, cut = [], np.count_nonzero(kept < lengths)
    for name, table in tables.items():
        if (share := table.share_of(unk_id)) > MANY_UNKNOWN:
            found.append(
                f"{100 * share:.1f} % of the word pieces of the {name} are [UNK]; is this the right vocab.txt?"
            )
    if cut > MANY_CUT * len(lengths):
        found.append(f"{cut:,} of {len(lengths):,} {next(iter(tables))} are cut to fit INPUT.MAX_SEQ_LEN")
    if found:
        log.warning("%s: %s (tools/check_dataset.py tells more)", split, "; ".join(found))


def plain(text):
    """A text without what repeated sentences may differ in: case and spaces."""
    return " ".join(text.lower().split())


def look_at_boxes(split, regions, image_ids):
    """Warn if the six box values of a few images are no fractions of the picture."""
    for image_id in image_ids[:: -(-len(image_ids) // _IMAGES)] if regions.feature_dim == VISUAL_DIM + BOX_DIM else ():
        if (largest := regions[image_id][:, VISUAL_DIM:].max(initial=0)) > 2:
            where = f"{split}: {regions.path} image {image_id}: a box value is {largest:.4g}; pixels?"
            log.warning("%s Expected fractions of the picture (tools/check_dataset.py tells more)", where)
            return
