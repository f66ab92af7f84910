"""The one builder of `[CLS] caption [SEP] tags [SEP]`, and its attention mask.

`TextBuilder.build_rows` makes the rows of a batch at once from token tables.
Shape letters: B batch, T text positions, R region positions, N = T + R.

Source: specs/retrieval.md section 4, specs/common_model.md sections 5.2 and 5.3.
"""

import numpy as np

from oscar_paddle.config.errors import ConfigError

# Which kinds of position may see each other, on top of their own kind. CLR needs no table: all see all.
VISIBLE_PAIRS = {"CL": ("caption", "tags"), "CR": ("caption", "regions"), "LR": ("tags", "regions")}
MASK_TYPES = ("CLR", *VISIBLE_PAIRS)
KINDS = ("padding", "caption", "tags", "regions")


class TextBuilder:
    """Joins word-piece ids of a caption and of its tags into one row."""

    def __init__(self, cls_id, sep_id, pad_id, max_seq_len):
        """
        Args:
            cls_id, sep_id, pad_id: ids of the special tokens.
            max_seq_len: most positions of a row, special tokens included (INPUT.MAX_SEQ_LEN).
        Raises:
            ConfigError: no room for [CLS], a word piece and [SEP].
        """
        if max_seq_len < 3:
            raise ConfigError(f"INPUT.MAX_SEQ_LEN is {max_seq_len}; [CLS], one word piece and [SEP] need at least 3")
        self.cls_id, self.sep_id, self.pad_id, self.max_seq_len = cls_id, sep_id, pad_id, max_seq_len

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
        """The text of B rows, padded to max_seq_len.

        Args:
            caption_tokens, tag_tokens: TokenTables (word pieces without special tokens).
            captions, tags: [B] int, which entry of its table each row takes.
            has_tags: [B] bool, see `row_lengths`.
        Returns:
            input_ids: [B, max_seq_len] int64, `[CLS] caption [SEP] tags [SEP]`, then padding.
            token_type_ids: [B, max_seq_len] int64, 1 for tags and their [SEP].
            caption_length: [B] int64, positions of [CLS] caption [SEP].
            text_length: [B] int64, positions of the whole text.
        """
        kept = self.row_lengths(caption_tokens.lengths(captions), tag_tokens.lengths(tags), has_tags)
        caption_kept, tags_kept, text_length = (lengths[:, None] for lengths in kept)
        column = np.arange(self.max_seq_len)
        second = column - caption_kept - 2  # place within the tags
        is_caption = (column > 0) & (column <= caption_kept)
        is_tag = (second >= 0) & (second < tags_kept)
        ids = np.full(is_tag.shape, self.pad_id, np.int64)
        ids[:, 0] = self.cls_id
        ids[(column == caption_kept + 1) | (second == tags_kept)] = self.sep_id
        ids[is_caption] = caption_tokens.ids[(caption_tokens.starts(captions)[:, None] + column - 1)[is_caption]]
        ids[is_tag] = tag_tokens.ids[(tag_tokens.starts(tags)[:, None] + second)[is_tag]]
        types = ((second >= 0) & (second <= tags_kept)).astype(np.int64)
        return ids, types, kept[0] + 2, kept[2]


class LongestFirstBuilder(TextBuilder):
    """The text rows of VQA, GQA and NLVR2: sentence and tags lose their last pieces, the longer of the two first.

    Source: vqa.md section 3, gqa.md section 3.
    """

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
    """The text rows of NLVR2's image pairs: rows 2i and 2i + 1 hold the same sentence and the tags of one image each.

    Upstream: the sentence is cut in place, so what it loses to the first image's tags is gone for the second image.
    Source: nlvr2.md section 3.
    """

    def shortened(self, sentence, tags, has_tags):
        kept_first, tags_first = super().shortened(sentence[::2], tags[::2], has_tags[::2])
        kept_second, tags_second = super().shortened(kept_first, tags[1::2], has_tags[1::2])
        return np.stack([kept_first, kept_second], 1).ravel(), np.stack([tags_first, tags_second], 1).ravel()


def attention_mask(mask_type, caption_len, text_len, num_regions, max_text, max_region):
    """Which positions are visible, 1 or 0, padding included.

    Args:
        mask_type: INPUT.ATT_MASK_TYPE. "CLR": all real positions see each other; "CL", "CR", "LR": caption (C), tags
            (L) and regions (R) see their own kind, and the two named kinds see each other.
        caption_len: int or [B] int, positions of [CLS] caption [SEP].
        text_len: int or [B] int, positions of the whole text; equal to caption_len without tags.
        num_regions: int or [B] int, real regions.
        max_text: T, text positions of the padded row.
        max_region: R, region positions of the padded row.
    Returns:
        int64 [B, N] for CLR, where 1 = every query sees this key; int64 [B, N, N] (query, key) for the others.
        Without the leading B where the lengths are plain ints.
    Raises:
        ConfigError: unknown mask type.
    """
    if mask_type not in MASK_TYPES:
        raise ConfigError(f"INPUT.ATT_MASK_TYPE is {mask_type!r}; expected one of {', '.join(MASK_TYPES)}")
    caption_len, text_len, num_regions = (
        np.asarray(length, np.int64)[..., None] for length in (caption_len, text_len, num_regions)
    )
    if (caption_len > text_len).any() or (text_len > max_text).any() or (num_regions > max_region).any():
        raise ValueError(f"lengths beyond the padded row of {max_text} text and {max_region} region positions")
    text, region = np.arange(max_text), np.arange(max_region)
    of_text = np.where(text < caption_len, KINDS.index("caption"), KINDS.index("tags")) * (text < text_len)
    of_region = KINDS.index("regions") * (region < num_regions)
    kind = np.concatenate([of_text, of_region], axis=-1)  # [B, N], index into KINDS
    if mask_type == "CLR":
        return (kind != KINDS.index("padding")).astype(np.int64)
    sees = np.diag([0, 1, 1, 1])  # [4, 4] int64: own kind, padding excepted
    first, second = (KINDS.index(name) for name in VISIBLE_PAIRS[mask_type])
    sees[first, second] = sees[second, first] = 1
    return sees[kind[..., :, None], kind[..., None, :]]
