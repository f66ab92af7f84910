"""Self-critical training on the captioning golden set, as a task for the trainer.

Run as a program, it trains several times, each in a process of its own, and prints their exit codes. Its arguments are
run folders, each followed by the update in which the process kills itself with SIGKILL, before the weights are changed
(0: none).
"""

import json
import os
import pickle
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np
from caption_golden import FOLDER, SPECIALS, golden_model, golden_prefix
from textbook_cider import TextbookCiderD

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.decoding import given_draws
from oscar_paddle.solvers import trainer as trainer_module
from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.run_folder import RunFolder
from oscar_paddle.solvers.self_critical import SelfCritical, SelfCriticalOptions
from oscar_paddle.solvers.tasks.task import Task
from oscar_paddle.solvers.trainer import Trainer

LONGEST = 20


def references():
    """The captions of every image, in the order of the features."""
    data = FOLDER / "coco_caption"
    keys = [row.split("\t")[0] for row in (data / "coco.label.tsv").read_text(encoding="utf-8").splitlines()]
    captions = json.loads((data / "train_caption.json").read_text(encoding="utf-8"))
    return [[caption["caption"] for caption in captions if caption["image_id"] == key] for key in keys]


def cider():
    """CIDEr-D with the stored document frequencies."""
    stored = pickle.loads((FOLDER / "coco_caption" / "coco-train-words.p").read_bytes(), encoding="latin-1")
    return TextbookCiderD(stored["document_frequency"], stored["ref_len"])


def tokenizer():
    return build_tokenizer(FOLDER / "checkpoint", do_lower_case=True)


def self_critical(num_samples=4, baseline="greedy", shared_prefix=False, **parts):
    options = SelfCriticalOptions(num_samples, baseline, shared_prefix, LONGEST)
    return SelfCritical(options, **{"cider": cider(), "decode": tokenizer().decode, "specials": SPECIALS, **parts})


def padded(drawn):
    """Lists of drawn tokens as an array; what follows their end is never asked for."""
    return np.array([[*row, *[SPECIALS.sep] * (LONGEST - 1 - len(row))] for row in drawn])


class GoldenTask(Task):
    """Args: scst: SelfCritical. batches: images of every update. drawn: the tokens that they draw, or None."""

    terms, num_examples, unit, draws = SelfCritical.terms, 8, "images", True

    def __init__(self, scst, batches=(), drawn=()):
        super().__init__(cfg=None)
        self.scst, self.batches, self.drawn = scst, list(batches), list(drawn)
        self.prefix, self.references = golden_prefix(), references()

    def fingerprint(self):
        return {"the golden set": "0"}

    def describe(self, examples):
        return str(list(examples))

    def batch(self, examples, epoch):
        return [self.batches.pop(0) if self.batches else examples][0]

    def counts(self, batch):
        return self.scst.counts([self.references[image] for image in batch])

    def losses(self, model, batch):
        draws = given_draws(padded(self.drawn.pop(0))) if self.drawn else None
        return self.scst.losses(model, self.prefix.take(batch), [self.references[image] for image in batch], draws)


def trainer(task, folder, dropout=0.0, **settings):
    """A Trainer of the golden checkpoint with frozen word embeddings, as published."""
    cfg = get_cfg_defaults()
    for key, value in {"LR": 5e-4, "BATCH_SIZE": 3, **settings}.items():
        setattr(cfg.OPTIMIZATION, key, value)
    cfg.OUTPUT.SAVE_STEPS, cfg.PRETRAINED.RESUME, cfg.MONITOR.EVAL_FREQ = 1, "auto", 0
    model = golden_model(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    model.bert.embeddings.word_embeddings.weight.stop_gradient = True
    optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
    return Trainer(
        model, optimizer, task, tokenizer=tokenizer(), cfg=cfg, ranks=Ranks(), run_folder=RunFolder(Path(folder))
    )


def train(folder, killed_at):
    """Two epochs with dropout and draws at random."""
    calls, norm = [], trainer_module.global_norm

    def watched(parameters):
        calls.append(1)
        if len(calls) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return norm(parameters)

    with mock.patch.object(trainer_module, "global_norm", watched):
        trainer(GoldenTask(self_critical()), folder, dropout=0.1, EPOCHS=2, BATCH_SIZE=4).run()


def main(*words):
    codes = []
    for folder, killed_at in zip(words[::2], map(int, words[1::2]), strict=True):
        pid = os.fork()  # no operator has run yet
        if pid == 0:
            train(folder, killed_at)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(*codes)


if __name__ == "__main__":
    main(*sys.argv[1:])
