#!/usr/bin/env python
"""Fine-tune Oscar/VinVL for image-text retrieval."""

import sys
from pathlib import Path

from oscar_paddle.config.cli import run_tool
from oscar_paddle.config.machine import prepare

EXAMPLE = """\
  python tools/train_retrieval.py --cfg_file configs/retrieval_train.yaml
  python -m paddle.distributed.launch tools/train_retrieval.py --cfg_file configs/retrieval_train.yaml
  python tools/train_retrieval.py --cfg_file configs/retrieval_train.yaml --opts PRETRAINED.RESUME auto"""


def main(cfg, args):
    machine = prepare(cfg.MISC.NUM_THREADS)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.solvers.build import check_training_precision, set_device, set_up_logging
    from oscar_paddle.solvers.ranks import Ranks
    from oscar_paddle.solvers.run_folder import RunFolder

    set_device(cfg)
    check_training_precision(cfg)
    run_folder = RunFolder(Path(cfg.OUTPUT.CHECKPOINT_DIR) / cfg.OUTPUT.SAVE_NAME)
    ranks = Ranks()
    log = set_up_logging(run_folder.path, ranks.rank, ranks.world_size)
    log.info("run folder %s; %d process(es); %s", run_folder.path, ranks.world_size, machine)
    try:
        train(cfg, ranks, run_folder)
    except BaseException:
        log.exception("the run ends with an error", extra={"file_only": True})
        raise


def train(cfg, ranks, run_folder):
    from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data, build_training_data
    from oscar_paddle.solvers.build import load_tokenizer, model_for_training
    from oscar_paddle.solvers.optimizer import build_optimizer
    from oscar_paddle.solvers.retrieval_task import RetrievalTask
    from oscar_paddle.solvers.trainer import Trainer

    tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
    data = build_training_data(cfg, tokenizer)
    evaluates = cfg.MONITOR.EVAL_FREQ or cfg.MONITOR.EVAL_STEPS
    dev = build_evaluation_data(cfg, tokenizer, cfg.DATASET.DEV) if evaluates else None
    model = model_for_training(cfg, tokenizer)
    optimizer = build_optimizer(model, cfg.OPTIMIZATION)
    task = RetrievalTask(data, dev, cfg, ranks)
    Trainer(model, optimizer, task, tokenizer, cfg, ranks, run_folder).run()


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="train", example=EXAMPLE))
