"""One size of tools/bench_scale.py: generated, scored and ranked."""

import os
import time
from pathlib import Path

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.models.checkpoints.weights import write_model
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.runtime import set_up_logging
from oscar_paddle.solvers.scoring import evaluation
from oscar_paddle.solvers.scoring.backends import build_backend
from oscar_paddle.solvers.tasks.retrieval import RetrievalEvaluation
from oscar_paddle.tools.bench.made_up import Lengths, made_up_data, made_up_model
from oscar_paddle.tools.bench.worker import peak_memory_gib

WORDS, TEXT, REGIONS, FEATURES = 1000, 16, 6, 16
LENGTHS = Lengths((6, 2, 2, 12), (2, 1, 1, 4), (3, 1, 1, REGIONS), TEXT, REGIONS, FEATURES, WORDS)


class Scale:
    """Args: size: such as "1000x5000". args: arguments of tools/bench_scale.py."""

    def __init__(self, size, args):
        set_up_logging()
        self.size, self.args = size, args
        self.images, self.captions = map(int, size.split("x"))

    def run(self):
        """Generate, score and rank; a dict for JSON."""
        args, folder, ranks = self.args, Path(self.args.out) / self.size, Ranks()
        (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        data = made_up_data(folder, self.images, self.captions, LENGTHS)
        sizes = {"vocab_size": WORDS, "img_feature_dim": FEATURES, "max_position_embeddings": TEXT}
        model = made_up_model(args.hidden, args.layers, num_attention_heads=2, **sizes)
        write_model(folder / "checkpoint", model)
        cfg = get_cfg_defaults()
        cfg.EVAL.CHECKPOINT_DIR, cfg.EVAL.EVAL_CROSS_IMAGE = str(folder / "checkpoint"), True
        cfg.INPUT.IMG_FEATURE_DIM, cfg.EVAL.BATCH_TOKENS, cfg.DATASET.NAME = FEATURES, args.batch_tokens, "made up"
        split = RetrievalEvaluation(cfg, data=data, split="test")

        def make_backend(weights, precision):
            return build_backend(model, "auto", precision, weights, folder / "programs", ranks)

        made = time.perf_counter()
        metrics = evaluation.evaluate(cfg, split, folder / "eval", ranks, make_backend)
        scored = time.perf_counter()
        evaluation.evaluate(cfg, split, folder / "eval", ranks, None)  # the margins are there, so this is ranking alone
        ranked = time.perf_counter()
        return {
            "size": self.size,
            "pairs": self.images * self.captions,
            "seconds": scored - started,
            "generating_seconds": made - started,
            "ranking_seconds": ranked - scored,
            "pairs_per_s": self.images * self.captions / (scored - made),
            "peak_memory_gib": peak_memory_gib(),
            "load_average": os.getloadavg()[0],
            "rsum": metrics["rsum"],
        }
