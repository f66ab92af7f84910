"""Referring expressions: which region of a picture does a text mean?

An evaluation folder holds

    scores.npy         float32 [expressions, R]: the logit of every region row; -inf where an image has fewer
    <split>_result.json   as upstream writes it: [{"id": image id, "target": row, "IOU": its overlap}, ...]
    predictions.json   the same in words, with boxes, see `ReferEvaluation.in_words`
    proposals.json     {image id: {"boxes": [[x1, y1, x2, y2], ...] of the rows in pixels, "size": [width, height]}}
    metrics.json, provenance.json   see `solvers.scoring.folder`
"""

from functools import partial

import numpy as np

from oscar_paddle.config.checks import all_see_all, choices, folders
from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.captions.own_pictures import NAMES_FILE
from oscar_paddle.datasets.refer.annotations import SPLITS
from oscar_paddle.datasets.refer_dataset import annotation_folder, build_refer_data, corners, data_of_texts, iou
from oscar_paddle.solvers.metrics.refer import HIT, refer_metrics
from oscar_paddle.solvers.tasks.task import (
    Evaluation,
    Group,
    Head,
    Recipe,
    Task,
    Term,
    digest,
    every_so_many,
    training_digest,
)

HEADS = ("vil_prediction", "vil_logit", "vision_logit")
RECIPE_KEYS = ("CUT", "RECIPE", "HEAD_LR", "WARMUP_SHARE", "DECAY_EPOCHS")  # what a run is not resumed without
KEY = "region_detector"  # in a checkpoint's config.json: what made the features it was trained on


class ReferTask(Task):
    """A score for every region, trained towards its overlap with the object that is meant."""

    name, unit = "RefExp", "expressions"
    terms = {"region": Term(), "accuracy": Term(is_loss=False)}
    own_keys = ("REFER.DATASET", "REFER.SPLIT_BY", "REFER.GROUND_TRUTH", "REFER.DETECTOR")

    @staticmethod
    def needs(cfg, action):
        yield from folders(cfg, action, "the data sets: refcoco+ with refs(unc).p, the LMDB stores beside it")
        splits = SPLITS[cfg.REFER.SPLIT_BY]
        allowed = {"DATASET.TRAIN": splits[:1], "DATASET.DEV": splits, "DATASET.TEST": splits}
        yield from choices(cfg, action, f"refs({cfg.REFER.SPLIT_BY}).p", allowed)
        yield from choices(cfg, action, "this task", {"OUTPUT.NUM_LABELS": (2,), "EVAL.PRECISION": ("float32",)})
        yield all_see_all(cfg)
        remedy = "a control is for evaluations: set 'none'"
        yield ("REFER.CONTROL",), action == "train" and cfg.REFER.CONTROL != "none", remedy
        remedy = "the first row is the whole picture, so no proposal is seen: set it to 2 or more"
        yield ("INPUT.MAX_REGION",), cfg.INPUT.MAX_REGION < 2, remedy
        late = [number for number in decay_epochs(cfg) if number >= cfg.OPTIMIZATION.EPOCHS]
        yield ("REFER.DECAY_EPOCHS", "OPTIMIZATION.EPOCHS"), bool(late), "the rate would fall after the last epoch"

    @classmethod
    def files(cls, cfg):
        return [f"{annotation_folder(cfg)}/refs({split_by}).p" for split_by in SPLITS]

    @classmethod
    def check(cls, cfg, split_names, *, picture_files=None, **options):
        from oscar_paddle.datasets.checks.refer import check_refer

        return check_refer(cfg, split_names, **options)

    @property
    def recipe(self):
        return recipe(self.cfg)

    def training_data(self, tokenizer):
        return build_refer_data(self.cfg, tokenizer, self.cfg.DATASET.TRAIN, training=True)

    def model_class(self):
        from oscar_paddle.models.vilbert import VilbertForReferring

        return VilbertForReferring

    def head(self):
        options = self.cfg.OPTIMIZATION
        config = {"v_hidden_dropout_prob": options.DROPOUT}
        if options.ATTENTION_DROPOUT >= 0:
            config["v_attention_probs_dropout_prob"] = options.ATTENTION_DROPOUT
        return Head(self.model_class(), {**config, KEY: self.train.proposals.detector or self.cfg.REFER.DETECTOR})

    @property
    def num_examples(self):
        return self.train.num_examples

    def batch(self, examples, epoch):
        """Examples -> (StreamBatch, targets [Pv] float32, of the regions of each expression in turn)."""
        from oscar_paddle.models.packing import check_ids
        from oscar_paddle.models.stream_packing import pack_streams

        arrays = self.train.batch(examples)
        if self.model_config is not None:
            check_ids(arrays, self.model_config, lambda row: self.train.where(examples[row]))
        return pack_streams(arrays), arrays["targets"]

    def counts(self, batch):
        return dict.fromkeys(self.terms, len(batch[0].region_bias))

    def losses(self, model, batch):
        """Source: docs/reference.md, referring expressions: the sum over an expression's rows, the mean over
        expressions."""
        import paddle
        from paddle.nn.functional import binary_cross_entropy_with_logits

        from oscar_paddle.models.device import to_device

        packed, targets = batch
        scores, (targets, spread) = model(packed), to_device(targets, packed.region_spread)
        loss = binary_cross_entropy_with_logits(scores, targets, reduction="sum")
        with paddle.no_grad():  # places behind the end of a row show some region of any row: they are hidden here
            hidden = to_device(packed.region_bias[:, 0, 0])[0]
            best = (paddle.gather(scores, spread.flatten()).reshape(spread.shape) + hidden).argmax(axis=1, keepdim=True)
            right = paddle.gather(targets, paddle.take_along_axis(spread, best, 1).flatten()) > HIT
        return {"region": loss, "accuracy": right.astype("float32").sum()}

    def describe(self, examples):
        return ", ".join(self.train.where(example) for example in examples)

    def fingerprint(self):
        train, images = self.train, every_so_many(self.train.image_ids(), 256)
        own = [self.cfg.REFER[key] for key in RECIPE_KEYS]
        further = {
            "the annotated boxes (REFER.GROUND_TRUTH)": train.ground_truth.fingerprint(images),
            f"the recipe (REFER: {', '.join(RECIPE_KEYS)})": training_digest(repr(own).encode()),
        }
        return {**self.digests(train.image_ids(), expressions=train.tokens), **further}

    def evaluation(self, tokenizer, split):
        return ReferEvaluation(self.cfg, build_refer_data(self.cfg, tokenizer, split), split)


