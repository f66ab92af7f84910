"""Captioning: a caption for every image, written word by word.

An evaluation folder holds

    generated.npy   float32 [images, captions * (longest + 1)]: of every caption its word ids, then its score
    captions.json   the same in words: [{"image_id", "captions": [{"caption", "log_prob", "conf"}, ...], "references",
                    "scores"}, ...]
    pred.<data>.<split>.beam<k>....tsv, the same stem .eval.json   as the reference writes them
    metrics.json, provenance.json   see `solvers.scoring.folder`
"""

import functools
import json
import logging
import math
import os
from pathlib import Path

import numpy as np

from oscar_paddle.config.checks import all_see_all, folders
from oscar_paddle.config.default import KEYS
from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.caption_dataset import build_caption_data, build_image_data
from oscar_paddle.datasets.captions.caption_yaml import CBS_KEYS, is_yaml, read_caption_yaml
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.solvers.tasks.task import Evaluation, Head, Task, Term, digest, names_of

log = logging.getLogger(__name__)

SHOWN_PICTURES = 20
SCORING_KEYS = (
    "CAPTION.MAX_SEQ_A_LEN",
    "CAPTION.MAX_GEN_LENGTH",
    "CAPTION.NUM_BEAMS",
    "CAPTION.NUM_KEEP_BEST",
    "CAPTION.LENGTH_PENALTY",
    "CAPTION.REPETITION_PENALTY",
    "CAPTION.DO_SAMPLE",
    "CAPTION.TEMPERATURE",
    "CAPTION.TOP_K",
    "CAPTION.TOP_P",
    "CAPTION.USE_CBS",
    "CAPTION.MIN_CONSTRAINTS",
    "CAPTION.PAD_ENDS",
)


