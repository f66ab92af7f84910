"""Which settings contradict each other, and what a task needs of them. Nothing here opens a data file.

Rows are tuples (keys, wrong, remedy): full names of keys, whether something is wrong with them together, and what to
do about it. `contradiction` takes the first row that is wrong; a task writes its rows with the functions below it.
"""

from oscar_paddle.config.default import value_of

# Keys that matter to one of a task's two tools only.
_UNREAD = {"train": ("DATASET.TEST",), "eval": ("DATASET.TRAIN", "DATASET.DEV", "OPTIMIZATION.LOSS_TYPE")}


def contradiction(cfg, needs=None):
    """The first settings that cannot be meant together, or that a task cannot do without.

    Args:
        cfg: complete CfgNode whose values are each allowed. needs: function cfg -> the rows of a task, or None.
    Returns:
        (keys, remedy): the full names involved and what to do about them; (None, None) when all is well.
    """
    rows = (*_pairs(cfg), *(needs(cfg) if needs else ()))
    return next(((keys, remedy) for keys, wrong, remedy in rows if wrong), (None, None))


def evaluates_while_training(cfg):
    return cfg.MONITOR.EVAL_FREQ > 0 or cfg.MONITOR.EVAL_STEPS > 0


def folders(cfg, action, files):
    """Rows: the data folder, which holds `files`, and the model to "train" from or to "eval"uate, must be named."""
    yield ("DATASET.DATA_DIR",), not cfg.DATASET.DATA_DIR, f"set it to the folder with {files}"
    if action == "train":
        start = "set it to the folder of the model to start from (config.json, vocab.txt and weights)"
        yield ("PRETRAINED.DIR",), not cfg.PRETRAINED.DIR, start
    else:
        yield ("EVAL.CHECKPOINT_DIR",), not cfg.EVAL.CHECKPOINT_DIR, "set it to the checkpoint folder to evaluate"


def choices(cfg, action, who, allowed):
    """Rows: some keys have fewer values in one task (`who`) than elsewhere; what its tool does not read is free.

    action: "train" or "eval"; allowed: {full name of a key: the values that the task's files and its loss have}.
    """
    for key, values in allowed.items():
        unread = key in _UNREAD[action] or (key == "DATASET.DEV" and not evaluates_while_training(cfg))
        remedy = f"{who} has {', '.join(map(repr, values))}"
        yield (key,), not unread and value_of(cfg, key) not in values, remedy


def all_see_all(cfg):
    """Row: the task has no attention mask but the full one."""
    remedy = "Caption, Labels and Regions all see each other in this task: set 'CLR'"
    return ("INPUT.ATT_MASK_TYPE",), cfg.INPUT.ATT_MASK_TYPE != "CLR", remedy


def _pairs(cfg):
    """Rows that hold for every task."""
    optim, evaluation = cfg.OPTIMIZATION, cfg.EVAL
    longest_row = cfg.INPUT.MAX_SEQ_LEN + cfg.INPUT.MAX_REGION
    on_cpu = cfg.MISC.DEVICE == "cpu"
    return (
        (
            ("EVAL.EVAL_CROSS_IMAGE", "EVAL.EVAL_CAPTION_INDEX_FILE"),
            evaluation.EVAL_CROSS_IMAGE and evaluation.EVAL_CAPTION_INDEX_FILE,
            "either every image with every caption, or the captions of an index file: set one of them to False or ''",
        ),
        (
            # The reference trains one label by squared error and never looks at its loss type then.
            ("OPTIMIZATION.LOSS_TYPE", "OUTPUT.NUM_LABELS"),
            cfg.OUTPUT.NUM_LABELS == 1 and optim.LOSS_TYPE not in ("sfmx", "xe"),
            "one label is always trained by squared error: set NUM_LABELS 2, or leave LOSS_TYPE at 'sfmx'",
        ),
        (
            ("OPTIMIZATION.WARMUP_STEPS", "OPTIMIZATION.MAX_STEPS"),
            0 < optim.MAX_STEPS <= optim.WARMUP_STEPS,
            "training would end before LR is reached: warm-up must be shorter",
        ),
        (
            ("OPTIMIZATION.EARLY_STOP_PATIENCE", "MONITOR.EVAL_FREQ", "MONITOR.EVAL_STEPS"),
            optim.EARLY_STOP_PATIENCE and not evaluates_while_training(cfg),
            "stopping early needs evaluations: set EVAL_FREQ or EVAL_STEPS above 0",
        ),
        (
            ("OPTIMIZATION.AMP", "MISC.DEVICE"),
            optim.AMP != "off" and on_cpu,
            "Paddle's mixed precision needs a GPU: on the CPU set AMP to 'off'",
        ),
        (
            ("EVAL.PRECISION", "MISC.DEVICE"),
            evaluation.PRECISION == "float16" and on_cpu,
            "float16 scoring needs a GPU: set PRECISION to 'float32' or 'bfloat16'",
        ),
        (
            ("PRETRAINED.SCRATCH_WEIGHTS", "PRETRAINED.FROM_SCRATCH"),
            cfg.PRETRAINED.SCRATCH_WEIGHTS != "plain" and not cfg.PRETRAINED.FROM_SCRATCH,
            "weights that are loaded stay as they are: set FROM_SCRATCH True, or SCRATCH_WEIGHTS 'plain'",
        ),
        (
            ("EVAL.FOLDS", "EVAL.EVAL_CROSS_IMAGE"),
            evaluation.FOLDS > 1 and not evaluation.EVAL_CROSS_IMAGE,
            "folds are parts of a cross-image evaluation: set EVAL_CROSS_IMAGE True, or FOLDS 1",
        ),
        (
            ("EVAL.BATCH_TOKENS", "INPUT.MAX_SEQ_LEN", "INPUT.MAX_REGION"),
            longest_row > evaluation.BATCH_TOKENS,
            f"one pair can fill {longest_row} positions: BATCH_TOKENS must be at least that",
        ),
    )
