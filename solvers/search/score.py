"""Does a caption describe an image? The answer for one image, from its region features; no data set needed."""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from oscar_paddle.config.errors import DataError, WeightsError
from oscar_paddle.datasets.formats.array_files import read_npz
from oscar_paddle.datasets.regions.one_file_each import REGION_ARRAYS, regions_of_arrays, tags_of_arrays
from oscar_paddle.datasets.regions.source import RegionSource
from oscar_paddle.datasets.retrieval_dataset import RetrievalDataset
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import TokenTable
from oscar_paddle.datasets.tokenization import VOCAB_FILE, build_tokenizer
from oscar_paddle.models.checkpoints.input_settings import check_meaning, read_input_settings
from oscar_paddle.models.checkpoints.weights import load_into, read_state
from oscar_paddle.models.config import read_model_config
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import Block

log = logging.getLogger(__name__)

BATCH_TOKENS = 4096
_ARRAYS = (*REGION_ARRAYS, "tags")
_FIELDS = {  # of InputSettings -> argument of ImageScorer
    "max_seq_length": "max_seq_len",
    "max_img_seq_length": "max_region",
    "add_od_labels": "add_tags",
    "do_lower_case": "do_lower_case",
}


class Score(NamedTuple):
    """What the model says of one caption."""

    caption: str
    probability: float  # in [0, 1], of the caption describing the image
    margin: float  # logit of "matched" minus that of "not matched"; ranks captions where probabilities are all 1


def score(checkpoint, image_features, captions, **settings):
    """How well captions describe one image.

    Args:
        checkpoint: folder with weights, config.json and vocab.txt of a retrieval model (Oscar, VinVL, VinVL-Paddle or
            our own), or an `ImageScorer`, which has read one and can be used for many images.
        image_features: path of a `.npz` file; or a dict of what would be in one: `features` [R, 2048 or 2054] float;
            with 2048 values also `boxes` [R, 4] (x1, y1, x2, y2 in pixels), `image_w` and `image_h`; `tags`, a list of
            str or one str; or only the features [R, 2054].
        captions: str, or a list of str.
            Or many pictures: a list of such, or a folder of `.npz` files.
        settings: max_seq_len, max_region, add_tags, do_lower_case: see `ImageScorer`.
    Returns:
        list of Score, one for each caption, in their order. For a list of pictures a list of such lists; for a folder
        a dict {file name: such a list}, by name.
    Raises:
        WeightsError: the checkpoint is missing, damaged, or no retrieval model.
        DataError: the features or captions are not as described; says what is wrong.
    """
    scorer = checkpoint if isinstance(checkpoint, ImageScorer) else ImageScorer(checkpoint, **settings)
    return scorer.score(image_features, captions)


