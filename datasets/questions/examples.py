"""Examples of the question tasks: a sentence, tags and one or two images, and what is to be said about them.

Shape letters: E examples, r encoder rows of an example (1, or 2 for image pairs), B examples of a batch, C classes.
"""

import hashlib
import os
from array import array
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.empty_images import settle_empty_images
from oscar_paddle.datasets.first_look import look_at_texts
from oscar_paddle.datasets.formats.reading import MissingFile
from oscar_paddle.datasets.questions.records import read_records
from oscar_paddle.datasets.regions.joined import JoinedFeatures
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.token_cache import cache_folder, token_table

TRUTHS = ("false", "true")  # the classes of a task without answers


class Examples:
    """What a task's files say, collected record by record.

    Attributes:
        sentences: list of E str.
        tags: list of E * r str. has_tags: list of E * r bool, whether there is a second sentence.
        images: list of E * r tuples of image ids; the regions of one tuple are joined.
        files: list of paths. file_numbers, numbers: E each, the file of an example and its record there.
        question_ids: list of E str, or [] where the files have none.
        classes, scores, ends: the answers of example e are entries ends[e-1] to ends[e]: class and soft score of each.
    """

    def __init__(self):
        self.sentences, self.tags, self.has_tags, self.images = [], [], [], []
        self.question_ids, self.files = [], []
        self.file_numbers, self.numbers = array("H"), array("q")
        self.classes, self.scores, self.ends = array("i"), array("f"), array("q")
        self._same = {}

    def add(self, path, number, sentence, rows, answers=(), question_id=None):
        """One example.

        Args:
            path, number: where it is from.
            sentence: question or statement.
            rows: list of (image ids, tags, has_tags), one for each encoder row.
            answers: list of (class, soft score).
            question_id: str, where the task has them.
        """
        same = self._same.setdefault  # equal strings and tuples are kept once: millions of questions share their tags
        self.sentences.append(same(sentence, sentence))
        for image_ids, tags, has_tags in rows:
            self.tags.append(same(tags, tags))
            self.has_tags.append(has_tags)
            self.images.append(same(image_ids, image_ids))
        if not self.files or self.files[-1] != path:
            self.files.append(path)
        self.file_numbers.append(len(self.files) - 1)
        self.numbers.append(number)
        for answer, score in answers:
            self.classes.append(answer)
            self.scores.append(score)
        self.ends.append(len(self.classes))
        if question_id is not None:
            self.question_ids.append(question_id)

    def without(self, left_out):
        """The Examples that show none of these images (set of ids)."""
        kept, ends, r = Examples(), [0, *self.ends], len(self.images) // len(self.sentences)
        for e, sentence in enumerate(self.sentences):
            rows = list(
                zip(*(part[e * r : (e + 1) * r] for part in (self.images, self.tags, self.has_tags)), strict=True)
            )
            if left_out.isdisjoint(image_id for image_ids, _, _ in rows for image_id in image_ids):
                answers = zip(self.classes[ends[e] : ends[e + 1]], self.scores[ends[e] : ends[e + 1]], strict=True)
                question_id = self.question_ids[e] if self.question_ids else None
                kept.add(self.files[self.file_numbers[e]], self.numbers[e], sentence, rows, answers, question_id)
        return kept

    def where(self, example):
        """File and record of an example, for messages."""
        return f"{self.files[self.file_numbers[example]]} record {self.numbers[example]}"


