"""The one builder of `[CLS] caption [SEP] tags [SEP]`: all rows of a batch at once, from token tables.

Shape letters: B rows, Pt text positions of all rows.

Source: docs/reference.md, retrieval rows and masks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import ConfigError


class TextRows(NamedTuple):
    """The text of B rows without padding, row after row, as NumPy arrays.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64; the type is 1 for tags and their [SEP].
        caption_length: [B] int64, positions of [CLS] caption [SEP].
        text_length: [B] int64, positions of the whole text.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    caption_length: np.ndarray
    text_length: np.ndarray

    def part(self, start, stop):
        """Rows start to stop, as TextRows."""
        begin = int(self.text_length[:start].sum())
        here = slice(begin, begin + int(self.text_length[start:stop].sum()))
        return TextRows(*(field[here] for field in self[:3]), *(field[start:stop] for field in self[3:]))

    def take(self, rows):
        """These rows in this order, as TextRows."""
        length = self.text_length[rows]
        start = (np.cumsum(self.text_length) - self.text_length)[rows]
        here = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())
        return TextRows(*(field[here] for field in self[:3]), *(field[rows] for field in self[3:]))


@dataclass(frozen=True)
class TextBuilder:
    """Joins word-piece ids of a caption and of its tags into one row of at most `max_seq_len` positions, special tokens
    included (INPUT.MAX_SEQ_LEN); a ConfigError where [CLS], a word piece and [SEP] have no room."""

    cls_id: int
    sep_id: int
    max_seq_len: int

    def __post_init__(self):
        if (length := self.max_seq_len) < 3:
            raise ConfigError(f"INPUT.MAX_SEQ_LEN is {length}; [CLS], one word piece and [SEP] need at least 3")

    @property
    def caption_room(self):
        """(positions that a caption with [CLS] and [SEP] has at most, full name of the key that says so)."""
        return self.max_seq_len, "INPUT.MAX_SEQ_LEN"

    def row_lengths(self, caption_lengths, tag_lengths, has_tags):
        """Word pieces that each row keeps: the caption keeps its room, the tags get what is left.

        A task with another way to make a pair fit replaces this method only, see `LongestFirstBuilder`.

        Args:
            caption_lengths, tag_lengths: [B] int, word pieces before cutting.
            has_tags: [B] bool, False where there is no second sentence: tags are off, or the tag string is "".
        Returns:
            caption_kept [B], tags_kept [B] (-1 where there is no second sentence), text_length [B]; int64.
        """
        caption_kept = np.minimum(caption_lengths, self.max_seq_len - 2)
        room = self.max_seq_len - (caption_kept + 2) - 1
        # Upstream: room is -1 behind a caption that fills the row, which slices off one tag and overflows; here
        # the tags are dropped. With room 0 the [SEP] of an empty second sentence stays, as upstream.
        tags_kept = np.where(has_tags & (room >= 0), np.minimum(tag_lengths, room), -1)
        return caption_kept, tags_kept, caption_kept + 2 + tags_kept + 1

    def build_rows(self, caption_tokens, captions, tag_tokens, tags, has_tags):
        """The text of B rows, `[CLS] caption [SEP] tags [SEP]`, as TextRows.

        Args:
            caption_tokens, tag_tokens: TokenTables (word pieces without special tokens).
            captions, tags: [B] int, which entry of its table each row takes.
            has_tags: [B] bool, see `row_lengths`.
        """
        lengths = caption_tokens.lengths(captions), tag_tokens.lengths(tags)
        caption_kept, tags_kept, text_length = self.row_lengths(*lengths, has_tags)
        row = np.repeat(np.arange(len(text_length)), text_length)
        start = np.cumsum(text_length) - text_length
        position = np.arange(len(row)) - start[row]
        second = position - (caption_kept + 2)[row]  # place within the tags
        is_caption = (position > 0) & (position <= caption_kept[row])
        is_tag = (second >= 0) & (second < tags_kept[row])
        ids = np.full(len(row), self.sep_id, np.int64)
        ids[start] = self.cls_id
        ids[is_caption] = caption_tokens.ids[((caption_tokens.starts(captions) - 1)[row] + position)[is_caption]]
        ids[is_tag] = tag_tokens.ids[(tag_tokens.starts(tags)[row] + second)[is_tag]]
        return TextRows(ids, (second >= 0).astype(np.int64), position, caption_kept + 2, text_length)


class LongestFirstBuilder(TextBuilder):
    """The text rows of the question tasks: sentence and tags lose their last pieces, the longer of the two first
    (docs/reference.md, question rows)."""

    def row_lengths(self, caption_lengths, tag_lengths, has_tags):
        """As `TextBuilder.row_lengths`; a second sentence without a piece has no [SEP] either, but still costs the
        first one the room of it."""
        sentence, tags = self.shortened(caption_lengths, np.where(has_tags, tag_lengths, 0), has_tags)
        tags_kept = np.where(tags > 0, tags, -1)
        return sentence, tags_kept, sentence + 2 + tags_kept + 1

    def shortened(self, sentence, tags, has_tags):
        """Lengths [B] int64 of both after cutting: one piece at a time from the longer, from the tags when equal."""
        room = self.max_seq_len - 2 - has_tags
        excess = np.maximum(sentence + tags - room, 0)
        uneven = np.minimum(excess, np.abs(sentence - tags))  # cut from the longer one until they are equal
        from_tags = np.where(tags > sentence, uneven, 0) + (excess - uneven + 1) // 2
        return sentence - (excess - from_tags), tags - from_tags


class PairedLongestFirstBuilder(LongestFirstBuilder):
    """The text rows of image pairs: rows 2i and 2i + 1 hold the same sentence and the tags of one image each.

    Upstream: the sentence is cut in place, so what it loses to the first image's tags is gone for the second image.
    Source: docs/reference.md, pair rows.
    """

    def shortened(self, sentence, tags, has_tags):
        first = super().shortened(sentence[::2], tags[::2], has_tags[::2])
        second = super().shortened(first[0], tags[1::2], has_tags[1::2])
        return tuple(np.stack(lengths, 1).ravel() for lengths in zip(first, second, strict=True))