TASK = ReferTask


class ReferEvaluation(Evaluation):
    """Logits of all region rows of every expression of a ReferDataset; the rows are proposals only."""

    matrix = "scores.npy"
    scoring_keys = ("REFER.CUT", "REFER.CONTROL")

    @property
    def scorer_class(self):
        from oscar_paddle.solvers.scoring.regions import RegionScorer

        return RegionScorer

    def check_model(self, config):
        """Refuse features of another detector than those that the model was trained on."""
        trained, found = getattr(config, KEY, ""), self.data.proposals.detector
        if trained and found and trained != found:
            raise DataError(
                f"{self.data.proposals.path}: features of {found!r}, but {self.cfg.EVAL.CHECKPOINT_DIR} was trained on "
                f"those of {trained!r} ({KEY} in config.json); evaluate with the store that belongs to it"
            )

    @property
    def shape(self):
        return self.data.num_examples, self.data.num_columns

    def groups(self):
        from oscar_paddle.solvers.scoring.regions import region_blocks

        return region_blocks(*self.shape)

    def rows_to_score(self):
        return self.data.num_examples

    def folder_name(self):
        control = "" if self.cfg.REFER.CONTROL == "none" else f"-other-{self.cfg.REFER.CONTROL}"
        return f"{self.cfg.REFER.DATASET}-{self.split}{control}"

    def contents(self):
        return {NAMES_FILE: {str(image_id): name for image_id, name in self.data.pictures.items()}}

    def provenance(self):
        data = self.data
        return {
            "data": {
                "name": self.cfg.DATASET.NAME,
                "set": self.cfg.REFER.DATASET,
                "split": self.split,
                "expressions": data.num_examples,
                "content": data.fingerprint(),
                "tokens": [digest(data.tokens.ids)],
                "detector": data.proposals.detector,
                "features": data.proposals.fingerprint(data.image_ids()),
            }
        }

    def backend(self, model, options, precision, *, weights, programs, ranks):
        from oscar_paddle.solvers.scoring.region_program import region_backend

        return region_backend(model, options, precision, weights=weights, programs=programs, ranks=ranks)

    def backend_in_training(self, model, ranks):
        return self.backend(model, "eager", "float32", weights="", programs="", ranks=ranks)

    def measure(self, scores):
        data = self.data
        words = np.array([len(each.text.split()) for each in data.expressions])
        alike = np.array([each.alike for each in data.expressions])
        return refer_metrics(np.asarray(scores), data.overlaps(), words, alike, data.largest())

    def report(self, scores, files):
        scores = np.asarray(scores)
        chosen, overlaps = scores.argmax(axis=1), self.data.overlaps()
        results = [
            {"id": each.image_id, "target": int(row), "IOU": float(overlaps[number, row])}
            for number, (each, row) in enumerate(zip(self.data.expressions, chosen, strict=True))
        ]
        files.write_json(f"{self.split}_result.json", results)
        files.write_json("predictions.json", self.in_words(scores, chosen))
        files.write_json(
            "proposals.json", {str(image_id): place(self.data, image_id) for image_id in self.data.image_ids()}
        )
        metrics = {"data_set": self.cfg.REFER.DATASET, "split": self.split, "control": self.cfg.REFER.CONTROL}
        return {**metrics, **self.measure(scores)}

    def in_words(self, scores, chosen):
        """A list of {"sent_id", "ref_id", "image_id", "expression", "category", "alike", "box" and "predicted" (x1, y1,
        x2, y2 in pixels), "row", "logit", "iou", "best_iou"}, in the split's order."""
        found, data = [], self.data
        for number, (each, row) in enumerate(zip(data.expressions, chosen.tolist(), strict=True)):
            boxes = data.boxes(each.image_id)
            overlaps = iou(boxes, corners(each.box))
            told = {name: getattr(each, name) for name in ("sent_id", "ref_id", "image_id", "category", "alike")}
            answer = {"row": row, "logit": round(float(scores[number, row]), 4), "iou": round(float(overlaps[row]), 4)}
            both = {"box": np.round(corners(each.box), 2).tolist(), "predicted": np.round(boxes[row], 2).tolist()}
            best = {"best_iou": round(float(overlaps.max()), 4)}
            found.append({**told, "expression": data.shown_texts[number], **both, **answer, **best})
        return found

    def best_by(self, metrics):
        return metrics["accuracy"]

    def lines(self, metrics):
        """`RefExp refcoco+ val: accuracy 72.71 % (10,758 expressions); the proposals allow 86.10 %, ...`"""
        control = {"expressions": ", expressions of other pictures", "features": ", features of other pictures"}
        name = f"{ReferTask.name} {self.cfg.REFER.DATASET} {self.split}{control.get(self.cfg.REFER.CONTROL, '')}"
        most, largest = 100 * metrics["oracle_accuracy"], 100 * metrics["largest_box"]
        accuracy = f"accuracy {100 * metrics['accuracy']:.2f} % ({metrics['num_expressions']:,} expressions)"
        lines = [f"{name}: {accuracy}; the proposals allow {most:.2f} %, the largest box reaches {largest:.2f} %"]
        for title, groups in (("by length", "by_length"), ("objects of its class", "by_alike")):
            parts = [f"{group} {100 * found['accuracy']:.1f} %" for group, found in metrics[groups].items()]
            lines.append(f"  {title}: {', '.join(parts)}")
        return lines


