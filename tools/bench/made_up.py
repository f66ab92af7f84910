"""Random data and models with the sizes of real ones, for measuring speed and memory; nothing can be learnt here."""

import base64
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.datasets.regions.vinvl import RegionFeatures
from oscar_paddle.datasets.retrieval_dataset import RetrievalDataset
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import TokenTable
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.oscar import OscarForClassification

_CLS, _SEP, _FIRST_WORD = range(1, 4)


class Lengths(NamedTuple):
    """Sizes of the made-up rows; the defaults are those of VinVL's COCO data.

    caption, tags and regions are (mean, spread, least, most) of a clipped normal distribution.
    """

    caption: tuple = (12, 3, 6, 40)
    tags: tuple = (56, 14, 16, 120)
    regions: tuple = (37, 15, 10, 90)
    max_text: int = 70  # where rows are cut, as is max_region
    max_region: int = 70
    feature_dim: int = 2054
    words: int = 30522  # of the vocabulary


_REAL = Lengths()


def made_up_model(width, layers, **more):
    """A retrieval model with random weights; `more` goes into its config."""
    sizes = {"hidden_size": width, "num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width}
    return OscarForClassification(BertConfig(**{**sizes, "num_hidden_layers": layers, **more}))


def made_up_data(folder, num_images, num_captions, lengths=_REAL, cache_bytes=256 << 20):
    """A RetrievalDataset whose features lie in `folder` in the published layout.

    Args:
        folder: existing folder for features.tsv; files of an earlier call with the same arguments are used again.
        num_images, num_captions: captions are a multiple of images and belong to them in order.
        cache_bytes: see `RegionFeatures`.
    """
    rng = np.random.RandomState(0)
    counts = _draw(rng, lengths.regions, num_images)
    captions = _table(rng, _draw(rng, lengths.caption, num_captions), lengths.words)
    tags = _table(rng, _draw(rng, lengths.tags, num_images), lengths.words)
    features = Path(folder) / "features.tsv"
    if not features.exists():
        _write_features(features, counts, lengths.feature_dim, rng)
    return RetrievalDataset(
        image_ids=list(range(num_images)),
        captions=[f"caption {number}" for number in range(num_captions)],
        caption_ids=[divmod(number, num_captions // num_images) for number in range(num_captions)],
        caption_tokens=captions,
        tags=["tags"] * num_images,
        tag_tokens=tags,
        regions=RegionFeatures(
            features, feature_dim=lengths.feature_dim, max_region=lengths.max_region, cache_bytes=cache_bytes
        ),
        text=TextBuilder(_CLS, _SEP, lengths.max_text),
        mask_type="CLR",
    )


def _draw(rng, distribution, count):
    mean, spread, least, most = distribution
    return np.clip(np.rint(rng.normal(mean, spread, count)), least, most).astype(np.int64)


def _table(rng, lengths, words):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.randint(_FIRST_WORD, words, offsets[-1]).astype(np.int32)
    return TokenTable(ids, offsets, np.arange(len(lengths), dtype=np.int32))


def _write_features(path, counts, feature_dim, rng):
    """Non-negative values, half of them zero, as behind the detector's last ReLU."""
    with open(path, "w", encoding="ascii") as rows, open(path.with_suffix(".lineidx"), "w", encoding="ascii") as index:
        for image, count in enumerate(counts):
            values = np.maximum(rng.standard_normal((count, feature_dim)), 0).astype(np.float32)
            np.minimum(values[:, -6:], 1, out=values[:, -6:])  # of boxes: fractions of the picture
            index.write(f"{rows.tell()}\n")
            rows.write(f"{image}\t{count}\t{base64.b64encode(values).decode()}\n")
    path.with_name("imageid2idx.json").write_text(json.dumps({str(i): i for i in range(len(counts))}))