class ImageScorer:
    """A retrieval model, ready to score images.

    Args:
        checkpoint: folder, see `score`.
        max_seq_len: text positions, max_region: regions, add_tags, do_lower_case: bool. None = as the checkpoint was
            trained, where its folder tells (training_args.bin or .json, trainer_state.json), otherwise as published.
    """

    def __init__(self, checkpoint, *, max_seq_len=None, max_region=None, add_tags=None, do_lower_case=None):
        folder = Path(checkpoint)
        state = read_state(folder)
        config = read_model_config(folder)
        if config.num_labels not in (1, 2):
            where = f"{folder}/config.json"
            raise WeightsError(f"{where}: num_labels is {config.num_labels}; a retrieval model has 2 (or 1)")
        given = dict(zip(_FIELDS, (max_seq_len, max_region, add_tags, do_lower_case), strict=True))
        given = {field: value for field, value in given.items() if value is not None}
        trained = read_input_settings(folder, config.to_dict())
        for field, value in given.items():
            if field in trained.told_by and value != getattr(trained, field):
                words = "%s is %r, but the checkpoint was trained with %r (%s/%s)"
                log.warning(words, _FIELDS[field], value, getattr(trained, field), folder, trained.told_by[field])
        self.settings = trained._replace(**given)
        if not 3 <= self.settings.max_seq_length <= config.max_position_embeddings:
            raise WeightsError(
                f"{folder}: {self.settings.max_seq_length} text positions; its position table has room for "
                f"3 to {config.max_position_embeddings}"
            )
        if self.settings.max_img_seq_length < 1:
            raise DataError(f"max_region is {self.settings.max_img_seq_length}; expected at least 1")
        vocab = folder if (folder / VOCAB_FILE).is_file() else "bert-base-uncased"  # VinVL-Paddle keeps none
        self.tokenizer = build_tokenizer(str(vocab), self.settings.do_lower_case)
        if self.tokenizer.vocab_size > config.vocab_size:
            sizes = f"{self.tokenizer.vocab_size} words, but the weights have {config.vocab_size}"
            raise WeightsError(f"{folder}/{VOCAB_FILE}: {sizes}")
        check_meaning(folder, self.tokenizer.vocab)
        model = OscarForClassification(config)
        load_into(model, state, folder)
        self.config, self.backend = config, EagerBackend(model)

    def score(self, image_features, captions):
        """list of Score, or one for each of many pictures; see the function `score`."""
        if isinstance(image_features, list | tuple):
            return [self.score(one, captions) for one in _progress(image_features)]
        if isinstance(image_features, str | Path) and Path(image_features).is_dir():
            files = sorted(Path(image_features).glob("*.npz"))
            if not files:
                raise DataError(f"{image_features}: no .npz file in this folder; expected one for each picture")
            return {path.name: self.score(path, captions) for path in _progress(files)}
        captions = [captions] if isinstance(captions, str) else list(captions)
        for number, caption in enumerate(captions, start=1):
            if not isinstance(caption, str):
                raise DataError(f"caption {number} is a {type(caption).__name__}; expected text")
        if not captions:
            raise DataError("no captions; expected at least one")
        data = self._data(*self._image(image_features), captions)
        margins = PairScorer(self.backend, data, BATCH_TOKENS).score(Block(range(1), range(len(captions))))[0].tolist()
        return [Score(caption, self._probability(m), m) for caption, m in zip(captions, margins, strict=True)]

    def _image(self, image_features):
        """(regions [R, D] float32, tags) of what the caller gave."""
        arrays, where = _arrays_of(image_features)
        regions = regions_of_arrays(arrays, self.config.img_feature_dim, where)
        tags = tags_of_arrays(arrays, where) if self.settings.add_od_labels else ""
        if tags is None:
            log.warning("%s: no 'tags'; scored without object tags, which the model was trained with", where)
        return _OneImage(where, regions, self.settings.max_img_seq_length), tags or ""

    def _data(self, regions, tags, captions):
        tokenizer = self.tokenizer
        return RetrievalDataset(
            image_ids=[0],
            captions=captions,
            caption_ids=[(0, number) for number in range(len(captions))],
            caption_tokens=tokens_of(captions, tokenizer),
            tags=[tags],
            tag_tokens=tokens_of([tags], tokenizer),
            regions=regions,
            text=TextBuilder(tokenizer.cls_id, tokenizer.sep_id, self.settings.max_seq_length),
            mask_type=self.settings.att_mask_type,
        )

    def _probability(self, margin):
        if self.config.num_labels == 1:  # trained by squared error towards 0 and 1
            return min(1.0, max(0.0, margin))
        return probability(margin)


def _progress(pictures):
    return tqdm(pictures, desc="scoring", unit=" pictures", delay=1, leave=False, dynamic_ncols=True)


def probability(margin):
    """Softmax of two logits, as a function of their difference."""
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


class _OneImage(RegionSource):
    """The regions of one image, under any id."""

    def __init__(self, where, regions, max_region):
        super().__init__(where, regions.shape[1], max_region)
        self._regions = regions

    def _read(self, key):
        return self._regions, self.path


def _arrays_of(image_features):
    """(dict of arrays, what to call the image in messages)."""
    if isinstance(image_features, (str, Path)):
        return read_npz(image_features, _ARRAYS), str(image_features)
    if isinstance(image_features, np.ndarray):
        return {"features": image_features}, "the image features"
    try:
        arrays = {name: np.asarray(image_features[name]) for name in _ARRAYS if name in image_features}
    except (TypeError, ValueError) as error:
        kind = type(image_features).__name__
        raise DataError(f"the image features ({kind}): expected a .npz file, a dict or an array ({error})") from None
    return arrays, "the image features"


def tokens_of(texts, tokenizer):
    """TokenTable of a few texts, which nothing is kept of."""
    rows = [tokenizer.encode(text) for text in texts]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    ids = np.array([token for row in rows for token in row], np.int32)
    return TokenTable(ids, offsets, np.arange(len(rows), dtype=np.int32))
