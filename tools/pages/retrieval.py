"""The report of a retrieval evaluation: its folder read back and checked, results beside chance, queries and answers.

Shape letters: K images, C captions, n captions that an image is compared with (C, or its own list of candidates).
Nothing here needs Paddle.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.retrieval import (
    RECALL_AT,
    candidate_ranks,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)
from oscar_paddle.tools.pages.page import fair_sample, read_result, write_evaluation_page

_TOOL = "tools/eval_retrieval.py"
_DIRECTIONS = (
    ("i2t_retrieval", "i2t", "Text retrieval", "a picture looks for its captions"),
    ("t2i_retrieval", "t2i", "Image retrieval", "a caption looks for its picture"),
)


def write_report(results, images, output, *, title="", facts=(), num_queries=12, num_hardest=6, seed=0, **page):
    """Write the report page of RetrievalResults.

    Args:
        images, output, page: see `write_evaluation_page`, which also says what is returned and raised.
        title: heading; "" = data set and split.
        facts: [(name, text), ...] about the run, shown beside the results before those found in the folder.
        num_queries, num_hardest: queries of each kind, drawn at random by `seed`, and failed ones.
    """
    name, all_captions = _data_name(results.provenance), not results.has_candidates
    sections = [("result", "Result")]
    sections += [("captions", "Captions looking for their picture")] if all_captions else []
    sections += [("pictures", "Pictures looking for their captions"), ("hardest", "Where it fails")]
    return write_evaluation_page(
        "retrieval.html",
        images=images,
        eval_dir=results.folder,
        output=output,
        sections=sections,
        title=title or ("Image-text retrieval" + (f": {name}" if name else "")),
        results=results,
        metrics=results.metrics,
        chance=results.chance(),
        directions=_DIRECTIONS,
        facts=[*facts, *_facts(results)],
        seed=seed,
        chosen_captions=fair_sample(len(results.captions), num_queries, seed) if all_captions else [],
        chosen_images=fair_sample(len(results.image_ids), num_queries, seed),
        failed_captions=hardest(results.t2i_ranks, num_hardest, results.caption_image) if all_captions else [],
        failed_images=hardest(results.i2t_ranks, num_hardest),
        **page,
    )


def _data_name(provenance):
    data = provenance.get("data", {})
    return f"{data.get('name', '')} {data.get('split', '')}".strip()


def _facts(results):
    """What the evaluation folder itself knows."""
    images, captions = results.margins.shape
    kind = "candidate captions each" if results.has_candidates else "captions"
    facts = [
        ("Data", _data_name(results.provenance)),
        ("Protocol", results.metrics.get("protocol") or f"{images:,} pictures x {captions:,} {kind}"),
        ("Pairs", f"{images * captions:,}"),
    ]
    medians = (("text", results.metrics.get("i2t_median_rank")), ("image", results.metrics.get("t2i_median_rank")))
    facts.append(("Median rank", ", ".join(f"{name} {rank:g}" for name, rank in medians if rank is not None)))
    if checkpoint := results.provenance.get("checkpoint", {}):
        facts.append(("Weights", f"{checkpoint.get('weights', '')} ({str(checkpoint.get('content', ''))[:12]})"))
    settings = results.provenance.get("settings", {})
    if {"MAX_SEQ_LEN", "MAX_REGION"} <= settings.keys():
        facts.append(("Input", f"up to {settings['MAX_SEQ_LEN']} text positions, {settings['MAX_REGION']} regions"))
    if "precision" in results.provenance:
        facts.append(("Scored in", results.provenance["precision"]))
    return [(name, text) for name, text in facts if text]


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

    @property
    def beyond(self):
        """The best right answer where it is not among the best ones, else None."""
        return self.right if self.right and self.right.rank > len(self.hits) else None

    @property
    def shown(self):
        """The best answers and, where it is not among them, the right one."""
        return [*self.hits, self.beyond] if self.beyond else self.hits


class RetrievalResults:
    """An evaluation folder, as `solvers.scoring.evaluation` writes it.

    Attributes:
        image_ids: list of K image ids.
        margins: [K, n] float32, memory-mapped.
        metrics, provenance: dicts as in the files; provenance is {} where the file is missing.
        has_candidates: whether every image has its own list of captions; then captions are no queries.
        i2t_ranks, t2i_ranks: [K] and [C] int64, 0-based, ties against the right answer; t2i_ranks may be None.
    Raises:
        DataError: a file is missing, damaged, or does not belong to the others.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        provenance = self.folder / "provenance.json"
        self.provenance = read_result(provenance, dict, _TOOL) if provenance.is_file() else {}
        if self.provenance.get("state", "complete") != "complete":
            raise DataError(f"{self.folder}: this evaluation is not finished; run its command again to complete it")
        self.image_ids = read_result(self.folder / "image_ids.json", list, _TOOL)
        self.captions = read_result(self.folder / "captions.json", list, _TOOL)
        self.metrics = read_result(self.folder / "metrics.json", dict, _TOOL)
        self.margins = self._margins()
        self.has_candidates = bool(self.captions) and isinstance(self.captions[0], list)
        self._check_captions()
        if self.has_candidates:
            own = np.array([self._is_own(row) for row in range(len(self.image_ids))])
            self.i2t_ranks, self.t2i_ranks = candidate_ranks(self.margins, own), None
        else:
            ranks = image_to_text_ranks, text_to_image_ranks
            self.i2t_ranks, self.t2i_ranks = (rank(self.margins, self.caption_image) for rank in ranks)
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

    def _margins(self):
        path, images = self.folder / "margins.npy", len(self.image_ids)
        margins = read_result(path, np.ndarray, _TOOL)
        if margins.ndim != 2 or margins.dtype.kind != "f" or len(margins) != images:
            found = f"{margins.dtype} {list(margins.shape)}"
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
        self._descriptions = {
            column["image_id"]: column["caption"] for row in reversed(rows) for column in reversed(row)
        }
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
        for direction, *_ in _DIRECTIONS:
            for name, value in expected.get(direction, {}).items():
                found = self.metrics.get(direction, {}).get(name)
                if not isinstance(found, (int, float)) or abs(found - value) > 1e-6:
                    what = f"{direction} {name} is {found}, but margins.npy gives {value:.4f}"
                    raise DataError(f"{path}: {what}; evaluate again")


