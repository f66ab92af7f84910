"""A small evaluation in two passes, made up; as a program it takes its time, for tests that kill it.

Usage: rescoring_case.py FOLDER OUT SECONDS_PER_BATCH SECONDS_PER_ROW
"""

import sys
import time
from pathlib import Path

import numpy as np
from tiny import LENGTHS, SCORED, tiny_model

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring import evaluation
from oscar_paddle.solvers.scoring import folder as evaluation_folder
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.tasks.retrieval import RetrievalEvaluation
from oscar_paddle.tools.bench.made_up import made_up_data

IMAGES, CAPTIONS, CANDIDATES = 24, 72, 30


class Coarse(EagerBackend):
    """Stands for a low precision: margins are rounded to few values, so that many of the best ones tie."""

    STEP = 0.1

    def __init__(self, model):
        super().__init__(model)
        self.name = "a coarse backend"

    def margins(self, batch, regions):
        return np.round(super().margins(batch, regions) / self.STEP) * np.float32(self.STEP)


def make_model():
    return tiny_model(**SCORED)


def make_data(folder, candidates=False):
    """Every image with every caption, or with a list of its own, which holds no caption of its own for some."""
    data = made_up_data(folder, IMAGES, CAPTIONS, LENGTHS)
    if candidates:
        rng = np.random.RandomState(5)
        image = data.caption_image()
        first = [rng.permutation(CAPTIONS) + CAPTIONS * ((image == i) & (i % 7 > 0)) for i in range(IMAGES)]
        data.candidates = np.argsort(first, axis=1)[:, ::-1][:, :CANDIDATES]
        data.positives = image[data.candidates] == np.arange(IMAGES)[:, None]
    return data


def settings(folder, *opts):
    cfg = get_cfg_defaults()
    cfg.merge_from_list(["EVAL.CHECKPOINT_DIR", str(folder), "INPUT.IMG_FEATURE_DIM", 11, "EVAL.BATCH_TOKENS", 200])
    cfg.merge_from_list(["EVAL.EVAL_CROSS_IMAGE", True, "EVAL.PRECISION", "bfloat16", "EVAL.RESCORE_TOP", 12, *opts])
    return cfg


def evaluate(cfg, data, folder, ranks, make_backend):
    return evaluation.evaluate(
        cfg, RetrievalEvaluation(cfg, data=data, split=cfg.DATASET.TEST), folder, ranks, make_backend
    )


def main(folder, out, batch_pause, row_pause):
    evaluation_folder.SYNC_SECONDS = 0.0
    write_all = evaluation_folder._write_all
    model = make_model()

    def slow_write(*args):
        time.sleep(float(row_pause))
        write_all(*args)

    def make_backend(weights, precision):
        if precision != "float32":
            return Coarse(model)
        backend = EagerBackend(model)
        margins = backend.margins

        def slow_margins(*args):
            evaluation_folder._write_all = slow_write  # the first pass is over
            time.sleep(float(batch_pause))
            return margins(*args)

        backend.margins = slow_margins
        return backend

    evaluate(settings(folder), make_data(folder), out, Ranks(), make_backend)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
