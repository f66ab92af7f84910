"""What the trunk asks of a task: nothing else in the trainer, the scorers or the evaluation knows one from another.

A task is a class in `solvers/tasks/<task>.py`. It loads no Paddle when it is imported, as the command line asks it
about settings before anything heavy starts.
"""

import hashlib
from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import NAMES_FILE, read_names
from oscar_paddle.models.packing import check_ids, pack

FINGERPRINT_IMAGES = 256  # so many images' features tell one feature file from another, in training


class Term(NamedTuple):
    """How one named part of the loss, or one figure beside it, enters the whole.

    A term is a sum over rows or tokens, divided by how many they are in all micro-batches and ranks.

    Attributes:
        weight: factor of the quotient.
        per_batch: divide the sum of each micro-batch of each rank by its own count, and take the mean over these (as
            DistributedDataParallel with accumulation does).
        is_loss: False: a figure (an accuracy, a reward) that is reported beside the loss, and nothing is trained on.
    """

    weight: float = 1.0
    per_batch: bool = False
    is_loss: bool = True


class Group(NamedTuple):
    """Parameters that are treated alike by the optimizer.

    Attributes:
        parts: the group has the names that contain one of these; () = every name.
        decays: whether weight decay applies. lr: factor of the learning rate.
    """

    parts: tuple
    decays: bool = True
    lr: float = 1.0


class Recipe(NamedTuple):
    """How a task's weights are updated; what OPTIMIZATION leaves open.

    Attributes:
        adamw: "reference" (epsilon joins the uncorrected root, decay comes after the update) | "corrected" (epsilon
            joins the bias-corrected root, decay comes before the update, as in torch.optim.AdamW and Paddle) | "bert"
            (no bias correction, decay is a part of the update, as in BertAdam).
        groups: Groups; a parameter belongs to the first one that has its name.
        schedule: function (step, warmup_steps, total_steps) -> factor of LR; None = OPTIMIZATION.LR_SCHEDULER.
        schedule_first: whether the schedule advances before the update, so that update k (from 1) uses step k, or
            after it: step k - 1.
        clip: what OPTIMIZATION.CLIP_MAX_NORM bounds: "global" (the norm of all gradients together) | "tensor" (that of
            each) | "value" (every element).
    """

    adamw: str = "reference"
    groups: tuple = (Group(("bias", "LayerNorm.weight"), decays=False), Group(()))
    schedule: object = None
    schedule_first: bool = True
    clip: str = "global"


class Head(NamedTuple):
    """What a task puts on the trunk.

    Attributes:
        model_class: OscarForClassification, or a class like it.
        config: dict, what config.json says of the head.
        adds_layernorm: whether a start from plain BERT gets a LayerNorm on the embedded regions, as retrieval's does.
        answers: see Task.
    """

    model_class: type
    config: dict
    adds_layernorm: bool = False
    answers: list | None = None


class Task:
    """One task for the trunk.

    Args:
        cfg: the frozen config.
        train: data set to train on; `load` reads it.
        dev: Evaluation of the split that is scored while training, or None.
    Attributes:
        name: for people. unit: what a row is called. dev_keys: what chooses `dev`, for messages.
        rows_per_example: rows that one example becomes in training.
        model_config: BertConfig of the model that is trained, or None before there is one.
        answers: list of str, what the classes are, for its checkpoints; None where they need no words.
        terms: {name: Term} of the loss.
        recipe: Recipe.
        draws: whether `losses` draws at random even where nothing is dropped out.
        own_keys: keys that other tasks do not read, by which a configuration shows what it is for.
        forward: set before `counts` and `losses`: which micro-batch of the run it is, from 1, on every rank alike.
    """

    name, unit, rows_per_example, dev_keys = "", "examples", 1, "DATASET.DEV"
    terms, answers, model_config, forward = {"loss": Term()}, None, None, 0
    recipe, draws, own_keys = Recipe(), False, ()

    def __init__(self, cfg, train=None, dev=None):
        self.cfg, self.train, self.dev = cfg, train, dev

    @staticmethod
    def needs(cfg, action):
        """Rows for `config.checks.contradiction`; `action` is "train" or "eval"."""
        raise NotImplementedError

    # ---- checking the data

    @classmethod
    def files(cls, cfg):
        """Paths of which at least one is there where the configuration's data are for this task."""
        return []

    @classmethod
    def check(cls, cfg, split_names, *, max_images, processes, picture_files, seed):
        """Check the data of splits (None = those of the configuration): an object as `datasets.checks.dataset` or
        `datasets.checks.questions` gives, which `tools.pages.dataset` reports; the arguments are those of
        `check_dataset`.
        """
        raise NotImplementedError

    # ---- training

    def load(self, tokenizer):
        """Read the data of a training run into `train` and, if it evaluates, `dev`."""
        self.train = self.training_data(tokenizer)
        if self.cfg.MONITOR.EVAL_FREQ or self.cfg.MONITOR.EVAL_STEPS:
            self.dev = self.evaluation(tokenizer, self.cfg.DATASET.DEV)

    def training_data(self, tokenizer):
        raise NotImplementedError

    def head(self):
        """Head of a model to train."""
        raise NotImplementedError

    def model_class(self):
        """The model's class, see `models.oscar`."""
        from oscar_paddle.models.oscar import OscarForClassification

        return OscarForClassification

    @property
    def num_examples(self):
        raise NotImplementedError

    def batch(self, examples, epoch):
        """Whatever `counts` and `losses` take for these examples: pure in (seed, epoch, examples), made in a thread.

        Those below, of a task with one term, take (PackedBatch, labels or soft targets of its rows).
        """
        raise NotImplementedError

    def pack(self, batch, where, mask_type="CLR"):
        """PackedBatch of named arrays (`datasets.collate`), if all ids are in the model's tables; see `check_ids`."""
        if self.model_config is not None:
            check_ids(batch, self.model_config, where)
        return pack(batch, mask_type)

    def counts(self, batch):
        """{name of a term: int, the rows or tokens of this batch that its sum is over}.

        Asked of every micro-batch of an update, in order, before the first of them goes to `losses`.
        """
        return {name: len(batch[1]) for name in self.terms}

    def losses(self, model, batch):
        """{name of a term: float32 scalar tensor, its sum}.

        The model is in training mode and random draws are seeded by (seed, step, micro-batch, rank); it may be called
        several times, also without gradient or in evaluation mode.
        """
        return {name: model.row_losses(*batch, self.cfg.OPTIMIZATION.LOSS_TYPE).sum() for name in self.terms}

    def describe(self, examples):
        """The examples in words, for messages."""
        raise NotImplementedError

    def fingerprint(self):
        """{what: hex digest} of the data that the numbers of a run depend on, under names for messages."""
        raise NotImplementedError

    def digests(self, image_ids, **tables):
        """The same, of a training split with these images and {what: TokenTable}, and of the dev split if any."""
        images = every_so_many(image_ids, FINGERPRINT_IMAGES)
        found = {
            "the training split (DATASET.TRAIN)": self.train.fingerprint(),
            "the region features (DATASET.FEAT_FILE)": self.train.regions.fingerprint(images),
        }
        for what, table in tables.items():
            found[f"the token ids of the training {what} (vocab.txt)"] = training_digest(table.ids)
        return found if self.dev is None else {**found, f"the dev split ({self.dev_keys})": self.dev.data.fingerprint()}

    # ---- evaluation

    def evaluation(self, tokenizer, split):
        """Evaluation of a split."""
        raise NotImplementedError