def chance_recall(num_right, num_answers, k):
    """Probability that a random order of answers has a right one among its first k, mean over queries.

    It is 1 - C(n - r, k) / C(n, k), the hypergeometric law, where r of n answers are right; num_right: r of each query.
    """
    k = min(k, num_answers)
    misses = {r: math.comb(num_answers - r, k) / math.comb(num_answers, k) for r in set(num_right)}
    return 1 - math.fsum(misses[r] for r in num_right) / len(num_right)


def hardest(ranks, count, owners=None):
    """Indices of the worst ranks, worst first, missed ones only, `count` at most; at most one for each owner.

    ranks: [Q] int, 0-based; owners: [Q] int, what the queries belong to (captions to images), None = all different.
    """
    chosen = {}  # owner -> its worst query
    for index in np.argsort(-ranks, kind="stable").tolist():
        if ranks[index]:
            chosen.setdefault(index if owners is None else int(owners[index]), index)
    return list(chosen.values())[:count]


def _query(index, margins, is_right, count):
    """The first `count` answers and the first right one; among equals the wrong ones come first, as in the metrics."""
    margins = np.asarray(margins)
    order = np.lexsort((np.arange(len(margins)), is_right, -margins))

    def hit(place):
        item = int(order[place])
        return Hit(place + 1, item, float(margins[item]), bool(is_right[item]))

    right = np.flatnonzero(is_right[order])
    return Query(index, [hit(p) for p in range(min(count, len(order)))], hit(int(right[0])) if right.size else None)
