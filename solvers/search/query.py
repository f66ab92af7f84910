"""Answers to one query: the best images of a collection for a text, or its best captions for an image."""

import re
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.regions.source import stem
from oscar_paddle.datasets.retrieval_dataset import RetrievalDataset
from oscar_paddle.datasets.token_cache import TokenTable
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import block_groups
from oscar_paddle.solvers.search.score import tokens_of


class Answer(NamedTuple):
    """One answer."""

    rank: int  # from 1
    margin: float  # logit of "matched" minus logit of "not matched"
    image_id: int  # the image found, or the image that the found caption belongs to
    caption: str  # the caption found; "" when images were looked for


class Collection:
    """The images and captions of a split, ready for queries.

    Args:
        data: RetrievalDataset.
        tokenizer: Tokenizer, for typed queries.
        backend: see `solvers.scoring.backends`.
        batch_tokens: EVAL.BATCH_TOKENS.
    """

    def __init__(self, data, tokenizer, *, backend, batch_tokens):
        self.data, self.tokenizer, self.backend, self.batch_tokens = data, tokenizer, backend, batch_tokens

    def images_for(self, text, count=5):
        """The images that any text describes best: list of Answer, best first, equal ones as in the collection."""
        data, tokens = self.data, tokens_of([text], self.tokenizer)
        part = self._part(range(data.num_images), [text], [(data.image_ids[0], 0)], tokens)
        best = _best(self._margins(part)[:, 0], count)
        return [Answer(rank, margin, data.image_ids[i], "") for rank, margin, i in best]

    def captions_for(self, image_id, count=5):
        """The captions, of all images, that describe an image of the collection (DataError: it has none) best."""
        data = self.data
        if image_id not in data.image_ids:
            some = ", ".join(str(known) for known in data.image_ids[:5]) + ", ..." * (data.num_images > 5)
            what = f"image {image_id} is none of the {data.num_images} images of the collection ({some})"
            raise DataError(f"{what}; DATASET.TEST names its split")
        images = [data.image_ids.index(image_id)]
        part = self._part(images, data.captions, data.caption_ids, data.caption_tokens)
        best = _best(self._margins(part)[0], count)
        return [Answer(rank, margin, data.caption_ids[c][0], data.captions[c]) for rank, margin, c in best]

    def _part(self, images, captions, caption_ids, caption_tokens):
        """Some of the images against some captions, as a data set of its own."""
        data, tags = self.data, self.data.tag_tokens
        return RetrievalDataset(
            image_ids=[data.image_ids[i] for i in images],
            captions=captions,
            caption_ids=caption_ids,
            caption_tokens=caption_tokens,
            tags=[data.tags[i] for i in images],
            tag_tokens=TokenTable(tags.ids, tags.offsets, tags.rows[list(images)]),
            regions=data.regions,
            text=data.text,
            mask_type=data.mask_type,
        )

    def _margins(self, data):
        """[images, captions] float32."""
        scorer = PairScorer(self.backend, data, self.batch_tokens)
        groups = block_groups(data.num_images, data.num_captions)
        total = data.num_images * data.num_captions
        with tqdm(total=total, desc="scoring", unit="pair", delay=1, leave=False, dynamic_ncols=True) as bar:
            rows = [np.concatenate([scorer.score(block, bar.update) for block in group], axis=1) for group in groups]
        return np.concatenate(rows)


def image_id_of(text, names=None):
    """The image id in what a person typed: the id itself, or the name of the picture's file.

    Args:
        text: str.
        names: image id -> name of the picture's file, where the data set says it (`own_pictures.read_names`); without,
            COCO's names have the id (COCO_val2014_000000391895.jpg), and whole names that are numbers are one.
    Raises:
        DataError: no such name.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and (not names or int(text) in names):
        return int(text)
    if names:
        found = [image_id for image_id, name in names.items() if text == name]
        found = found or [image_id for image_id, name in names.items() if stem(text) == stem(name)]
        if len(found) != 1:
            what = f"the name of {len(found)} pictures" if found else "the name of no picture"
            raise DataError(f"--query_img {text!r}: {what} (such as {next(iter(names.values()))!r}); give the image id")
        return found[0]
    digits = re.fullmatch(r"(?:COCO_[a-z]+[0-9]+_)?([0-9]+)", stem(text))
    if digits is None:
        raise DataError(f"--query_img {text!r}: expected an image id, or the name of its file (image_names.json)")
    return int(digits[1])


def _best(margins, count):
    """(rank, margin, index) of the highest margins."""
    order = np.argsort(-margins, kind="stable")[:count]
    return [(rank, float(margins[index]), int(index)) for rank, index in enumerate(order, start=1)]
