"""Our way to new weights, as the measuring tools take it: the trainer's update, without a run around it."""

from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.trainer import Trainer


def trainer_alone(model, task, cfg):
    """The Trainer of one process that updates a model, and writes nothing."""
    optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
    return Trainer(model, optimizer, task, tokenizer=None, cfg=cfg, ranks=Ranks(), run_folder=None)
