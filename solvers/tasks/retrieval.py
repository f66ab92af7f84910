"""Image-text retrieval: does a caption belong to an image? Ranks every image's captions, and every caption's images."""

import logging
from pathlib import Path

import numpy as np

from oscar_paddle.config.checks import evaluates_while_training, folders
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.datasets.captions.annotation_ids import read_annotation_ids
from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data, build_training_data
from oscar_paddle.solvers.metrics.eccv import check_eccv_input, eccv_metrics
from oscar_paddle.solvers.metrics.protocols import protocol_label
from oscar_paddle.solvers.metrics.retrieval import (
    candidate_ranks,
    five_fold_metrics,
    format_recall_line,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)
from oscar_paddle.solvers.scoring.folder import MARGINS, caption_list
from oscar_paddle.solvers.scoring.pairs import PairScorer, num_columns
from oscar_paddle.solvers.scoring.rows import block_groups
from oscar_paddle.solvers.tasks.task import Evaluation, Head, Task, Term, digest

log = logging.getLogger(__name__)


class RetrievalTask(Task):
    """Binary classification of (image, caption) pairs, one or more negatives for every positive.

    Args:
        cfg, train, dev: see `Task`; train is a RetrievalDataset.
        annotations: file of COCO's annotation ids, for ECCV Caption (see `datasets.captions.annotation_ids`), or "".
    """

    name, unit, dev_keys = "retrieval", "pairs", "DATASET.DEV, EVAL.*"
    terms = {"match": Term()}

    def __init__(self, cfg, *, train=None, dev=None, annotations=""):
        super().__init__(cfg, train, dev)
        self.annotations = annotations
        self.rows_per_example = 1 + cfg.OPTIMIZATION.NEGATIVES

    @staticmethod
    def needs(cfg, action):
        """Retrieval is evaluated in one of two ways; which one must be said."""
        yield from folders(cfg, action, "the caption files")
        undecided = not (cfg.EVAL.EVAL_CROSS_IMAGE or cfg.EVAL.EVAL_CAPTION_INDEX_FILE)
        how = "which captions each image is scored with is not said: set EVAL_CROSS_IMAGE True, or name an index file"
        if action == "train":
            undecided = undecided and evaluates_while_training(cfg)
            how += ", or set MONITOR.EVAL_FREQ and EVAL_STEPS to 0"
        yield ("EVAL.EVAL_CROSS_IMAGE", "EVAL.EVAL_CAPTION_INDEX_FILE"), undecided, how

    def training_data(self, tokenizer):
        return build_training_data(self.cfg, tokenizer)

    def head(self):
        return Head(self.model_class(), {"num_labels": self.cfg.OUTPUT.NUM_LABELS}, adds_layernorm=True)

    @property
    def num_examples(self):
        return self.train.num_captions

    def batch(self, examples, epoch):
        """Examples (caption indices) -> (PackedBatch, labels [B]) of positives and negatives."""
        negatives = self.cfg.OPTIMIZATION.NEGATIVES
        images, captions, labels = self.train.training_pairs(examples, self.cfg.MISC.SEED, epoch, negatives)
        batch, train = self.train.batch(images, captions), self.train
        return self.pack(batch, lambda row: train.where(images[row], captions[row]), train.mask_type), labels

    def describe(self, examples):
        """The examples as [image id, caption number] pairs."""
        return ", ".join(str(list(self.train.caption_ids[i])) for i in examples)

    def fingerprint(self):
        train = self.train
        return self.digests(train.image_ids, captions=train.caption_tokens, tags=train.tag_tokens)

    def evaluation(self, tokenizer, split):
        data = build_evaluation_data(self.cfg, tokenizer, split)
        annotation_ids = read_annotation_ids(self.annotations, data) if self.annotations else None
        return RetrievalEvaluation(self.cfg, data=data, split=split, annotation_ids=annotation_ids)