def place(data, image_id):
    """Boxes of an image's rows and its size, for proposals.json."""
    boxes = np.round(data.boxes(image_id), 2).astype(float)
    return {"boxes": boxes.round(2).tolist(), "size": boxes[0, 2:].tolist()}


def answers_about(cfg, image_id, texts):
    """What a checkpoint makes of texts about one image, whatever they are.

    Args:
        cfg: the frozen config of an evaluation. image_id: id in the proposals, as text. texts: list of str.
    Returns:
        (list of dicts as in predictions.json, with "ranked": [(row, logit, box), ...], the best first; box, iou and
        best_iou are None where the split has no such expression about the image; what `place` gives; the name of the
        picture's file, or "").
    Raises:
        DataError, WeightsError: see `build_refer_data` and `model_for_evaluation`.
    """
    from oscar_paddle.models.packing import check_ids
    from oscar_paddle.models.stream_packing import pack_streams
    from oscar_paddle.solvers.build import as_trained, load_tokenizer, model_for_evaluation
    from oscar_paddle.solvers.runtime import set_device
    from oscar_paddle.solvers.scoring.regions import StreamBackend

    set_device(cfg)
    model_class = ReferTask(cfg).model_class()
    cfg = as_trained(cfg, partial(ReferTask.needs, action="eval"), model_class.config_class)
    tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
    data, known = data_of_texts(cfg, tokenizer, image_id, texts)
    model = model_for_evaluation(cfg, tokenizer, model_class)
    ReferEvaluation(cfg, data, cfg.DATASET.TEST).check_model(model.config)
    batch = data.batch(np.arange(len(texts)))
    check_ids(batch, model.config, lambda row: f"the expression {texts[row]!r}")
    scores = np.asarray(StreamBackend(model).region_scores(pack_streams(batch))).reshape(len(texts), -1)
    boxes, answers = data.boxes(data.expressions[0].image_id), []
    for text, logits, each in zip(texts, scores, known, strict=True):
        order = np.argsort(-logits, kind="stable").tolist()
        ranked = [(row, round(float(logits[row]), 4), np.round(boxes[row], 2).astype(float).tolist()) for row in order]
        row, logit, box = ranked[0]
        answer = {"expression": text, "image_id": data.expressions[0].image_id, "row": row, "logit": logit}
        answer |= {"predicted": box, "box": None, "iou": None, "best_iou": None, "alike": None, "ranked": ranked}
        if each is not None:
            overlaps = iou(boxes, corners(each.box))
            answer |= {"box": corners(each.box).tolist(), "iou": float(overlaps[row]), "alike": each.alike}
            answer["best_iou"] = float(overlaps.max())
        answers.append(answer)
    return answers, place(data, data.expressions[0].image_id), next(iter(data.pictures.values()), "")


