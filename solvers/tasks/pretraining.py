"""Pre-training: masked words of caption and tags, and whether caption, tags and image belong together."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.checks import all_see_all, evaluates_while_training, folders
from oscar_paddle.config.errors import DataError, WeightsError
from oscar_paddle.datasets.corpus.draws import examples_beside
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data, rules_of
from oscar_paddle.models.config import contrast_classes, read_model_config
from oscar_paddle.models.packing import PackedBatch
from oscar_paddle.solvers.metrics.pretraining import pretraining_metrics
from oscar_paddle.solvers.scoring.triples import COLUMNS, TripleScorer, triple_blocks
from oscar_paddle.solvers.tasks.task import Evaluation, Head, Recipe, Task, Term

EXTRA = "extra_"  # before the names of the second corpus' losses and figures


class Triples(NamedTuple):
    """The rows of a micro-batch that come from one corpus; see `PretrainingDataset.batch`."""

    packed: PackedBatch
    masked_positions: np.ndarray
    masked_labels: np.ndarray
    contrast_labels: np.ndarray


class PretrainingTask(Task):
    """Masked words and contrast on one corpus, or on two side by side.

    Attributes:
        extra: PretrainingDataset of the second corpus, or None.
    Source: docs/reference.md, pre-training.
    """

    name, unit, dev_keys = "pre-training", "triples", "CORPUS.DEV_DATASET_FILE"
    recipe = Recipe(schedule_first=False)
    own_keys = ("CORPUS.DATASET_FILE", "CORPUS.DEV_DATASET_FILE")

    def __init__(self, cfg, train=None, dev=None, extra=None):
        super().__init__(cfg, train, dev)
        self.extra, weight = extra, cfg.CORPUS.EXTRA_LOSS_WEIGHT
        self.terms = self._terms("", 1 - weight)
        if cfg.CORPUS.EXTRA_DATASET_FILE:
            self.rows_per_example = 2
            self.terms |= self._terms(EXTRA, weight)

    def _terms(self, prefix, weight):
        loss = Term(weight, per_batch=self.cfg.CORPUS.MEAN_OVER == "batch")
        figure = Term(is_loss=False)
        terms = {"masked_words": loss, "contrast": loss, "masked_accuracy": figure, "contrast_accuracy": figure}
        return {prefix + name: term for name, term in terms.items()}

    @staticmethod
    def needs(cfg, action):
        corpus = cfg.CORPUS
        yield from folders(cfg, action, "the corpus")
        yield all_see_all(cfg)
        keys = "CORPUS.CHUNK_START_ID", "CORPUS.CHUNK_END_ID"
        none = 0 <= corpus.CHUNK_END_ID <= corpus.CHUNK_START_ID or not corpus.CHUNK_END_ID
        yield keys, none, "these choose no chunk: CHUNK_END_ID is the one behind the last; -1 chooses all"
        held_out = "set it to the YAML file of a corpus that is not trained on"
        if action == "eval":
            yield ("CORPUS.DEV_DATASET_FILE",), not corpus.DEV_DATASET_FILE, held_out
            remedy = "losses are measured in float32: set PRECISION to 'float32'"
            yield ("EVAL.PRECISION",), cfg.EVAL.PRECISION != "float32", remedy
            remedy = "the heads of pre-training are not exported: set BACKEND to 'auto' or 'eager'"
            yield ("EVAL.BACKEND",), cfg.EVAL.BACKEND == "inference", remedy
            return
        yield ("CORPUS.DATASET_FILE",), not corpus.DATASET_FILE, "set it to the YAML file of the corpus"
        remedy = f"{held_out}, or EVAL_FREQ and EVAL_STEPS to 0"
        keys = "CORPUS.DEV_DATASET_FILE", "MONITOR.EVAL_FREQ", "MONITOR.EVAL_STEPS"
        yield keys, evaluates_while_training(cfg) and not corpus.DEV_DATASET_FILE, remedy
        remedy = "a second corpus of weight 0 is read for nothing: set EXTRA_LOSS_WEIGHT above 0"
        keys = "CORPUS.EXTRA_DATASET_FILE", "CORPUS.EXTRA_LOSS_WEIGHT"
        yield keys, corpus.EXTRA_DATASET_FILE and not corpus.EXTRA_LOSS_WEIGHT, remedy

    @classmethod
    def files(cls, cfg):
        corpus = cfg.CORPUS
        names = (corpus.DATASET_FILE, corpus.EXTRA_DATASET_FILE, corpus.DEV_DATASET_FILE)
        return [str(Path(cfg.DATASET.DATA_DIR) / name) for name in names if name]

    @classmethod
    def check(cls, cfg, split_names, *, max_images, seed, **options):
        from oscar_paddle.datasets.checks.corpora import check_corpora

        check = check_corpora(cfg, split_names, max_images, seed)
        check.sections.append(("Contrast classes", _class_rows(cfg)))
        return check

    def training_data(self, tokenizer):
        corpus = self.cfg.CORPUS
        if name := corpus.EXTRA_DATASET_FILE:
            self.extra = build_pretraining_data(self.cfg, tokenizer, name, 1, corpus.EXTRA_TEXTB_SAMPLE_MODE)
        return build_pretraining_data(self.cfg, tokenizer, corpus.DATASET_FILE)

    def model_class(self):
        from oscar_paddle.models.pretraining import OscarForPretraining  # Paddle loads here

        return OscarForPretraining

    def head(self):
        return Head(self.model_class(), {"num_contrast_classes": self.train.num_contrast_classes})

    @property
    def num_examples(self):
        return self.train.num_examples

    def batch(self, examples, epoch):
        """{"": Triples, "extra_": those of the second corpus, if there is one}."""
        found = {"": self._triples(self.train, examples, epoch)}
        if self.extra is not None:
            sizes = {"size": self.num_examples, "extra_size": self.extra.num_examples}
            beside, passes = examples_beside(examples=examples, epoch=epoch, seed=self.cfg.MISC.SEED, **sizes)
            found[EXTRA] = self._triples(self.extra, beside, passes)
        return found

    def _triples(self, data, examples, epoch):
        batch = data.batch(examples, epoch)
        packed = self.pack(batch, lambda row: data.describe([examples[row]]))
        return Triples(packed, batch["masked_positions"], batch["masked_labels"], batch["contrast_labels"])

    def counts(self, batch):
        found = {}
        for prefix, triples in batch.items():
            words, rows = len(triples.masked_labels), len(triples.contrast_labels)
            found[f"{prefix}masked_words"] = found[f"{prefix}masked_accuracy"] = words
            found[f"{prefix}contrast"] = found[f"{prefix}contrast_accuracy"] = rows
        return found

    def losses(self, model, batch):
        found = {}
        for prefix, triples in batch.items():
            words, rows = model.losses(*triples)
            for name, (losses, right) in (("masked", words), ("contrast", rows)):
                found[prefix + ("masked_words" if name == "masked" else name)] = losses.sum()
                found[f"{prefix}{name}_accuracy"] = right.sum()
        return found

    def describe(self, examples):
        return self.train.describe(examples)

    def fingerprint(self):
        settings = self.cfg.CORPUS
        found = {
            "the corpus (CORPUS.DATASET_FILE) and how items are drawn": self.train.fingerprint(),
            "the region features of the corpus": self.train.corpus.features_fingerprint(),
            "the mean (CORPUS.MEAN_OVER)": settings.MEAN_OVER,
            "the weight (CORPUS.EXTRA_LOSS_WEIGHT)": settings.EXTRA_LOSS_WEIGHT,
        }
        if self.extra is not None:
            found["the second corpus (CORPUS.EXTRA_DATASET_FILE) and its draws"] = self.extra.fingerprint()
            found["the region features of the second corpus"] = self.extra.corpus.features_fingerprint()
        if self.dev is not None:
            found[f"the held-out corpus ({self.dev_keys})"] = self.dev.data.fingerprint()
        return found

    def evaluation(self, tokenizer, split):
        """Of the corpus that is held out; the name of a split says nothing here."""
        name = self.cfg.CORPUS.DEV_DATASET_FILE
        return PretrainingEvaluation(self.cfg, build_pretraining_data(self.cfg, tokenizer, name), Path(name).stem)


class PretrainingEvaluation(Evaluation):
    """Losses, accuracies and matching R@1 on a corpus that is held out; its items are drawn as in training."""

    scorer_class, matrix = TripleScorer, "results.npy"
    scoring_keys = ("CORPUS.MATCHING_CAPTIONS", "MISC.SEED")

    def check_model(self, config):
        wanted, found = self.data.num_contrast_classes, config.num_contrast_classes
        if wanted != found:
            raise DataError(
                f"{self.cfg.EVAL.CHECKPOINT_DIR}/config.json: num_contrast_classes is {found}, but "
                f"CORPUS.TEXTA_FALSE_PROB {self.data.rules.texta_false_prob:g} draws items of {wanted} classes: set it "
                "as in training"
            )

    @property
    def shape(self):
        return self.data.num_examples, len(COLUMNS) + self.cfg.CORPUS.MATCHING_CAPTIONS

    def groups(self):
        return triple_blocks(self.data.num_examples, self.cfg.CORPUS.MATCHING_CAPTIONS)

    def rows_to_score(self):
        return self.data.num_examples * (1 + self.cfg.CORPUS.MATCHING_CAPTIONS)

    def folder_name(self):
        return self.split

    def provenance(self):
        corpus = self.data.corpus
        return {
            "data": {
                "name": self.cfg.DATASET.NAME,
                "examples": self.data.num_examples,
                "content": self.data.fingerprint(),
                "features": corpus.features_fingerprint(),
            }
        }

    def backend(self, model, options, precision, *, weights, programs, ranks):
        return self.backend_in_training(model, ranks)

    def backend_in_training(self, model, ranks):
        from oscar_paddle.solvers.scoring.backends import EagerBackend  # Paddle loads here

        return EagerBackend(model)

    def measure(self, scores):
        return pretraining_metrics(scores)

    def best_by(self, metrics):
        """The sum of both losses, negative: higher is better."""
        return -metrics["loss"]

    def lines(self, metrics):
        losses = ", ".join(f"{name} {value:.4f}" for name, value in metrics["losses"].items())
        shares = ", ".join(f"{name} {100 * value:.2f} %" for name, value in metrics["curves"].items())
        return [f"{self.split}: loss {metrics['loss']:.4f} ({losses}); {shares} ({metrics['num_examples']:,} triples)"]


def _class_rows(cfg):
    """What a run would have for classes, and those of the checkpoint that it starts from, for a report."""
    wanted = rules_of(cfg).num_contrast_classes
    rows = [(f"of the items (CORPUS.TEXTA_FALSE_PROB {cfg.CORPUS.TEXTA_FALSE_PROB:g})", str(wanted), "")]
    try:
        found = contrast_classes(read_model_config(cfg.PRETRAINED.DIR))
    except WeightsError:  # said when a run starts
        return rows
    words = str(found) if found == wanted else f"{found}: cls.seq_relationship starts afresh"
    return [*rows, (f"of {cfg.PRETRAINED.DIR}", words, "")]


TASK = PretrainingTask