class RetrievalEvaluation(Evaluation):
    """Margins of images x captions, and the recalls that follow from them.

    Args:
        cfg, data, split: see `Evaluation`; data is a RetrievalDataset.
        annotation_ids: [captions] COCO annotation ids for ECCV Caption, or None.
    """

    scorer_class, matrix = PairScorer, MARGINS

    def __init__(self, cfg, *, data, split, annotation_ids=None):
        super().__init__(cfg, data, split)
        self.annotation_ids = annotation_ids

    def check(self):
        """
        Raises:
            ConfigError: folds that the image list cannot be cut into.
            DataError, UserError: see `check_eccv_input`.
        """
        data, folds = self.data, self.cfg.EVAL.FOLDS
        if folds > 1 and data.num_images % folds:
            raise ConfigError(f"EVAL.FOLDS is {folds}, which {data.num_images} images cannot be divided into")
        if self.annotation_ids is not None:
            if data.candidates is not None:
                raise ConfigError("--eccv needs every image with every caption: set EVAL.EVAL_CROSS_IMAGE True")
            check_eccv_input(data.image_ids, self.annotation_ids)

    @property
    def shape(self):
        return self.data.num_images, num_columns(self.data)

    def groups(self):
        return block_groups(*self.shape)

    def rows_to_score(self):
        return self.data.num_images * num_columns(self.data)

    def folder_name(self):
        """<split>-<protocol>, one for each list and split."""
        if self.cfg.EVAL.EVAL_CROSS_IMAGE:
            return f"{self.split}-{Path(self.cfg.EVAL.EVAL_IMG_KEYS_FILE).stem or 'all-images'}"
        return f"{self.split}-{Path(self.cfg.EVAL.EVAL_CAPTION_INDEX_FILE).stem}"

    def contents(self):
        return {"image_ids.json": self.data.image_ids, "captions.json": caption_list(self.data)}

    def provenance(self):
        data, evaluation = self.data, self.cfg.EVAL
        second_pass = {"top": evaluation.RESCORE_TOP, "folds": evaluation.FOLDS}
        return {
            **({"rescored": second_pass} if self._has_second_pass() else {}),
            "data": {
                "name": self.cfg.DATASET.NAME,
                "split": self.split,
                "images": len(data.image_ids),
                "captions": len(data.captions),
                "content": data.fingerprint(),
                "tokens": [digest(table.ids) for table in (data.caption_tokens, data.tag_tokens)],
                "features": data.regions.fingerprint(data.image_ids),
            },
        }

    def _has_second_pass(self):
        return self.cfg.EVAL.PRECISION != "float32" and self.cfg.EVAL.RESCORE_TOP > 0

    def second_pass(self, files, make_backend, ranks):
        if self._has_second_pass():
            from oscar_paddle.solvers.scoring.rescoring import Rescoring

            return Rescoring(self.cfg, self.data, files=files, backend=make_backend("float32"), ranks=ranks)
        return None

    def measure(self, scores):
        """Both directions across images, text retrieval only for candidate lists."""
        if self.data.candidates is not None:
            return retrieval_metrics(candidate_ranks(scores, self.data.positives), num_candidates=scores.shape[1])
        caption_image = self.data.caption_image()
        return retrieval_metrics(image_to_text_ranks(scores, caption_image), text_to_image_ranks(scores, caption_image))

    def report(self, scores, files):
        naming = {"dataset_name": self.cfg.DATASET.NAME, "image_list": self.cfg.EVAL.EVAL_IMG_KEYS_FILE}
        size, folds = (self.data.num_images, self.data.num_captions), self.cfg.EVAL.FOLDS
        candidates = 0 if self.data.candidates is None else self.data.candidates.shape[1]
        metrics = {"protocol": protocol_label(*size, **naming, candidates_per_image=candidates)}
        metrics.update(self.measure(scores))
        if folds > 1:
            folded = five_fold_metrics(scores, self.data.caption_image(), folds)
            metrics["folded"] = {"protocol": protocol_label(*size, **naming, folds=folds), **folded}
        if self.annotation_ids is not None:
            metrics["eccv_caption"] = eccv_metrics(scores, self.data.image_ids, self.annotation_ids, progress=True)
        return metrics

    def best_by(self, metrics):
        """R@1 of text retrieval, or of both directions' mean across images."""
        recalls = [metrics[d]["R@1"] for d in ("i2t_retrieval", "t2i_retrieval") if d in metrics]
        return float(np.mean(recalls))

    def lines(self, metrics):
        """The two lines that users of these repositories know; of a report, each under its protocol's name."""
        if "protocol" not in metrics:
            return [f"{self.split}: {line}" for line in recall_lines(metrics)]
        lines = [metrics["protocol"], *recall_lines(metrics)]
        if "rsum" in metrics:
            ranks = "I2T {i2t_median_rank:g} and {i2t_mean_rank:.1f}, T2I {t2i_median_rank:g} and {t2i_mean_rank:.1f}"
            lines.append(f"rsum {metrics['rsum']:.2f}; median and mean rank: {ranks.format(**metrics)}")
        if "folded" in metrics:  # in other words than the two lines, which so stay the only ones of their form
            folded = metrics["folded"]
            lines += [f"{folded['protocol']}: {line.replace(' Retrieval', '')}" for line in recall_lines(folded)]
        for name, both in metrics.get("eccv_caption", {}).items():
            lines.append(f"{name}: I2T {both['i2t']:.4f}, T2I {both['t2i']:.4f}")
        return lines


TASK = RetrievalTask


def recall_lines(metrics):
    """A line for each direction there is."""
    names = {"I2T": "i2t_retrieval", "T2I": "t2i_retrieval"}
    return [format_recall_line(name, metrics[key]) for name, key in names.items() if key in metrics]