# ---- training recipes


def decay_epochs(cfg):
    """REFER.DECAY_EPOCHS as a list of int; ConfigError where it is no such list."""
    try:
        found = [int(word) for word in cfg.REFER.DECAY_EPOCHS.replace(",", " ").split()]
        if min(found, default=0) < 0:
            raise ValueError
        return found
    except ValueError:
        found = cfg.REFER.DECAY_EPOCHS
        raise ConfigError(f"REFER.DECAY_EPOCHS is {found!r}; expected epochs, such as '12, 16'") from None


def recipe(cfg):
    """Recipe of the Paddle port, of the paper's code or of vilbert-multi-task (REFER.RECIPE).

    Source: docs/reference.md, ViLBERT recipes.
    """
    head = cfg.REFER.HEAD_LR / cfg.OPTIMIZATION.LR if cfg.REFER.HEAD_LR else 1.0
    shape = partial(
        schedule,
        epochs=cfg.OPTIMIZATION.EPOCHS,
        decay_epochs=tuple(decay_epochs(cfg)),
        warmup_share=cfg.REFER.WARMUP_SHARE,
        whole_steps=cfg.REFER.RECIPE == "port",
        falls=cfg.REFER.RECIPE == "multitask" and not decay_epochs(cfg),
    )
    if cfg.REFER.RECIPE == "multitask":
        plain = ("bias", "LayerNorm.weight", "LayerNorm.bias")
        groups = (Group(("vil_",), lr=head), Group(plain, decays=False), Group(()))
        return Recipe("bert", groups, shape, schedule_first=False, clip="global")
    if cfg.REFER.RECIPE == "paper":
        return Recipe("bert", inverted(HEADS[:1], head), shape, schedule_first=False, clip="tensor")
    return Recipe("corrected", inverted(HEADS, head), shape, schedule_first=True, clip="value")


def inverted(fresh, lr):
    """Groups of parameters: those that start afresh have another rate, and decay is for biases and LayerNorms only.

    Upstream: the list that should exempt these from decay selects them, and the weights named LayerNorm1 and LayerNorm2
    are not in it.
    """
    fresh_biases = tuple(f"{name}{part}" for name in fresh for part in (".bias", ".main.0.bias", ".main.3.bias"))
    decayed = ("bias", "LayerNorm.weight", "LayerNorm.bias")
    return (Group(fresh_biases, lr=lr), Group(fresh, decays=False, lr=lr), Group(decayed), Group((), decays=False))


def schedule(step, warmup_steps, total_steps, *, epochs, decay_epochs, warmup_share, whole_steps, falls):
    """Factor of the rate: up over the warm-up (OPTIMIZATION.WARMUP_STEPS, or else a share of all steps), then 1; 0.1 of
    it from each of these epochs (counted from 0) on, or down to 0 at the end.

    Args:
        whole_steps: the warm-up has a whole number of steps. falls: the rate falls in a line.
    """
    warm = warmup_steps or warmup_share * total_steps
    warm = int(warm) if whole_steps else warm
    if step < warm:
        return step / warm
    if falls:
        return max(0.0, (total_steps - step) / max(1, total_steps - warm))
    return 0.1 ** sum(step * epochs >= epoch * total_steps for epoch in decay_epochs)
