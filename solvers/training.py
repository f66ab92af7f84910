"""One training run from start to end: device, run folder, log, data, model, and the loop."""

import time
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.build import load_tokenizer, model_for_training
from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.run_folder import RunFolder
from oscar_paddle.solvers.runtime import check_training_precision, set_device, set_up_logging
from oscar_paddle.solvers.trainer import Trainer

LAUNCHER_SECONDS = 10  # in which it sees that a process has ended, and ends the others


def run_training(cfg, machine, task):
    """What every tools/train_<task>.py does.

    Args:
        cfg: the frozen config.
        machine: what `solvers.machine.prepare` has chosen, for the log.
        task: Task.
    """
    set_device(cfg)
    check_training_precision(cfg)
    run_folder = RunFolder(Path(cfg.OUTPUT.CHECKPOINT_DIR) / cfg.OUTPUT.SAVE_NAME)
    ranks = Ranks()
    log = set_up_logging(run_folder.path, ranks.rank, ranks.world_size)
    log.info("run folder %s; %d process(es); %s", run_folder.path, ranks.world_size, machine)
    try:
        tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
        task.load(tokenizer)
        model = model_for_training(cfg, tokenizer, task.head())
        optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
        Trainer(model, optimizer, task, tokenizer=tokenizer, cfg=cfg, ranks=ranks, run_folder=run_folder).run()
    except BaseException as error:
        log.exception("the run ends with an error", extra={"file_only": True})
        if ranks.world_size > 1 and not isinstance(error, UserError | KeyboardInterrupt):
            time.sleep(LAUNCHER_SECONDS)  # most often another rank is gone, whose line the launcher must show first
        raise
