"""What a report page shows: the evaluation folder read back and checked, and queries picked from it.

Shape letters: K images, C captions, n captions that an image is compared with (C, or its own list of candidates).
Nothing here needs Paddle.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.vinvl import ObjectTags
from oscar_paddle.solvers.metrics.retrieval import (
    RECALL_AT,
    candidate_ranks,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)

DIRECTIONS = ("i2t_retrieval", "t2i_retrieval")


class Hit(NamedTuple):
    """One answer to a query: its rank (from 1), the index of the image or caption, the margin, whether it is right."""

    rank: int
    index: int
    margin: float
    is_right: bool


class Query(NamedTuple):
    """One query: the index of the caption or image that asks, its best answers, and the best right one (or None)."""

    index: int
    hits: list
    right: Hit | None


class RetrievalResults:
    """An evaluation folder, as `solvers.scoring.evaluation` writes it.

    Attributes:
        image_ids: list of K image ids.
        margins: [K, n] float32, memory-mapped.
        metrics, provenance: dicts as in the files; provenance is {} where the file is missing.
        has_candidates: whether every image has its own list of captions; then captions are no queries.
        i2t_ranks, t2i_ranks: [K] and [C] int64, 0-based, ties against the right answer; t2i_ranks may be None.

    Args:
        folder: the evaluation folder.
    Raises:
        DataError: a file is missing, damaged, or does not belong to the others.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.provenance = self._json("provenance.json", dict) if (self.folder / "provenance.json").is_file() else {}
        if self.provenance.get("state", "complete") != "complete":
            raise DataError(f"{self.folder}: this evaluation is not finished; run its command again to complete it")
        self.image_ids = self._json("image_ids.json", list)
        self.captions = self._json("captions.json", list)
        self.metrics = self._json("metrics.json", dict)
        self.margins = self._margins()
        self.has_candidates = bool(self.captions) and isinstance(self.captions[0], list)
        self._check_captions()
        self.t2i_ranks = None
        if self.has_candidates:
            own = np.array([self._is_own(row) for row in range(len(self.image_ids))])
            self.i2t_ranks = candidate_ranks(self.margins, own)
        else:
            self.i2t_ranks = image_to_text_ranks(self.margins, self.caption_image)
            self.t2i_ranks = text_to_image_ranks(self.margins, self.caption_image)
        self._check_metrics()

    @property
    def num_candidates(self):
        """n, captions that each image is compared with."""
        return self.margins.shape[1]

    def caption(self, image, column):
        """The caption (dict: image_id, number, caption) in a column of an image's row of margins."""
        return self.captions[image][column] if self.has_candidates else self.captions[column]

    def describe(self, image_id):
        """The first of an image's own captions, "" where it has none here."""
        if not hasattr(self, "_descriptions"):
            columns = [c for row in self.captions for c in row] if self.has_candidates else self.captions
            self._descriptions = {c["image_id"]: c["caption"] for c in reversed(columns)}
        return self._descriptions.get(image_id, "")

    def image_query(self, image, count=5):
        """The best captions for an image: a Query whose hits are columns of its row."""
        return _query(image, self.margins[image], self._is_own(image), count)

    def caption_query(self, caption, count=5):
        """The best images for a caption: a Query whose hits are rows of its column."""
        own = np.arange(len(self.image_ids)) == self.caption_image[caption]
        return _query(caption, self.margins[:, caption], own, count)

    def chance(self):
        """Recalls of a random order, exactly: {"i2t_retrieval": {"R@1": fraction, ...}, "t2i_retrieval": ...}."""
        own = [int(self._is_own(row).sum()) for row in range(len(self.image_ids))]
        levels = {"i2t_retrieval": {f"R@{k}": chance_recall(own, self.num_candidates, k) for k in RECALL_AT}}
        if not self.has_candidates:
            levels["t2i_retrieval"] = {f"R@{k}": chance_recall([1], len(self.image_ids), k) for k in RECALL_AT}
        return levels

    def _is_own(self, image):
        """[n] bool, which captions of an image's row are its own."""
        if not self.has_candidates:
            return self.caption_image == image
        return np.array([column["image_id"] == self.image_ids[image] for column in self.captions[image]])

    def _json(self, name, kind):
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; tools/eval_retrieval.py --output_dir writes it") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a JSON file: {error}") from None
        if not isinstance(value, kind):
            raise DataError(f"{path}: holds a {type(value).__name__}; expected a {kind.__name__}")
        return value

    def _margins(self):
        path = self.folder / "margins.npy"
        try:
            margins = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; tools/eval_retrieval.py --output_dir writes it") from None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: not a NumPy array: {error}") from None
        if margins.ndim != 2 or margins.dtype.kind != "f" or len(margins) != len(self.image_ids):
            found, images = f"{margins.dtype} {list(margins.shape)}", len(self.image_ids)
            raise DataError(f"{path}: holds {found}; expected floats with a row for each of {images} images")
        return margins

    def _check_captions(self):
        path, width = self.folder / "captions.json", self.margins.shape[1]
        rows = self.captions if self.has_candidates else [self.captions]
        if self.has_candidates and len(rows) != len(self.image_ids):
            raise DataError(f"{path}: {len(rows)} lists; expected {len(self.image_ids)}, one for each image")
        for row in rows:
            if not isinstance(row, list) or len(row) != width:
                found = len(row) if isinstance(row, list) else f"a {type(row).__name__}"
                raise DataError(f"{path}: {found} captions; expected {width}, the columns of margins.npy")
            for number, column in enumerate(row):
                if not isinstance(column, dict) or not {"image_id", "caption"} <= column.keys():
                    raise DataError(f"{path}: entry {number} is {column!r:.80}; expected image_id, number and caption")
        if not self.has_candidates:
            index = {image_id: row for row, image_id in enumerate(self.image_ids)}
            unknown = [c["image_id"] for c in self.captions if c["image_id"] not in index]
            if unknown:
                raise DataError(f"{path}: a caption of image {unknown[0]}, which is not in image_ids.json")
            self.caption_image = np.array([index[c["image_id"]] for c in self.captions], np.int64)

    def _check_metrics(self):
        """metrics.json must be what the margins give, or the page would contradict itself."""
        path = self.folder / "metrics.json"
        width = self.num_candidates if self.has_candidates else None
        expected = retrieval_metrics(self.i2t_ranks, self.t2i_ranks, width)
        for direction in DIRECTIONS:
            for name, value in expected.get(direction, {}).items():
                found = self.metrics.get(direction, {}).get(name)
                if not isinstance(found, (int, float)) or abs(found - value) > 1e-6:
                    raise DataError(
                        f"{path}: {direction} {name} is {found}, but margins.npy gives {value:.4f}; evaluate again"
                    )


