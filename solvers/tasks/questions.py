"""VQA, GQA and NLVR2 for the trainer: batches, loss, and the score on the dev split."""

import hashlib
import logging
from collections.abc import Callable
from typing import NamedTuple

import paddle

from oscar_paddle.models.losses import classification_losses
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.build import Head, load_tokenizer, model_for_training
from oscar_paddle.solvers.scoring.examples import predict

log = logging.getLogger(__name__)

FINGERPRINT_IMAGES = 256  # so many images' features tell one feature file from another


class TaskKind(NamedTuple):
    """What tells one task from another.

    Attributes:
        name: for people.
        build_data: function (cfg, tokenizer, split) -> ExampleDataset.
        model_class: OscarForClassification or OscarForImagePairs.
        metrics: function (ExampleDataset, predicted classes [E]) -> dict.
        score: the one of the metrics that `best` follows and the tools print.
        has_soft_targets: whether the loss takes the soft score of every answer, or the first answer only.
        results: function (question ids, answers) -> what the evaluation server takes, or None.
    """

    name: str
    build_data: Callable
    model_class: type
    metrics: Callable
    score: str
    has_soft_targets: bool = False
    results: Callable | None = None


class ExampleTask:
    """Classification of examples (see `Trainer` for the methods).

    Args:
        kind: TaskKind.
        train: ExampleDataset to train on.
        dev: ExampleDataset to score while training, or None.
        cfg: the frozen config.
        ranks: Ranks; examples of the dev split are divided among them.
    """

    rows_per_example, unit = 1, "examples"

    def __init__(self, kind, train, dev, cfg, ranks):
        self.kind, self.train, self.dev, self.cfg, self.ranks = kind, train, dev, cfg, ranks
        self.num_examples = train.num_examples

    def fingerprint(self):
        """{what: hex digest} of the data that the numbers of a run depend on, under names for messages."""
        digests = {"the training split (DATASET.TRAIN)": self.train.fingerprint()}
        for name, tokens in (("sentences", self.train.sentence_tokens), ("tags", self.train.tag_tokens)):
            digests[f"the token ids of the training {name} (vocab.txt)"] = hashlib.blake2b(tokens.ids).hexdigest()[:32]
        images = self.train.image_ids()
        sample = images[:: -(-len(images) // FINGERPRINT_IMAGES)]
        digests["the region features (DATASET.FEAT_FILE)"] = self.train.regions.fingerprint(sample)
        if self.dev is not None:
            digests["the dev split (DATASET.DEV)"] = self.dev.fingerprint()
        return digests

    def batch(self, examples, epoch):
        """Examples -> (PackedBatch, labels [B] int64 or soft targets [B, C] float32)."""
        targets = self.train.soft_targets if self.kind.has_soft_targets else self.train.labels
        return pack(**self.train.batch(examples)), targets(examples)

    def losses(self, model, batch):
        """Loss of every example, [B] float32."""
        packed, targets = batch
        return classification_losses(model(packed), paddle.to_tensor(targets), self.cfg.OPTIMIZATION.LOSS_TYPE)

    def describe(self, examples):
        """The examples as places in their files, for messages."""
        return ", ".join(self.train.examples.where(example) for example in examples)

    def evaluate(self, model):
        """(score, metrics) on the dev split."""
        predicted, _ = predict(model, self.dev, self.cfg.EVAL.BATCH_TOKENS, self.ranks)
        metrics = self.kind.metrics(self.dev, predicted)
        log.info("%s", metrics_line(self.kind, self.cfg.DATASET.DEV, metrics))
        return metrics[self.kind.score], metrics


def metrics_line(kind, split, metrics):
    """One line for people: `VQA val: score 74.82 % (10,402 examples)`."""
    shown = [kind.score, *(name for name in ("consistency",) if name in metrics)]
    values = ", ".join(f"{name} {100 * metrics[name]:.2f} %" for name in shown)
    return f"{kind.name} {split}: {values} ({metrics['num_examples']:,} examples)"


def build_example_training(cfg, ranks, kind):
    """(model, task, tokenizer) of a training run."""
    tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
    train = kind.build_data(cfg, tokenizer, cfg.DATASET.TRAIN)
    evaluates = cfg.MONITOR.EVAL_FREQ or cfg.MONITOR.EVAL_STEPS
    dev = kind.build_data(cfg, tokenizer, cfg.DATASET.DEV) if evaluates else None
    head = {
        "num_labels": train.num_classes,
        "classifier": cfg.OUTPUT.CLASSIFIER,
        "cls_hidden_scale": cfg.OUTPUT.CLS_HIDDEN_SCALE,
    }
    model = model_for_training(cfg, tokenizer, Head(kind.model_class, head))
    return model, ExampleTask(kind, train, dev, cfg, ranks), tokenizer
