"""One way of tools/bench_pretraining.py: takes pre-training steps on a made-up corpus, over and over."""

import base64
import json
import time
from pathlib import Path

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.bert import Dropout, LayerNorm, Linear
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.pretraining import OscarForPretraining
from oscar_paddle.solvers.prefetch import prefetch
from oscar_paddle.solvers.runtime import set_up_cpu_kernels
from oscar_paddle.solvers.tasks.pretraining import PretrainingTask
from oscar_paddle.tools.bench.ours import trainer_alone
from oscar_paddle.tools.bench.published import padded_states, paddles_adamw

TEXT, REGIONS = 35, 50  # positions of a padded row
CAPTION, TAGS, SEEN = 12, 18, 37  # words of a made-up row (33 positions with the special tokens), and its regions
WORDS = 30522  # of the vocabulary
STEPS = 10**6  # of the run that a measured step belongs to: its learning rate hardly changes
IGNORED = -1  # label of positions without a loss
_PADDLES = {Linear: nn.Linear, LayerNorm: nn.LayerNorm, Dropout: nn.Dropout}  # ours -> Paddle's own


class Pretraining:
    """What both ways have: the corpus, the model, and the step to be timed."""

    def __init__(self, name, args):
        paddle.set_device("cpu")
        paddle.seed(1)
        folder, rows = Path(args.work_dir), args.rows
        self.cfg = cfg = get_cfg_defaults()
        cfg.DATASET.DATA_DIR, cfg.CORPUS.DATASET_FILE = str(folder), "corpus.yaml"
        cfg.INPUT.MAX_SEQ_LEN, cfg.INPUT.MAX_REGION = TEXT, REGIONS
        cfg.CORPUS.TEXTB_SAMPLE_MODE, cfg.CORPUS.TEXTA_FALSE_PROB = 1, 0.25
        options = cfg.OPTIMIZATION
        options.GRADIENT_ACCUMULATION_STEPS, options.BATCH_SIZE = args.parts, rows // args.parts
        options.MAX_STEPS, options.WEIGHT_DECAY, options.CLIP_MAX_NORM = STEPS, 0.01, 10.0
        self.data = build_pretraining_data(cfg, build_tokenizer(str(folder), True), "corpus.yaml")
        self.task = PretrainingTask(cfg, train=self.data)
        sizes = {"num_attention_heads": max(1, args.width // 64), "intermediate_size": 4 * args.width}
        config = BertConfig(
            hidden_size=args.width, num_hidden_layers=args.layers, use_img_layernorm=1, num_contrast_classes=3, **sizes
        )
        self.model = OscarForPretraining(config)
        self.examples = np.array_split(np.arange(rows), args.parts)

    def loss(self):
        """Loss of the rows without dropout: the mean over micro-batches."""
        self.model.eval()
        with paddle.no_grad():
            return float(np.mean([float(self.batch_loss(part)) for part in self.examples]))

    def step(self):
        """(seconds, CPU seconds of all threads) of one training step, from the files of the corpus to new weights."""
        self.model.train()
        started = time.perf_counter(), time.process_time()
        self.update()
        return time.perf_counter() - started[0], time.process_time() - started[1]


class Ours(Pretraining):
    """Steps as the trainer does."""

    def __init__(self, name, args):
        set_up_cpu_kernels()
        super().__init__(name, args)
        self.trainer = trainer_alone(self.model, self.task, self.cfg)

    def batch_loss(self, examples):
        batch = self.task.batch(examples, 0)
        sums, counts = self.task.losses(self.model, batch), self.task.counts(batch)
        return sum(sums[name] / counts[name] for name, term in self.task.terms.items() if term.is_loss)

    def update(self):
        self.trainer.update(np.concatenate(self.examples), [self.task.batch(part, 0) for part in self.examples])

    def waiting(self, steps):
        """[(seconds of a step, those of them spent waiting for its data)], of steps in a row, as in a run."""
        self.model.train()
        taken, started = [], time.perf_counter()
        for examples, batches in prefetch(self.trainer.prepare, range(steps), self.cfg.MISC.NUM_WORKERS):
            waited = time.perf_counter() - started
            self.trainer.update(examples, batches)
            taken.append((time.perf_counter() - started, waited))
            started = time.perf_counter()
        return taken


class Published(Pretraining):
    """Padded rows, scores of all words at every position, Paddle's own layers, AdamW and clipping."""

    def __init__(self, name, args):
        super().__init__(name, args)
        for layer in self.model.sublayers():
            layer.__class__ = _PADDLES.get(type(layer), type(layer))
        self.optimizer = paddles_adamw(self.model, self.cfg.OPTIMIZATION, self.task.recipe.groups)

    def batch_loss(self, examples):
        batch, model = self.data.batch(examples, 0), self.model
        shape = (len(examples), TEXT)
        real = np.arange(TEXT) < batch["text_length"][:, None]
        ids, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        ids[real], types[real] = batch["input_ids"], batch["token_type_ids"]
        labels = np.full((len(examples), TEXT + REGIONS), IGNORED, np.int64)
        row, position = (place[batch["masked_positions"]] for place in np.nonzero(real))
        labels[row, position] = batch["masked_labels"]
        features = np.zeros((len(examples), REGIONS, batch["img_feats"].shape[1]), np.float32)
        for own, start, count in zip(features, batch["region_start"], batch["num_regions"], strict=True):
            own[:count] = batch["img_feats"][start : start + count]
        shown = np.arange(REGIONS) < batch["num_regions"][:, None]
        mask = np.concatenate([real, shown], axis=1).astype(np.float32)
        hidden = padded_states(model.bert, *map(paddle.to_tensor, (ids, types, mask, features)))
        words, targets = model.cls.predictions(hidden), paddle.to_tensor(labels)
        contrast = model.cls.seq_relationship(F.tanh(model.bert.pooler.dense(hidden[:, 0])))
        # Paddle 3.3.1 takes a mean over all positions where the label to ignore is negative: so a sum.
        words, wanted = words.reshape([-1, words.shape[-1]]), targets.reshape([-1])
        of_words = F.cross_entropy(words, wanted, ignore_index=IGNORED, reduction="sum") / len(batch["masked_labels"])
        return of_words + F.cross_entropy(contrast, paddle.to_tensor(batch["contrast_labels"]))

    def update(self):
        for part in self.examples:
            (self.batch_loss(part) / len(self.examples)).backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)


def write_corpus(folder, rows, feature_dim=2054):
    """A corpus of so many images, each with a row of TAGS and CAPTION words, and its vocabulary, into `folder`."""
    folder, rng, letters = Path(folder), np.random.RandomState(0), [chr(code) for code in range(97, 123)]
    words = [a + b + c + d for a in letters for b in letters for c in letters for d in letters[:2]][: WORDS - 5]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special + words + [f"##{n}" for n in range(WORDS - 5 - len(words))]))
    files = {name: [] for name in ("corpus", "labels/predictions_gt", "features/features")}
    for image in range(rows):
        caption, tags = (" ".join(rng.choice(words, count)) for count in (CAPTION, TAGS))
        values = np.maximum(rng.standard_normal((SEEN, feature_dim)), 0).astype(np.float32)
        values[:, -6:] = np.minimum(values[:, -6:], 1)
        files["corpus"].append(f"coco_{image}\tcoco_{image}\t{caption}\n")
        files["labels/predictions_gt"].append(f"{image}\t{json.dumps({'objects': [{'class': tags}]})}\n")
        files["features/features"].append(f"{image}\t{SEEN}\t{base64.b64encode(values).decode()}\n")
    for name, lines in files.items():
        path = folder / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(lines))
        (path.parent / "imageid2idx.json").write_text(json.dumps({str(image): image for image in range(rows)}))
    places = "image_label_path: {coco: labels}\nimage_feature_path: {coco: features}\n"
    (folder / "corpus.yaml").write_text(f"corpus: coco\ncorpus_file: corpus.tsv\n{places}")


class Corpus:
    """Writes the corpus in a process of its own, as NumPy's threads are none of the tool's."""

    def __init__(self, name, args):
        self.folder = args.work_dir

    def write(self, rows):
        write_corpus(self.folder, rows)