class CaptioningTask(Task):
    """Captions with masked words, or, with CAPTION.SCST, captions that are drawn and rewarded.

    Args:
        features: write captions for all pictures of this file or folder of regions, instead of a split.
    """

    name, unit = "captioning", "captions"
    own_keys = tuple(key for key in KEYS if key.startswith("CAPTION."))

    def __init__(self, cfg, train=None, dev=None, features=""):
        super().__init__(cfg, train, dev)
        self.features = features
        self.self_critical = None
        if cfg is not None and cfg.CAPTION.SCST:
            from oscar_paddle.solvers.self_critical import SelfCritical  # Paddle loads here

            self.terms, self.unit, self.draws = SelfCritical.terms, "images", True
        else:
            self.terms = {"words": Term(per_batch=True), "accuracy": Term(is_loss=False)}

    @staticmethod
    def needs(cfg, action):
        yield from folders(cfg, action, "the captions (or the YAML files that name them)")
        yield all_see_all(cfg)
        caption, text = cfg.CAPTION, cfg.INPUT.MAX_SEQ_LEN
        remedy = "the caption's slot is a part of MAX_SEQ_LEN: it must not be longer"
        yield ("CAPTION.MAX_SEQ_A_LEN", "INPUT.MAX_SEQ_LEN"), text < caption.MAX_SEQ_A_LEN, remedy
        remedy = "tags begin behind the caption's slot: MAX_GEN_LENGTH must not be longer"
        yield (
            ("CAPTION.MAX_GEN_LENGTH", "CAPTION.MAX_SEQ_A_LEN"),
            caption.MAX_GEN_LENGTH > caption.MAX_SEQ_A_LEN,
            remedy,
        )
        remedy = "a search gives no more captions than it has beams, a greedy one (NUM_BEAMS 1) a single caption"
        too_many = not caption.DO_SAMPLE and not caption.USE_CBS and caption.NUM_BEAMS < caption.NUM_KEEP_BEST
        yield ("CAPTION.NUM_KEEP_BEST", "CAPTION.NUM_BEAMS"), too_many, remedy
        remedy = "drawing and beams do not go together: set NUM_BEAMS 1"
        yield ("CAPTION.DO_SAMPLE", "CAPTION.NUM_BEAMS"), caption.DO_SAMPLE and caption.NUM_BEAMS > 1, remedy
        remedy = "constrained search gives one caption an image: set NUM_KEEP_BEST 1"
        yield ("CAPTION.USE_CBS", "CAPTION.NUM_KEEP_BEST"), caption.USE_CBS and caption.NUM_KEEP_BEST > 1, remedy
        remedy = "only a YAML names the cbs_* files: set DATASET.TEST to one, such as val.yaml"
        unnamed = action == "eval" and caption.USE_CBS and not is_yaml(cfg.DATASET.TEST)
        yield ("CAPTION.USE_CBS", "DATASET.TEST"), unnamed, remedy
        remedy = "the mean of an image's other samples needs two at least"
        alone = caption.SCST and caption.SCST_BASELINE == "sample" and caption.SCST_SAMPLES < 2
        yield ("CAPTION.SCST_BASELINE", "CAPTION.SCST_SAMPLES"), alone, remedy

    @classmethod
    def files(cls, cfg):
        folder = cfg.DATASET.DATA_DIR
        splits = dict.fromkeys((cfg.DATASET.TRAIN, cfg.DATASET.DEV, cfg.DATASET.TEST))
        return [f"{folder}/{split}" for split in splits if is_yaml(split)]  # others are retrieval's, too

    @classmethod
    def check(cls, cfg, split_names, **options):
        from oscar_paddle.datasets.checks.caption_files import check_caption_data

        return check_caption_data(cfg, split_names, **options)

    def model_class(self):
        from oscar_paddle.models.captioning import OscarForCaptioning

        return OscarForCaptioning

    def head(self):
        options = self.cfg.CAPTION
        config = {"tie_weights": options.TIE_WEIGHTS, "freeze_embedding": options.FREEZE_EMBEDDING}
        return Head(self.model_class(), config)

    # ---- training

    def load(self, tokenizer):
        super().load(tokenizer)
        if self.dev is not None and (count := len(self.dev.data.references)) < 2:
            raise DataError(
                f"split {self.cfg.DATASET.DEV!r}: {count} images with captions that people wrote, which choose the "
                "best checkpoint by CIDEr; expected 2 at least: name another split (DATASET.DEV), or none "
                "(MONITOR.EVAL_FREQ 0 and EVAL_STEPS 0)"
            )

    def training_data(self, tokenizer):
        data = build_caption_data(self.cfg, tokenizer, self.cfg.DATASET.TRAIN, training=True)
        if self.cfg.CAPTION.SCST:
            self.self_critical = build_self_critical(self.cfg, data, tokenizer)
        return data

    @property
    def num_examples(self):
        return self.train.num_images if self.cfg.CAPTION.SCST else self.train.num_captions

    def batch(self, examples, epoch):
        """Captions -> (PackedBatch, places [M], words [M]); of self-critical training images -> (CaptionPrefix, list of
        their references)."""
        if self.cfg.CAPTION.SCST:
            return self.train.prefix(examples), [self.train.references[int(image)] for image in examples]
        batch, places, words = self.train.batch(examples, epoch)
        return self.pack(batch, lambda row: self.train.where(examples[row]), "S2S"), places, words

    def counts(self, batch):
        if self.cfg.CAPTION.SCST:
            return self.self_critical.counts(batch[1])
        return {"words": self._kept(len(batch[1])), "accuracy": len(batch[1])}

    def losses(self, model, batch):
        if self.cfg.CAPTION.SCST:
            return self.self_critical.losses(model, *batch)
        losses, right = model.masked_losses(*batch, self.cfg.CAPTION.LABEL_SMOOTHING)
        kept = self._kept(len(losses))
        if kept < len(losses):
            losses = losses.topk(kept, largest=False)[0] if kept else losses[:1] * math.nan
        return {"words": losses.sum(), "accuracy": right.astype("float32").sum()}

    def _kept(self, words):
        """How many of so many masked words are trained on in this forward pass, those of the smallest loss."""
        options = self.cfg.CAPTION
        if not options.DROP_WORST_RATIO or self.forward <= options.DROP_WORST_AFTER:
            return words
        return kept_words(words, options.DROP_WORST_RATIO, options.DROP_WORST_ROUNDING)

    def describe(self, examples):
        if self.cfg.CAPTION.SCST:
            return ", ".join(f"image {self.train.image_keys[image]}" for image in examples)
        return ", ".join(self.train.where(caption) for caption in examples)

    def fingerprint(self):
        train, options = self.train, self.cfg.CAPTION
        found = self.digests(train.image_ids, captions=train.caption_tokens, tags=train.tag_tokens)
        if options.SCST:
            found["the captions that rewards are made of"] = references_digest(train)
            found["the longest caption that is drawn (CAPTION.MAX_GEN_LENGTH)"] = str(options.MAX_GEN_LENGTH)
            name = options.CIDER_FREQUENCIES
            found["the document frequencies (CAPTION.CIDER_FREQUENCIES)"] = (
                digest((Path(self.cfg.DATASET.DATA_DIR) / name).read_bytes()) if name else "of the training captions"
            )
        return found

    # ---- evaluation

    def evaluation(self, tokenizer, split):
        if self.features:
            cfg = self.cfg.clone()
            cfg.defrost()
            cfg.DATASET.DATA_DIR = os.path.dirname(os.path.abspath(self.features))
            data = build_image_data(cfg, tokenizer, self.features)
            named = self.features if is_yaml(self.features) else data.regions.path
            return PictureEvaluation(cfg, data=data, split=os.path.basename(named), tokenizer=tokenizer)
        data = build_caption_data(self.cfg, tokenizer, split)
        return CaptioningEvaluation(self.cfg, data=data, split=split, tokenizer=tokenizer)


