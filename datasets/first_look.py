"""What a run says about its data before the first step, a line a finding, from numbers that are at hand by then."""

import logging

import numpy as np

log = logging.getLogger(__name__)
MANY_UNKNOWN, MANY_CUT, MANY_REPEATED = 0.05, 0.01, 0.05  # shares: of word pieces, of sentences, of captions


def look_at_texts(split, tables, unk_id, lengths, kept, key="INPUT.MAX_SEQ_LEN"):
    """Warn of unknown word pieces and of sentences that are cut.

    Args:
        split: what is being read, for the message.
        tables: {"captions": TokenTable, "tags": TokenTable}; the first are the sentences.
        unk_id: id of [UNK].
        lengths, kept: [N] int, word pieces of the sentences before and after cutting.
        key: full name of the setting that cuts them.
    """
    found, cut = [], np.count_nonzero(kept < lengths)
    for name, table in tables.items():
        if (share := table.share_of(unk_id)) > MANY_UNKNOWN:
            found.append(
                f"{100 * share:.1f} % of the word pieces of the {name} are [UNK]; is this the right vocab.txt?"
            )
    if cut > MANY_CUT * len(lengths):
        found.append(f"{cut:,} of {len(lengths):,} {next(iter(tables))} are cut to fit {key}")
    if found:
        log.warning("%s: %s (tools/check_dataset.py tells more)", split, "; ".join(found))


def plain(text):
    """A text without what repeated sentences may differ in: case and spaces."""
    return " ".join(text.lower().split())
