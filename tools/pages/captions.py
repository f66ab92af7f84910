"""The report of generated captions: picture, boxes, captions with their log-probabilities, what people wrote.

Nothing here needs Paddle.
"""

import json
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.page import fair_sample, read_result, write_evaluation_page

_KEYS = {"image_id", "captions", "references", "scores"}
_TOOL = "tools/eval_captioning.py"
SCORES = ("CIDEr", "Bleu_4", "Bleu_1", "ROUGE_L", "METEOR", "SPICE")  # shown where they are there, in this order


class Captions:
    """What the evaluation of captioning has left in its folder.

    Attributes:
        entries: list of dicts of captions.json, in the order of the split: image_id, captions (dicts with caption and
            log_prob, the best first), references, scores (of the best caption).
        metrics: dict of metrics.json.
    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "captions.json"
        self.entries = read_result(path, list, _TOOL)
        self.metrics = read_result(self.folder / "metrics.json", dict, _TOOL)  # what is not finished has none
        if not self.entries:
            raise DataError(f"{path}: holds an empty list; expected one entry for each image")
        for number, entry in enumerate(self.entries):
            if not isinstance(entry, dict) or not entry.keys() >= _KEYS or not entry["captions"]:
                raise DataError(f"{path} entry {number}: expected image_id, captions, references and scores")

    @property
    def scored(self):
        """Numbers of the entries that have a CIDEr of their own, the worst first."""
        found = [number for number, entry in enumerate(self.entries) if "CIDEr" in entry["scores"]]
        return sorted(found, key=lambda number: self.entries[number]["scores"]["CIDEr"])


def score_rows(metrics, baselines):
    """Rows [(name of a score, that of the captions, {name of a baseline: its score}), ...], what is there of SCORES."""
    there = [name for name in SCORES if isinstance(metrics.get(name), float)]
    return [
        (name, metrics[name], {label: found[name] for label, found in baselines.items() if name in found})
        for name in there
    ]


def read_baselines(path):
    """{name: {score: float}} of the file that tools/caption_baselines.py writes; "" = {}."""
    if not path:
        return {}
    found = read_result(Path(path), dict, "tools/caption_baselines.py")
    if not all(isinstance(scores, dict) for scores in found.values()):
        raise DataError(f"{path}: {json.dumps(found)[:60]}; expected an object of scores for each baseline")
    return found


def write_captions(captions, images, output, *, baselines=None, facts=(), num_random=24, num_worst=12, seed=0, **page):
    """Write the report page of Captions.

    Args:
        images, output, page: see `write_evaluation_page`, which also says what is returned and raised.
        baselines: {name: {score: float}}, shown beside the scores.
        facts: [(name, text), ...] about the run.
        num_random, num_worst: how many images of each sort.
    """
    worst = captions.scored[:num_worst]
    rows = score_rows(captions.metrics, baselines or {})
    sections = [("result", "Result")] if rows else []
    sections += [("captions", "Captions"), *([("worst", "Where it fails")] if worst else [])]
    return write_evaluation_page(
        "captions.html",
        images=images,
        eval_dir=captions.folder,
        output=output,
        sections=sections,
        captions=captions,
        rows=rows,
        facts=facts,
        most=max([1.0, *(value for _, own, others in rows for value in (own, *others.values()))]),
        chosen=fair_sample(len(captions.entries), num_random, seed),
        seed=seed,
        worst=worst,
        **page,
    )
