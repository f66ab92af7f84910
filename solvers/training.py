"""One training run from start to end: device, run folder, log, data, model, and the loop."""

from pathlib import Path

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.build import load_tokenizer, model_for_training
from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.run_folder import RunFolder
from oscar_paddle.solvers.runtime import check_training_precision, device_name, float32_name, set_device, set_up_logging
from oscar_paddle.solvers.trainer import Trainer


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
    cfg = task.cfg = with_batch_size(cfg, ranks.world_size)
    log = set_up_logging(run_folder.path, ranks.rank, ranks.world_size)
    log.info("run folder %s; %d process(es); %s", run_folder.path, ranks.world_size, machine)
    log.info("training on %s, %s", device_name(), float32_name())
    try:
        tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
        task.load(tokenizer)
        model = model_for_training(cfg, tokenizer, task.head())
        optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
        Trainer(model, optimizer, task, tokenizer=tokenizer, cfg=cfg, ranks=ranks, run_folder=run_folder).run()
    except BaseException:
        log.exception("the run ends with an error", extra={"file_only": True})
        raise
    finally:
        run_folder.unlock()


def with_batch_size(cfg, world_size):
    """The config with the OPTIMIZATION.BATCH_SIZE that GLOBAL_BATCH_SIZE leaves to each of so many processes.

    Raises:
        ConfigError: it cannot be divided.
    """
    options = cfg.OPTIMIZATION
    total, parts = options.GLOBAL_BATCH_SIZE, world_size * options.GRADIENT_ACCUMULATION_STEPS
    if not total:
        return cfg
    if total % parts:
        raise ConfigError(
            f"OPTIMIZATION.GLOBAL_BATCH_SIZE is {total}, which {world_size} processes x GRADIENT_ACCUMULATION_STEPS "
            f"{options.GRADIENT_ACCUMULATION_STEPS} cannot divide: set a multiple of {parts}"
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OPTIMIZATION.BATCH_SIZE = total // parts
    cfg.freeze()
    return cfg