def kept_words(words, ratio, rounding):
    """How many of `words` stay when the worst `ratio` of them is dropped.

    Args:
        rounding: "exact": rounded down, one at least; "reference": int() of the product of floats.
    """
    if rounding == "reference":
        return int(words * (1 - ratio))
    return max(1, math.floor(words * (1 - ratio) + 1e-9))


def build_self_critical(cfg, data, tokenizer):
    """SelfCritical of a configuration, on a CaptionDataset whose images all have captions."""
    from oscar_paddle.datasets.captions.frequencies import read_frequencies
    from oscar_paddle.models.decoding import Specials
    from oscar_paddle.solvers.metrics.cider import CiderD, word_frequencies
    from oscar_paddle.solvers.self_critical import SelfCritical, SelfCriticalOptions

    for image, key in enumerate(data.image_keys):
        if not data.references.get(image):
            raise DataError(f"split {cfg.DATASET.TRAIN!r}: image {key} has no captions, of which its reward is made")
    options, name = cfg.CAPTION, cfg.CAPTION.CIDER_FREQUENCIES
    if name:
        frequencies = read_frequencies(Path(cfg.DATASET.DATA_DIR) / name)
    else:
        frequencies = word_frequencies(data.references.values())
    return SelfCritical(
        SelfCriticalOptions(
            num_samples=options.SCST_SAMPLES,
            baseline=options.SCST_BASELINE,
            shared_prefix=options.SCST_SHARED_PREFIX,
            max_length=options.MAX_GEN_LENGTH,
        ),
        cider=CiderD(*frequencies),
        decode=tokenizer.decode,
        specials=Specials(tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id),
    )


def references_digest(data):
    """Short hex digest of what people wrote about the images of a CaptionDataset."""
    return digest(repr(sorted(data.references.items())).encode("utf-8", "surrogatepass"))


