"""The evaluation folder: margins, what they belong to, metrics, and when they may be used again."""

import json
import logging
import os
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import UserError
from oscar_paddle.models.weights import file_hash, find_weights
from oscar_paddle.solvers.retrieval_task import split_metrics

log = logging.getLogger(__name__)

_SCORING_KEYS = ("MAX_REGION", "MAX_SEQ_LEN", "IMG_FEATURE_DIM", "ADD_OD_LABEL", "DO_LOWER_CASE", "ATT_MASK_TYPE")


def provenance(cfg, data):
    """What a set of margins depends on: checkpoint content, settings, images, captions and tags.

    Two runs with equal provenance give equal margins, so one may use the other's.
    """
    weights = find_weights(cfg.EVAL.CHECKPOINT_DIR)
    return {
        "checkpoint": {
            "weights": weights.name,
            "content": file_hash(weights),
            "config": file_hash(weights.with_name("config.json")),
        },
        "settings": {key: cfg.INPUT[key] for key in _SCORING_KEYS},
        "precision": cfg.EVAL.PRECISION,
        "data": {
            "name": cfg.DATASET.NAME,
            "split": cfg.DATASET.TEST,
            "images": len(data.image_ids),
            "captions": len(data.captions),
            "content": data.fingerprint(),
            "features": data.regions.fingerprint(data.image_ids),
        },
    }


class EvaluationFolder:
    """`margins.npy`, `image_ids.json`, `captions.json`, `provenance.json` and `metrics.json` of one evaluation.

    Args:
        path: the folder; created when missing.
    Raises:
        UserError: it cannot be created or written.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot make this folder: {error.strerror}; see --output_dir") from None
        if not os.access(self.path, os.W_OK):
            raise UserError(f"{self.path}: this folder cannot be written; see --output_dir")

    def finished_margins(self, wanted):
        """Margins of an earlier run with the same provenance, or None."""
        try:
            found = json.loads((self.path / "provenance.json").read_text(encoding="utf-8"))
            margins = np.load(self.path / "margins.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None
        if found != wanted:
            differing = ", ".join(key for key in wanted if found.get(key) != wanted[key])
            log.info("%s: holds results of another evaluation (differing: %s); scoring again", self.path, differing)
            return None
        return margins

    def write(self, margins, data, wanted):
        """Everything but the metrics; provenance last, so that it vouches for files that are there."""
        (self.path / "provenance.json").unlink(missing_ok=True)
        with open(self.path / ".tmp-margins.npy", "wb") as file:
            np.save(file, margins.astype(np.float32))
        os.replace(self.path / ".tmp-margins.npy", self.path / "margins.npy")
        self.write_json("image_ids.json", data.image_ids)
        columns = [
            {"image_id": image_id, "number": number, "caption": caption}
            for (image_id, number), caption in zip(data.caption_ids, data.captions, strict=True)
        ]
        if data.candidates is None:
            self.write_json("captions.json", columns)
        else:  # every image has its own list
            self.write_json("captions.json", [[columns[c] for c in row] for row in data.candidates])
        self.write_json("provenance.json", wanted)

    def write_json(self, name, value):
        temporary = self.path / f".tmp-{name}"
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, self.path / name)


def default_folder(cfg):
    """<checkpoint folder>/eval/<split>-<protocol>, one for each list and split."""
    if cfg.EVAL.EVAL_CROSS_IMAGE:
        protocol = Path(cfg.EVAL.EVAL_IMG_KEYS_FILE).stem or "all-images"
    else:
        protocol = Path(cfg.EVAL.EVAL_CAPTION_INDEX_FILE).stem
    return Path(cfg.EVAL.CHECKPOINT_DIR) / "eval" / f"{cfg.DATASET.TEST}-{protocol}"


def evaluate(cfg, data, folder, ranks, score):
    """Score a split, or take the margins of an equal evaluation, and write the folder.

    Args:
        cfg: the frozen config.
        data: RetrievalDataset.
        folder: where to write.
        ranks: Ranks; only the main one writes.
        score: function without arguments -> [K, m] margins; not called when results can be used again.
    Returns:
        dict of metrics, on every rank.
    """
    wanted = provenance(cfg, data)
    margins = ranks.on_main(lambda: EvaluationFolder(folder).finished_margins(wanted))
    if margins is None:
        margins = score()
        ranks.on_main(lambda: EvaluationFolder(folder).write(margins, data, wanted))
    elif ranks.is_main:
        log.info("%s: holds margins of the same checkpoint, settings, images and captions; using them", folder)
    metrics = split_metrics(margins, data)
    ranks.on_main(lambda: EvaluationFolder(folder).write_json("metrics.json", metrics))
    return metrics