class ExampleDataset:
    """One split, ready to build batches.

    Attributes:
        num_examples: E. rows: r. num_classes: C.
        examples: Examples.
        is_labelled: whether the answers are known.
        answers: list of C str, or None where the classes are false and true.

    Args:
        examples, num_classes, is_labelled, answers: as above.
        sentence_tokens, tag_tokens: TokenTables of `examples.sentences` and `examples.tags`.
        regions: RegionSource. max_region: regions of a row, the first so many.
        text: TextBuilder.
    """

    def __init__(
        self,
        *,
        examples,
        sentence_tokens,
        tag_tokens,
        regions,
        max_region,
        text,
        num_classes,
        is_labelled=True,
        answers=None,
    ):
        self.examples, self.sentence_tokens, self.tag_tokens = examples, sentence_tokens, tag_tokens
        self.regions, self.max_region, self.text = regions, max_region, text
        self.num_examples, self.rows = len(examples.sentences), len(examples.images) // len(examples.sentences)
        self.num_classes, self.is_labelled, self.answers = num_classes, is_labelled, answers
        self.has_tags = np.array(examples.has_tags)
        self._classes, self._scores = np.array(examples.classes, np.int64), np.array(examples.scores, np.float32)
        self._starts = np.concatenate([[0], np.array(examples.ends, np.int64)])

    def encoder_rows(self, examples):
        """[B] int -> [B * r] int, the rows of these examples, those of one example side by side."""
        return (np.asarray(examples)[:, None] * self.rows + np.arange(self.rows)).ravel()

    def text_rows(self, examples):
        """Text of the B * r rows of these examples, as TextRows."""
        rows = self.encoder_rows(examples)
        sentences = np.repeat(np.asarray(examples), self.rows)
        return self.text.build_rows(self.sentence_tokens, sentences, self.tag_tokens, rows, self.has_tags[rows])

    def features(self, examples):
        """(list of arrays [R, D] float32 of the distinct images, [B * r] int64 which of them each row shows)."""
        number, index = {}, []
        for row in self.encoder_rows(examples).tolist():
            image_ids = self.examples.images[row]
            index.append(number.setdefault(image_ids, len(number)))
        return [self._joined(image_ids) for image_ids in number], np.array(index, np.int64)

    def _joined(self, image_ids):
        if len(image_ids) == 1:
            return self.regions[image_ids[0]][: self.max_region]
        return np.concatenate([self.regions[image_id] for image_id in image_ids])[: self.max_region]

    def batch(self, examples):
        """The B * r rows of these examples as named arrays, see `datasets.collate.collate`."""
        return collate(self.text_rows(examples), *self.features(examples))

    def labels(self, examples):
        """[B] int64, the first answer of each (-1 where there is none)."""
        starts, ends = self._starts[examples], self._starts[np.asarray(examples) + 1]
        known = starts < ends
        return np.where(known, self._classes[np.where(known, starts, 0)] if len(self._classes) else -1, -1)

    def soft_targets(self, examples):
        """[B, C] float32, the soft score of every answer; of a repeated answer the last one, as upstream."""
        targets = np.zeros((len(examples), self.num_classes), np.float32)
        for row, example in enumerate(np.asarray(examples).tolist()):
            here = slice(self._starts[example], self._starts[example + 1])
            targets[row, self._classes[here]] = self._scores[here]
        return targets

    def all_labels(self):
        """[E] int64, see `labels`."""
        return self.labels(np.arange(self.num_examples))

    def soft_answers(self):
        """list of E dicts class -> soft score; of a repeated answer the last one counts."""
        classes, scores, starts = self._classes.tolist(), self._scores.tolist(), self._starts.tolist()
        spans = zip(starts, starts[1:], strict=False)
        return [dict(zip(classes[start:end], scores[start:end], strict=True)) for start, end in spans]

    def image_ids(self):
        """The distinct images, in the order in which they appear."""
        return list(dict.fromkeys(image_id for image_ids in self.examples.images for image_id in image_ids))

    def fingerprint(self):
        """Hex digest of sentences, tags, images and answers: what a run's numbers depend on, besides the features."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.examples.sentences, self.examples.tags, self.examples.images, self.examples.question_ids):
            for start in range(0, len(part), 1 << 16):
                digest.update(repr(part[start : start + (1 << 16)]).encode("utf-8", "surrogatepass"))
        for part in (self.has_tags, self._classes, self._scores, self._starts):
            digest.update(part.tobytes())
        return digest.hexdigest()


class Layout(NamedTuple):
    """Where a split of a task lies, and how it is read.

    Attributes:
        name: task and split, for messages, and for the cache of token ids.
        files: list of (path of a question file, where it comes from, for the message when it is missing).
        add: function (Examples, path, number, record, where) that adds a record, or raises DataError.
        features: how the published names of the region features begin: with a split or the name of the task; of
            several, the first file is read if it is there, and otherwise all the others.
        max_region: regions of a row, the first so many. per_image: the same of an image; None keeps all.
        builder: class of TextBuilder.
        labels: AnswerLabels; None: the classes are false and true. is_labelled: whether the answers are known.
    """

    name: str
    files: list
    add: object
    features: tuple
    max_region: int
    per_image: int | None
    builder: type
    labels: object = None
    is_labelled: bool = True


def build_examples(cfg, tokenizer, layout, training=False):
    """The ExampleDataset of a Layout; every image is looked up in the features first. `training`: whether examples with
    images in which nothing was detected are left out, where DATASET.EMPTY_IMAGES allows it.

    Raises:
        DataError: a file is missing or damaged, there are no examples, or an image has no features; names the record.
    """
    examples = Examples()
    for path, origin in layout.files:
        for number, record in read_records(path, origin):
            layout.add(examples, path, number, record, f"{path} record {number}")
    regions = open_features(cfg, layout)
    rows = len(examples.images) // max(1, len(examples.sentences))
    known = {}
    for row, image_ids in enumerate(examples.images):
        for image_id in image_ids:
            if image_id not in known:
                known[image_id] = image_id in regions
            if not known[image_id]:
                where = examples.where(row // rows)
                raise DataError(regions.missing(image_id, f"is missing, which {where} asks for"))
    left_out = settle_empty_images(cfg, layout.name, regions, list(known), training)
    examples = examples.without(left_out) if left_out else examples
    if not examples.sentences:
        raise DataError(f"{layout.name}: no examples (those without an answer do not count)")
    cache_dir = cache_folder(cfg)
    sentence_tokens = token_table(examples.sentences, tokenizer, cache_dir, f"{layout.name}_sentences")
    tag_tokens = token_table(examples.tags, tokenizer, cache_dir, f"{layout.name}_tags")
    text = layout.builder(tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN)
    lengths = np.repeat(sentence_tokens.lengths(), rows)
    kept = text.row_lengths(lengths, tag_tokens.lengths(), np.array(examples.has_tags))[0]
    look_at_texts(layout.name, {"questions": sentence_tokens, "tags": tag_tokens}, tokenizer.unk_id, lengths, kept)
    return ExampleDataset(
        examples=examples,
        sentence_tokens=sentence_tokens,
        tag_tokens=tag_tokens,
        regions=regions,
        max_region=layout.max_region,
        text=text,
        num_classes=len(layout.labels or TRUTHS),
        is_labelled=layout.is_labelled,
        answers=layout.labels and layout.labels.answers,
    )


def joined_or_halves(joined, halves):
    """The one joined question file, or its halves where it is missing and they are there: as for `Layout.files`."""
    is_there = [os.path.isfile(path) for path, _ in (joined, *halves)]
    return [joined] if is_there[0] or not any(is_there) else halves


def open_features(cfg, layout):
    """The RegionSource of a Layout (raises DataError)."""
    joined, *halves = layout.features
    try:
        return _open_named(cfg, joined, layout.per_image, cfg.INPUT.FEATURE_CACHE_MB << 20)
    except MissingFile:
        if not halves:
            raise
    parts = [_open_named(cfg, half, None, 0) for half in halves]
    options = {"feature_dim": cfg.INPUT.IMG_FEATURE_DIM, "cache_bytes": cfg.INPUT.FEATURE_CACHE_MB << 20}
    return JoinedFeatures(parts, max_region=layout.per_image, **options)


def feature_file(cfg, name):
    """DATASET.FEAT_FILE, or the file without boxes that INPUT.IMG_FEATURE_DIM asks for, if it is there."""
    feat_file = cfg.DATASET.FEAT_FILE
    if cfg.INPUT.IMG_FEATURE_DIM == 2048 and not feat_file:  # names of files without boxes
        for ending in ("obj_feats.pt", "feats_obj.pt"):
            path = os.path.join(cfg.DATASET.DATA_DIR, f"{name}_img_frcnn_{ending}")
            feat_file = path if os.path.isfile(path) else feat_file
    return feat_file


def _open_named(cfg, name, max_region, cache_bytes):
    return open_regions(
        cfg.DATASET.DATA_DIR,
        name,
        feature_file(cfg, name),
        cfg.INPUT.IMG_FEATURE_TYPE,
        cfg.DATASET.PACKED,
        feature_dim=cfg.INPUT.IMG_FEATURE_DIM,
        max_region=max_region,
        cache_bytes=cache_bytes,
    )
