"""Triples of caption, tags and regions (or question, answer and regions) for pre-training: sampled, masked, in batches.

Shape letters: B rows of a batch, Pt text positions of all rows, M masked ones, D documents of a corpus.

Source: docs/reference.md, pre-training items.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.corpus.definition import read_definition
from oscar_paddle.datasets.corpus.draws import Draws
from oscar_paddle.datasets.corpus.index import Corpus, open_corpus
from oscar_paddle.datasets.tensorize import LongestFirstBuilder
from oscar_paddle.datasets.token_cache import cache_folder
from oscar_paddle.datasets.tokenization import MASK

MASKED = 0.15  # share of the word pieces that are predicted
AS_MASK, AS_RANDOM = 0.8, 0.9  # of these: below the first [MASK], below the second a random entry, else unchanged
MATCHED, WRONG_B = 0, 1  # contrast classes; a wrong text_a is the last one
TRIES = 10  # draws of a document until one shows another image
ANSWERS = 2  # textb_sample_mode from which on a wrong text_b is an answer


class Rules(NamedTuple):
    """How training items are drawn.

    Attributes:
        textb_sample_mode: where a wrong text_b is from: 0 a caption or a text_b of another document | 1 its text_b | 2
            the answer of another question.
        texta_false_prob: f; half of the items are matched, with f = 0.25 half of the others have a wrong text_a.
        use_b: whether text_b is shown.
        mask_loss_for_unmatched: whether a wrong text_b is masked and predicted, too.
    """

    textb_sample_mode: int = 0
    texta_false_prob: float = 0.0
    use_b: bool = True
    mask_loss_for_unmatched: bool = True

    @property
    def num_contrast_classes(self):
        """2, or 3 where both a wrong text_a and a wrong text_b are drawn: 0 matched, 1 wrong b, last wrong a."""
        return 3 if self.texta_false_prob < 0.5 and (self.texta_false_prob > 0 or not self.use_b) else 2

    @property
    def needs_other_images(self):
        """Whether wrong texts are those of other images; only wrong answers may be of the same."""
        return self.textb_sample_mode < ANSWERS or self.texta_false_prob > 0 or not self.use_b


class Item(NamedTuple):
    """What is shown of a document: the texts by their numbers in the corpus (text_b -1: none), the contrast class, and
    whether a replaced text came with another image."""

    text_a: int
    text_b: int
    label: int
    image_differs: bool


@dataclass(kw_only=True, eq=False)
class PretrainingDataset:
    """A corpus, ready to build batches; safe for threads.

    Attributes:
        corpus: datasets.corpus.index.Corpus.
        text: LongestFirstBuilder of INPUT.MAX_SEQ_LEN.
        rules: Rules.
        mask_id, vocab_size: of the tokenizer.
        seed: MISC.SEED. which: number of the corpus, where a run reads two.
        draws: function (seed, epoch, index, which) -> Draws.
    """

    corpus: Corpus
    text: LongestFirstBuilder
    rules: Rules
    mask_id: int
    vocab_size: int
    seed: int
    which: int = 0
    draws: object = Draws

    def __post_init__(self):
        questions = len(self.corpus.questions)
        if self.rules.textb_sample_mode >= ANSWERS and questions < 2:
            key = f"CORPUS.{'EXTRA_' * self.which}TEXTB_SAMPLE_MODE"
            needed = f"{key} 2 draws wrong answers among them and needs at least 2; set it to 1"
            raise DataError(f"{self.corpus.path}: {questions} question-answer rows; {needed}")
        if self.rules.needs_other_images and len(self.corpus.image_document) < 2:
            needed = "wrong texts are drawn from rows of other images: add some"
            raise DataError(f"{self.corpus.path}: all rows that are read show one image; {needed}")
        self.num_examples = len(self.corpus)
        self.num_contrast_classes = self.rules.num_contrast_classes
        self.regions = self.corpus.regions

    def batch(self, examples, epoch):
        """The items of these documents as named arrays, see `datasets.collate.collate`; text_a is the caption.

        Args:
            examples: [B] int, documents.
            epoch: int, or [B] int where they belong to several passes.
        Returns:
            dict of what `collate` gives and
                masked_positions: [M] int64, rising, places in the text [Pt]; M may be 0.
                masked_labels: [M] int64, the ids that stood there.
                contrast_labels: [B] int64, 0 matched, 1 wrong text_b, num_contrast_classes - 1 wrong text_a.
        """
        examples = np.asarray(examples)
        epochs = np.broadcast_to(epoch, examples.shape)
        pairs = zip(epochs.tolist(), examples.tolist(), strict=True)
        draws = [self.draws(self.seed, epoch, example, self.which) for epoch, example in pairs]
        items = [self.item(example, each) for example, each in zip(examples.tolist(), draws, strict=True)]
        rows = self._text_rows(items)
        masked, labels = self._mask(rows, items, draws)
        return {
            **collate(rows, *self._features(examples)),
            "masked_positions": masked,
            "masked_labels": labels,
            "contrast_labels": np.array([item.label for item in items], np.int64),
        }

    def matched_batch(self, documents, images=None, captions=None):
        """Unmasked rows, each with its own texts, as `collate` gives them; `images`, `captions`: documents whose
        regions and whose text_a are shown in place of their own, [B] int."""
        documents = np.asarray(documents)
        shown = (documents if captions is None else np.asarray(captions)).tolist()
        text_b = [self.corpus.text_b(d) if self.rules.use_b else -1 for d in documents.tolist()]
        texts = [Item(a, b, MATCHED, False) for a, b in zip(shown, text_b, strict=True)]
        return collate(self._text_rows(texts), *self._features(documents if images is None else np.asarray(images)))

    def item(self, document, draws):
        """The Item of a document; `draws` is asked for one uniform number, and for documents where it is a mismatch."""
        corpus, rules = self.corpus, self.rules
        own_b = corpus.text_b(document)
        in_sampling = rules.use_b or corpus.is_question(document)  # upstream: an answer that is not shown still counts
        shown = own_b if rules.use_b else -1
        u = float(draws.uniforms(1)[0])
        if u > 0.5:
            return Item(document, shown, MATCHED, False)
        if u > rules.texta_false_prob and in_sampling:
            other, text_b = self._wrong_b(document, draws)
            return Item(document, text_b if rules.use_b else -1, WRONG_B, corpus.images_differ(document, other))
        other = self.other_document(document, draws)
        return Item(other, shown, rules.num_contrast_classes - 1, corpus.images_differ(document, other))

    def _wrong_b(self, document, draws):
        """(the document that a wrong text_b is from, the text)."""
        corpus, mode = self.corpus, self.rules.textb_sample_mode
        if mode >= ANSWERS:
            other = document
            while other == document:  # the same image is allowed
                other = int(corpus.questions[draws.document(len(corpus.questions))])
            return other, corpus.text_b(other)
        other = self.other_document(document, draws)
        if mode == 0 and draws.takes_caption():
            return other, other
        return other, corpus.text_b(other)

    def other_document(self, document, draws):
        """A document of another image. Upstream: the last try is taken even where it shows the same one."""
        for _ in range(TRIES):
            other = draws.document(len(self.corpus))
            if self.corpus.images_differ(document, other):
                break
        return other

    def _text_rows(self, items):
        """TextRows of items, without masks."""
        tokens = self.corpus.tokens
        text_a, text_b = (np.array([item[side] for item in items], np.int64) for side in (0, 1))
        has_b = (text_b >= 0) & (tokens.lengths(np.maximum(text_b, 0)) > 0)  # what has no pieces is no second sentence
        return self.text.build_rows(tokens, text_a, tokens, np.maximum(text_b, 0), has_b)

    def _mask(self, rows, items, draws):
        """Masks `rows.input_ids` in place: (places [M], the ids that stood there [M])."""
        ends, caption = np.cumsum(rows.text_length), rows.caption_length
        places = []
        for row, (item, draw) in enumerate(zip(items, draws, strict=True)):
            start, end = int(ends[row] - rows.text_length[row]), int(ends[row])
            second = start + int(caption[row])
            pieces = np.arange(start + 1, second - 1)
            if self.rules.mask_loss_for_unmatched or item.label != WRONG_B or not item.image_differs or self._a_only:
                pieces = np.concatenate([pieces, np.arange(second, end - 1)])
            chance = draw.uniforms(len(pieces))
            masked = chance < MASKED
            kind, masked = chance[masked] / MASKED, pieces[masked]
            labels = rows.input_ids[masked]
            is_random = (kind >= AS_MASK) & (kind < AS_RANDOM)
            rows.input_ids[masked[kind < AS_MASK]] = self.mask_id
            rows.input_ids[masked[is_random]] = draw.words(np.count_nonzero(is_random), self.vocab_size)
            places.append((masked, labels))
        masked, labels = (np.concatenate(each).astype(np.int64) for each in zip(*places, strict=True))
        return masked, labels

    @property
    def _a_only(self):
        """Whether every mismatch is a wrong text_a: class 1 then means that."""
        return self.rules.texta_false_prob >= 0.5

    def _features(self, examples):
        """(list of [R, D] float32 of the distinct images, [B] int64 which of them each row shows)."""
        images, index = np.unique(self.corpus.image[examples], return_inverse=True)
        return [self.regions[image] for image in images.tolist()], index

    def describe(self, examples):
        """The examples as rows of the corpus file."""
        return ", ".join(self.corpus.where(int(example)) for example in examples)

    def fingerprint(self):
        """Hex digest of the corpus' rows, texts and labels, and of how items are drawn: what a run's numbers depend on,
        besides the features."""
        return hashlib.blake2b(repr((self.corpus.fingerprint(), self.rules)).encode(), digest_size=16).hexdigest()


def rules_of(cfg, mode=None):
    """Rules of the section CORPUS; `mode` as for `build_pretraining_data`."""
    settings = cfg.CORPUS
    return Rules(
        settings.TEXTB_SAMPLE_MODE if mode is None else mode,
        settings.TEXTA_FALSE_PROB,
        settings.USE_B,
        settings.MASK_LOSS_FOR_UNMATCHED,
    )


def build_pretraining_data(cfg, tokenizer, dataset_file, which=0, mode=None):
    """The PretrainingDataset of a corpus.

    Args:
        cfg: the frozen config.
        dataset_file: CORPUS.DATASET_FILE, or another one.
        which: 0, or 1 for the second corpus of a run, whose draws are others.
        mode: textb_sample_mode; None = CORPUS.TEXTB_SAMPLE_MODE.
    Raises:
        DataError: a file is missing or damaged, or a row names what is not there; says file, row and key.
    """
    settings, data = cfg.CORPUS, cfg.DATASET
    if tokenizer.mask_id is None:
        raise DataError(f"the vocabulary has no {MASK}, which pre-training puts in place of words")
    corpus = open_corpus(
        read_definition(dataset_file, data.DATA_DIR),
        tokenizer,
        cache_dir=cache_folder(cfg),
        max_seq_len=cfg.INPUT.MAX_SEQ_LEN,
        use_gtlabels=settings.USE_GTLABELS,
        chunks=(settings.CHUNK_START_ID, settings.CHUNK_END_ID),
        feature_dim=cfg.INPUT.IMG_FEATURE_DIM,
        max_region=cfg.INPUT.MAX_REGION,
        cache_bytes=cfg.INPUT.FEATURE_CACHE_MB << 20,
    )
    corpus.regions.fills_empty = data.EMPTY_IMAGES == "skip"
    return PretrainingDataset(
        corpus=corpus,
        text=LongestFirstBuilder(tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN),
        rules=rules_of(cfg, mode),
        mask_id=tokenizer.mask_id,
        vocab_size=tokenizer.vocab_size,
        seed=cfg.MISC.SEED,
        which=which,
    )
