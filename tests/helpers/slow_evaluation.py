"""An evaluation on the golden data that takes its time, for tests that kill it.

Usage: slow_evaluation.py GOLDEN CACHE OUT SECONDS_PER_BATCH
"""

import sys
import time

from evaluations import golden_settings

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring import evaluation
from oscar_paddle.solvers.scoring import folder as evaluation_folder
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.tasks.retrieval import RetrievalEvaluation

golden, cache, out, pause = sys.argv[1:]
evaluation_folder.SYNC_SECONDS = 0.0
cfg = get_cfg_defaults()
cfg.merge_from_list(golden_settings(golden, cache))


class SlowBackend(EagerBackend):
    def margins(self, batch, regions):
        time.sleep(float(pause))
        return super().margins(batch, regions)


def make_backend(weights, precision):
    return SlowBackend(model_for_evaluation(cfg, tokenizer, OscarForClassification))


tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
data = build_evaluation_data(cfg, tokenizer, "test")
evaluation.evaluate(cfg, RetrievalEvaluation(cfg, data=data, split="test"), out, Ranks(), make_backend)