class Evaluation:
    """One split, to be scored as a matrix of float32 and measured.

    Attributes:
        data: the data set.
        scorer_class: BlockScorer of such data.
        matrix: name of the file of results in an evaluation folder.
        scoring_keys: keys that decide results, besides those that every task shares.
    """

    scorer_class, matrix, scoring_keys = None, "", ()

    def __init__(self, cfg, data, split):
        self.cfg, self.data, self.split = cfg, data, split

    def check(self):
        """Raise, before hours of scoring, what could not be reported after them."""

    def check_model(self, config):
        """Raise WeightsError or DataError where a model of this BertConfig does not fit the data."""

    @property
    def shape(self):
        """(rows, columns) of the results."""
        raise NotImplementedError

    def groups(self):
        """The matrix as lists of Blocks; one rank scores all of a list."""
        raise NotImplementedError

    def rows_to_score(self):
        """How many rows the encoder sees."""
        raise NotImplementedError

    def folder_name(self):
        """Name of the evaluation folder below eval/ in the checkpoint folder."""
        raise NotImplementedError

    def contents(self):
        """{name of a JSON file: what it holds} that says what rows and columns are."""
        return {}

    def provenance(self):
        """{"data": {...}, ...}: what the results depend on, besides checkpoint and settings."""
        raise NotImplementedError

    def backend(self, model, options, precision, *, weights, programs, ranks):
        """What `scorer_class` runs the model with.

        Args:
            model: of the task's class, in evaluation mode.
            options: EVAL.BACKEND. precision: EVAL.PRECISION.
            weights: hash of the weights. programs: folder of exported programs.
            ranks: Ranks.
        """
        from oscar_paddle.solvers.scoring.backends import build_backend  # Paddle loads here

        return build_backend(model, options, precision, weights, programs, ranks, self.scorer_class.output)

    def backend_in_training(self, model, ranks):
        """The same for weights that will change again."""
        from oscar_paddle.solvers.scoring.backends import backend_in_training

        return backend_in_training(model, self.rows_to_score() // ranks.world_size, self.scorer_class.output)

    def second_pass(self, files, make_backend, ranks):
        """What scores a part of the results again, or None (see `solvers.scoring.rescoring`)."""
        return None

    def measure(self, scores):
        """dict of metrics of a whole matrix of results."""
        raise NotImplementedError

    def report(self, scores, files):
        """The same for an evaluation folder, with all that its settings ask for; may write further files."""
        return self.measure(scores)

    def best_by(self, metrics):
        """The score that `best` follows, higher is better."""
        raise NotImplementedError

    def lines(self, metrics):
        """What people are told."""
        raise NotImplementedError


def digest(array):
    """Short hex digest of an array's bytes."""
    return hashlib.blake2b(array, digest_size=16).hexdigest()


def training_digest(array):
    """The same as checkpoints keep it: another length of hash, so other digits."""
    return hashlib.blake2b(array).hexdigest()[:32]


def every_so_many(items, most):
    """At most so many of a list, spread evenly."""
    return items[:: -(-len(items) // most)]


def names_of(image_ids, data_dir):
    """{NAMES_FILE: {image id: name of its picture}}, to keep with results, or {}: own ids mean little elsewhere."""
    try:
        names = read_names(data_dir) if data_dir else {}
    except DataError:  # said where they are needed
        names = {}
    found = {str(image_id): names[image_id] for image_id in image_ids if image_id in names}
    return {NAMES_FILE: found} if found else {}
