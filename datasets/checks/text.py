"""Captions and tags as the model sees them: unknown word pieces, and what does not fit into a row."""

import os
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.tokenization import VOCAB_FILE, build_tokenizer

MANY_UNKNOWN = 0.05  # share of pieces from which the vocabulary is probably the wrong one
_ENDLESS = 1 << 40  # positions: nothing is cut


@dataclass
class TextFigures:
    """Word pieces of many texts.

    Attributes:
        lengths: dict key -> list of lengths in word pieces, one for each text.
        pieces, unknown: word pieces in all and those that are [UNK].
        words: Counter of the words that hold an unknown piece.
    """

    lengths: dict = field(default_factory=dict)
    pieces: int = 0
    unknown: int = 0
    words: Counter = field(default_factory=Counter)

    def most_unknown(self, count=8):
        """[(word, count), ...], the most frequent first."""
        return self.words.most_common(count)


class RowLengths:
    """Every caption with the tags of its own image, as a row of the model.

    Args:
        captions, tags: dicts key -> lengths of its captions, and [length of its tags], in word pieces.
        text: TextBuilder of the task.
    Attributes:
        rows: [N] int64, positions of the rows before anything is cut, special tokens included.
        cut: [(key, number of the caption, its pieces, those that are kept), ...], captions that lose word pieces.
        caption_room: see `TextBuilder.caption_room`.
        captions_cut: how many those are. tags_cut: rows that lose tag pieces.
        tag_pieces, tag_pieces_kept: over all rows.
    """

    def __init__(self, captions, tags, text):
        entries = [(key, number, length) for key, group in captions.items() for number, length in enumerate(group)]
        caption_lengths = np.array([length for _, _, length in entries], np.int64)
        tag_lengths = np.array([tags.get(key, [0])[0] for key, _, _ in entries], np.int64)
        lengths = caption_lengths, tag_lengths, tag_lengths > 0
        caption_kept, tags_kept, _ = text.row_lengths(*lengths)
        tags_kept = np.maximum(tags_kept, 0)
        self.rows = TextBuilder(0, 0, _ENDLESS).row_lengths(*lengths)[2]
        cut = np.flatnonzero(caption_kept < caption_lengths)
        self.cut = [(*entries[index], int(caption_kept[index])) for index in cut]
        self.caption_room = text.caption_room
        self.captions_cut, self.tags_cut = len(self.cut), int((tags_kept < tag_lengths).sum())
        self.tag_pieces, self.tag_pieces_kept = int(tag_lengths.sum()), int(tags_kept.sum())


def check_text(cfg, splits, chosen, tags, findings, text):
    """Cut captions and tags (dict image id -> tag string, of the `chosen` images; None = all) into word pieces.

    Args:
        text: TextBuilder of the task.
    Returns:
        (TextFigures of captions, of tags, RowLengths); None where nothing can be said: no vocabulary (a finding says
        so), no split, no tags.
    """
    tokenizer = open_tokenizer(cfg, findings, "captions and tags")
    if tokenizer is None or not splits:
        return None, None, None
    path, tag_text = splits[0].path, None
    texts = {key: group[: split.per_image or None] for split in splits for key, group in split.captions.items()}
    captions = measure(texts, tokenizer, "captions", path, findings)
    counted = captions.lengths
    if cfg.INPUT.ADD_OD_LABEL and tags:
        tag_text = measure({key: [text] for key, text in tags.items()}, tokenizer, "tags", "object tags", findings)
        if chosen is not None:  # rows of the images whose tags were looked into
            counted = {key: lengths for key, lengths in counted.items() if key in tags}
    rows = RowLengths(counted, tag_text.lengths if tag_text else {}, text)
    for key, number, length, kept in rows.cut:
        findings.add("caption_cut", path, f"image {key} caption {number + 1}: {length} word pieces; {kept} fit")
    if rows.tags_cut:
        kept = f"{100 * rows.tag_pieces_kept / rows.tag_pieces:.1f} % of the tags' word pieces fit"
        findings.add("tags_cut", "object tags", kept, count=rows.tags_cut)
    return captions, tag_text, rows


def open_tokenizer(cfg, findings, texts):
    """The tokenizer of the config, which is to cut these texts, or None with a finding."""
    what = f"word pieces and lengths of {texts}"
    folders = {"PRETRAINED.DIR": cfg.PRETRAINED.DIR, "EVAL.CHECKPOINT_DIR": cfg.EVAL.CHECKPOINT_DIR}
    if cfg.PRETRAINED.DIR and not os.path.isdir(cfg.PRETRAINED.DIR):
        findings.add("missing_file", cfg.PRETRAINED.DIR, "no such folder (PRETRAINED.DIR); training starts from it")
    named = [(key, folder) for key, folder in folders.items() if folder]
    source = next((folder for _, folder in named if os.path.isfile(os.path.join(folder, VOCAB_FILE))), None)
    if source is None and named and not os.path.isdir(named[0][1]):
        key, folder = named[0]  # as long as the weights are not here, do not fetch anything
        findings.add("no_check", folder, f"no such folder ({key}): {what}")
        return None
    source = source or cfg.INPUT.BERT_MODEL
    try:
        tokenizer = build_tokenizer(source, cfg.INPUT.DO_LOWER_CASE)
        tqdm.write("loading PaddleNLP for the word pieces", file=sys.stderr)
        tokenizer.encode("a first word, so that no progress bar waits for the import")
        return tokenizer
    except DataError as error:
        findings.add("no_check", source, f"{what}: {error}")
        return None


def measure(texts, tokenizer, name, path, findings):
    """TextFigures of texts (dict key -> list of str); many unknown pieces are a finding.

    Args:
        tokenizer: has `encode(text) -> list of int` and `unk_id`.
        name: what they are, in words. path: the file they are from.
    """
    figures = TextFigures()
    progress = tqdm(texts.items(), desc=f"cutting {name} into word pieces", unit=" images", delay=1, leave=False)
    for key, group in progress:
        pieces = [tokenizer.encode(text) for text in group]
        figures.lengths[key] = [len(ids) for ids in pieces]
        figures.pieces += sum(figures.lengths[key])
        for text, ids in zip(group, pieces, strict=True):
            if tokenizer.unk_id in ids:
                figures.unknown += ids.count(tokenizer.unk_id)
                figures.words.update(word for word in text.split() if tokenizer.unk_id in tokenizer.encode(word))
    share = figures.unknown / max(1, figures.pieces)
    if share > MANY_UNKNOWN:
        words = ", ".join(f"{word!r} ({count})" for word, count in figures.most_unknown(4))
        text = f"{100 * share:.1f} % of the word pieces of the {name} are unknown, as in {words}"
        findings.add("unknown_pieces", path, text)
    return figures