class LabelledBoxes(ObjectTags):
    """Detections with their boxes, from `predictions.tsv`."""

    def labelled_boxes(self, image_id):
        """([(tag, [x1, y1, x2, y2] in pixels), ...] in file order, image height, image width)."""
        boxes, height, width = self.boxes(image_id)
        _, objects, where = self._detections(image_id)
        tags = [self._value(item, "class", str, where) for item in objects]
        return list(zip(tags, boxes, strict=True)), height, width


def chance_recall(num_right, num_answers, k):
    """Probability that a random order has a right answer among its first k, mean over queries.

    Args:
        num_right: list of int, right answers of every query (repeated values are fine).
        num_answers: int, answers that are ranked.
        k: places looked at.
    Returns:
        float: mean of 1 - C(n - r, k) / C(n, k), the hypergeometric law.
    """
    k = min(k, num_answers)
    misses = {r: math.comb(num_answers - r, k) / math.comb(num_answers, k) for r in set(num_right)}
    return 1 - math.fsum(misses[r] for r in num_right) / len(num_right)


def fair_sample(size, count, seed):
    """`count` of the numbers 0 .. size - 1, all different, drawn at random by `seed`, in rising order."""
    drawn = np.random.default_rng(seed).choice(size, min(size, count), replace=False)
    return sorted(drawn.tolist())


def hardest(ranks, count, owners=None):
    """Indices of the worst ranks, worst first, missed ones only; at most one for each owner.

    Args:
        ranks: [Q] int, 0-based.
        count: how many at most.
        owners: [Q] int, what the queries belong to (captions to images); None = all different.
    """
    chosen, seen = [], set()
    for index in np.argsort(-ranks, kind="stable").tolist():
        owner = index if owners is None else int(owners[index])
        if ranks[index] == 0 or len(chosen) == count:
            break
        if owner not in seen:
            seen.add(owner)
            chosen.append(index)
    return chosen


def _query(index, margins, is_right, count):
    """The first `count` answers and the first right one; among equals the wrong ones come first, as in the metrics."""
    margins = np.asarray(margins)
    order = np.lexsort((np.arange(len(margins)), is_right, -margins))

    def hit(place):
        item = int(order[place])
        return Hit(place + 1, item, float(margins[item]), bool(is_right[item]))

    right = np.flatnonzero(is_right[order])
    return Query(index, [hit(p) for p in range(min(count, len(order)))], hit(int(right[0])) if right.size else None)
