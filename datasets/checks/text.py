"""Captions and tags as the model sees them: unknown word pieces, and what does not fit into INPUT.MAX_SEQ_LEN."""

from collections import Counter

import numpy as np
from tqdm import tqdm

from oscar_paddle.datasets.tensorize import TextBuilder

MANY_UNKNOWN = 0.05  # share of pieces from which the vocabulary is probably the wrong one
_SHOWN_WORDS = 8


class TextFigures:
    """Word pieces of many texts.

    Attributes:
        lengths: dict key -> list of lengths in word pieces, one for each text.
        pieces, unknown: int, word pieces in all and those that are [UNK].
        words: Counter of the words that hold an unknown piece.
    """

    def __init__(self):
        self.lengths, self.words = {}, Counter()
        self.pieces = self.unknown = 0

    @property
    def unknown_share(self):
        return self.unknown / max(1, self.pieces)

    def most_unknown(self):
        """[(word, count), ...], the most frequent first."""
        return self.words.most_common(_SHOWN_WORDS)


def measure(texts, tokenizer, name):
    """Word pieces of texts.

    Args:
        texts: dict key -> list of str.
        tokenizer: has `encode(text) -> list of int` and `unk_id`.
        name: for the progress bar.
    Returns:
        TextFigures.
    """
    figures = TextFigures()
    progress = tqdm(texts.items(), desc=f"cutting {name} into word pieces", unit=" images", delay=1, leave=False)
    for key, group in progress:
        lengths = figures.lengths[key] = []
        for text in group:
            ids = tokenizer.encode(text)
            lengths.append(len(ids))
            unknown = ids.count(tokenizer.unk_id)
            if unknown:
                figures.unknown += unknown
                figures.words.update(word for word in text.split() if tokenizer.unk_id in tokenizer.encode(word))
        figures.pieces += sum(lengths)
    return figures


class RowLengths:
    """Every caption with the tags of its own image, as a row of the model.

    Attributes:
        rows: [N] int64, positions of the rows before anything is cut, special tokens included.
        captions_cut: int, captions that lose word pieces. tags_cut: int, rows that lose tag pieces.
        tag_pieces, tag_pieces_kept: int, over all rows.
        first_cut: [(key, number of the caption, its pieces), ...], the first captions that are cut.
    """

    def __init__(self, captions, tags, max_seq_len):
        """
        Args:
            captions: TextFigures, several texts a key. tags: TextFigures with one text a key, or None without tags.
            max_seq_len: INPUT.MAX_SEQ_LEN.
        """
        entries = [
            (key, number, length) for key, group in captions.lengths.items() for number, length in enumerate(group)
        ]
        caption_lengths = np.array([length for _, _, length in entries], np.int64)
        of_tags = {} if tags is None else {key: group[0] for key, group in tags.lengths.items()}
        tag_lengths = np.array([of_tags.get(key, 0) for key, _, _ in entries], np.int64)
        builder = TextBuilder(0, 0, max_seq_len)
        caption_kept, tags_kept, _ = builder.row_lengths(caption_lengths, tag_lengths, tag_lengths > 0)
        self.rows = caption_lengths + 2 + np.where(tag_lengths > 0, tag_lengths + 1, 0)
        cut = np.flatnonzero(caption_kept < caption_lengths)
        self.captions_cut, self.first_cut = len(cut), [entries[index] for index in cut[:5]]
        tags_kept = np.maximum(tags_kept, 0)
        self.tags_cut = int((tags_kept < tag_lengths).sum())
        self.tag_pieces, self.tag_pieces_kept = int(tag_lengths.sum()), int(tags_kept.sum())