class CaptioningEvaluation(Evaluation):
    """The captions of every image of a CaptionDataset."""

    matrix, scoring_keys = "generated.npy", SCORING_KEYS

    def __init__(self, cfg, *, data, split, tokenizer):
        super().__init__(cfg, data, split)
        self.tokenizer, options = tokenizer, cfg.CAPTION
        self.keep, self.longest = options.NUM_KEEP_BEST, options.MAX_GEN_LENGTH

    @property
    def scorer_class(self):
        from oscar_paddle.solvers.scoring.captions import CaptionScorer  # Paddle loads here

        return CaptionScorer

    @functools.cached_property
    def _constraints(self):
        if not self.cfg.CAPTION.USE_CBS:
            return None
        if not is_yaml(self.split):
            raise ConfigError(
                f"CAPTION.USE_CBS is True, but only a YAML names the cbs_* files, and captions are to be written for "
                f"{self.split}: name a YAML, or set CAPTION.USE_CBS False"
            )
        from oscar_paddle.datasets.captions.constraints import Constraints

        path = Path(self.cfg.DATASET.DATA_DIR) / self.split
        files = read_caption_yaml(path)
        missing = [key for key in CBS_KEYS.values() if not files[key]]
        if missing:
            raise DataError(f"{path}: names no {', '.join(missing)}, which CAPTION.USE_CBS True asks for")
        return Constraints(**{name: files[key] for name, key in CBS_KEYS.items()}, tokenizer=self.tokenizer)

    @functools.cached_property
    def _machines(self):
        """Of every image what its caption has to say, or None."""
        return self._constraints and [self._constraints.machine(key) for key in self.data.image_keys]

    def check(self):
        if self.tokenizer.mask_id is None:
            raise DataError("vocab.txt has no [MASK], and captions are written by filling it in")
        if self._machines is not None:  # made now, where their files are damaged
            number = sum(machine.num_constraints > 0 for machine in self._machines)
            log.info("%d of %d captions have to say what a detector has found", number, len(self._machines))

    def check_model(self, config):
        if config.max_position_embeddings < max(self.cfg.INPUT.MAX_SEQ_LEN, self.longest):
            raise ConfigError(
                f"CAPTION.MAX_GEN_LENGTH is {self.longest} and INPUT.MAX_SEQ_LEN {self.cfg.INPUT.MAX_SEQ_LEN}, but "
                f"config.json has {config.max_position_embeddings} positions (max_position_embeddings)"
            )

    def backend(self, model, options, precision, *, weights, programs, ranks):
        from oscar_paddle.solvers.scoring.captions import build_writer

        return self._writing(build_writer(model, options, precision, weights=weights, programs=programs, ranks=ranks))

    def backend_in_training(self, model, ranks):
        from oscar_paddle.solvers.scoring.captions import writer_in_training

        if self.cfg.CAPTION.TRAINING_LENGTHS:  # upstream: a slot of the test's length in a row of training's
            self.data.tag_room = self.cfg.INPUT.MAX_SEQ_LEN - self.longest - 1
        return self._writing(writer_in_training(model, self.data.num_images // ranks.world_size))

    def _writing(self, writer):
        """CaptionBackend of a writer and the settings."""
        from oscar_paddle.models.decoding import Decoding, Specials, seeded_draws
        from oscar_paddle.solvers.scoring.captions import CaptionBackend
        from oscar_paddle.solvers.scoring.constrained import ConstrainedBackend

        options, tokenizer = self.cfg.CAPTION, self.tokenizer
        specials = Specials(tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id, options.PAD_ENDS)
        decoding = Decoding(
            num_beams=options.NUM_BEAMS,
            max_length=self.longest,
            keep=self.keep,
            length_penalty=options.LENGTH_PENALTY,
            repetition_penalty=options.REPETITION_PENALTY,
            do_sample=options.DO_SAMPLE,
            temperature=options.TEMPERATURE,
            top_k=options.TOP_K,
            top_p=options.TOP_P,
        )
        if self._machines is not None:
            return ConstrainedBackend(
                writer, specials, decoding, machines=self._machines, min_satisfied=options.MIN_CONSTRAINTS
            )

        def draws(images):
            return seeded_draws([(self.data.seed, int(image), k) for image in images for k in range(self.keep)])

        return CaptionBackend(writer, specials, decoding, draws)

    @property
    def shape(self):
        return self.data.num_images, self.keep * (self.longest + 1)

    def groups(self):
        from oscar_paddle.solvers.scoring.captions import caption_groups

        return caption_groups(*self.shape)

    def rows_to_score(self):
        return self.data.num_images * self.longest * self.cfg.CAPTION.NUM_BEAMS

    def folder_name(self):
        return self.stem()

    def stem(self):
        """The reference's name for the predictions, without its ending."""
        options, name = self.cfg.CAPTION, Path(self.cfg.DATASET.DATA_DIR).resolve().name
        parts = [f"pred.{name}.{Path(self.split).stem}.beam{options.NUM_BEAMS}.max{self.longest}"]
        parts += ["odlabels"] if self.cfg.INPUT.ADD_OD_LABEL else []
        parts += [f"best{self.keep}"] if self.keep != 1 else []
        parts += [f"cbs{options.MIN_CONSTRAINTS}"] if options.USE_CBS else []
        return ".".join(parts)

    def contents(self):
        return names_of(self.data.image_ids, self.cfg.DATASET.DATA_DIR)

    def provenance(self):
        data = self.data
        found = {
            "name": self.cfg.DATASET.NAME,
            "split": self.split,
            "images": data.num_images,
            "content": data.fingerprint(),
            "references": references_digest(data),
            "tokens": digest(data.tag_tokens.ids),
            "features": data.regions.fingerprint(data.image_ids),
        }
        if self._machines is not None:
            found["constraints"] = digest(repr([machine.chains for machine in self._machines]).encode())
        return {"data": found}

    def captions(self, scores):
        """[[(caption, score), ...], ...] of a whole matrix, the captions of an image from the best on."""
        found = np.asarray(scores).reshape(self.data.num_images, self.keep, self.longest + 1)
        return [[(self.tokenizer.decode(row[:-1]), float(row[-1])) for row in rows] for rows in found]

    def measure(self, scores):
        return self._measured(self.captions(scores))[0]

    def _measured(self, captions):
        """(metrics, {image: scores of its own}) of the best caption of every image that has references."""
        data = self.data
        metrics = {"split": self.split, "num_images": data.num_images}
        if not data.references:
            return metrics, {}
        from oscar_paddle.solvers.metrics.captioning import caption_metrics

        found, own = caption_metrics({image: captions[image][0][0] for image in data.references}, data.references)
        return {**metrics, **found}, own

    def report(self, scores, files):
        captions = self.captions(scores)
        metrics, own = self._measured(captions)
        files.write_json("captions.json", [self._entry(image, found, own) for image, found in enumerate(captions)])
        rows = (
            (key, [{"caption": caption, "conf": math.exp(score)} for caption, score in found])
            for key, found in zip(self.data.image_keys, captions, strict=True)
        )
        with whole_file(files.path / f"{self.stem()}.tsv") as temporary:
            temporary.write_text("".join(f"{key}\t{json.dumps(row)}\n" for key, row in rows), encoding="utf-8")
        reported = {name: value for name, value in metrics.items() if isinstance(value, float)}
        if reported:
            files.write_json(f"{self.stem()}.eval.json", reported)
        return metrics

    def _entry(self, image, captions, own):
        return {
            "image_id": self.data.image_ids[image],
            "captions": [
                {"caption": caption, "log_prob": round(score, 5), "conf": math.exp(score)}
                for caption, score in captions
            ],
            "references": self.data.references.get(image, []),
            "scores": own.get(image, {}),
        }

    def best_by(self, metrics):
        return metrics["CIDEr"]

    def lines(self, metrics):
        if "CIDEr" not in metrics:
            return [f"captions of {self.data.num_images:,} images of {self.split}: {self.stem()}.tsv, captions.json"]
        names = [name for name, value in metrics.items() if isinstance(value, float)]
        values = ", ".join(f"{name} {100 * metrics[name]:.1f}" for name in names)
        return [f"captions of {self.split}: {values} ({metrics['num_images']:,} images)"]


class PictureEvaluation(CaptioningEvaluation):
    """The captions of pictures of which nothing else is known; the first ones are shown."""

    def report(self, scores, files):
        metrics = super().report(scores, files)
        lines = [
            f"{key}\t{score:.3f}\t{caption}"
            for key, found in zip(self.data.image_keys[:SHOWN_PICTURES], self.captions(scores), strict=False)
            for caption, score in found
        ]
        self.shown = [*lines, f"{files.path}: captions.json and {self.stem()}.tsv have all"]
        return metrics

    def lines(self, metrics):
        return [*super().lines(metrics), *self.shown]


TASK = CaptioningTask
