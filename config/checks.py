"""What a setting may be, and which settings contradict each other.

The tables speak about one key each; `contradiction` looks at a whole configuration. Nothing here opens a data file.
"""

import math
import os

from oscar_paddle.config.task_checks import evaluates_while_training, task_rows

OPTIONS = {
    "INPUT.ATT_MASK_TYPE": ("CLR", "CL", "CR", "LR"),
    "DATASET.PACKED": ("auto", "off", "float16"),
    "OUTPUT.NUM_LABELS": (1, 2),
    "OPTIMIZATION.LOSS_TYPE": ("sfmx", "xe", "kl", "bce"),
    "OUTPUT.CLASSIFIER": ("linear", "mlp"),
    "DATASET.TRAIN_DATA_TYPE": ("bal", "all"),
    "DATASET.EVAL_DATA_TYPE": ("bal", "all", "unbal"),
    "DATASET.DATA_LABEL_TYPE": ("mask", "all", "bal"),
    "OPTIMIZATION.LR_SCHEDULER": ("linear", "constant"),
    "OPTIMIZATION.OPTIMIZER": ("adamw",),
    "OPTIMIZATION.AMP": ("off", "bf16", "fp16"),
    "PRETRAINED.SCRATCH_WEIGHTS": ("plain", "alike"),
    "PRETRAINED.USE_IMG_LAYERNORM": (-1, 0, 1),
    "EVAL.BACKEND": ("auto", "eager", "inference"),
    "EVAL.PRECISION": ("float32", "bfloat16", "float16"),
    "EVAL.FOLDS": (1, 5),
    "MISC.DEVICE": ("auto", "cpu", "gpu"),
}


def _at_least(low):
    return (lambda value: value >= low), f"at least {low}"


_POSITIVE = (lambda value: value > 0), "greater than 0"
_SPLIT = bool, "the name of a split: the xxx of xxx_captions.pt"


def _stays_inside(name):
    return not os.path.isabs(name) and ".." not in name.split("/")


# key -> (test, what the test asks for)
RANGES = {
    "INPUT.MAX_REGION": _at_least(1),
    "INPUT.MAX_SEQ_LEN": ((lambda value: value >= 3), "at least 3: [CLS], one WordPiece and [SEP]"),
    "INPUT.IMG_FEATURE_DIM": _at_least(1),
    "INPUT.IMG_FEATURE_TYPE": (
        (lambda value: value and not value.startswith("dis_code")),
        "the name of a kind of region vectors, such as 'frcnn'; discrete codes (dis_code*) are not supported",
    ),
    "INPUT.NUM_CAPTIONS_PER_IMAGE_TRN": _at_least(1),
    "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": _at_least(1),
    "INPUT.FEATURE_CACHE_MB": _at_least(0),
    "DATASET.OD_LABEL_TYPE": (bool, "the xx of xxx_xx_labels.pt, such as 'vg'"),
    "DATASET.TRAIN": _SPLIT,
    "DATASET.DEV": _SPLIT,
    "DATASET.TEST": _SPLIT,
    "OUTPUT.SAVE_NAME": (_stays_inside, "a name inside OUTPUT.CHECKPOINT_DIR, not a path that leaves it"),
    "OUTPUT.SAVE_FREQ": _at_least(0),
    "OUTPUT.CHECKPOINT_DIR": (bool, "a folder"),
    "OUTPUT.SAVE_STEPS": _at_least(0),
    "OUTPUT.CLS_HIDDEN_SCALE": _at_least(1),
    "OUTPUT.KEEP": _at_least(0),
    "OPTIMIZATION.LR": _POSITIVE,
    "OPTIMIZATION.EPSILON": _POSITIVE,
    "OPTIMIZATION.BATCH_SIZE": _at_least(1),
    "OPTIMIZATION.WARMUP_STEPS": _at_least(0),
    "OPTIMIZATION.WEIGHT_DECAY": _at_least(0),
    "OPTIMIZATION.EPOCHS": _at_least(1),
    "OPTIMIZATION.CLIP_MAX_NORM": _at_least(0),
    "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS": _at_least(1),
    "OPTIMIZATION.DROPOUT": ((lambda value: 0 <= value < 1), "in [0, 1)"),
    "OPTIMIZATION.ATTENTION_DROPOUT": ((lambda value: value < 1), "in [0, 1), or negative to keep config.json's value"),
    "OPTIMIZATION.NEGATIVES": _at_least(1),
    "OPTIMIZATION.MAX_STEPS": _at_least(0),
    "OPTIMIZATION.EARLY_STOP_PATIENCE": _at_least(0),
    "MONITOR.PRINT_STEP": _at_least(1),
    "MONITOR.EVAL_FREQ": _at_least(0),
    "MONITOR.EVAL_STEPS": _at_least(0),
    "EVAL.RESCORE_TOP": _at_least(0),
    "EVAL.BATCH_TOKENS": _at_least(1),
    "MISC.SEED": ((lambda value: 0 <= value < 2**32), "in 0 .. 4294967295"),
    "MISC.NUM_WORKERS": _at_least(0),
    "MISC.NUM_THREADS": _at_least(0),
}


def value_problem(key, value):
    """What is wrong with one value of the right type.

    Args:
        key: full name, such as "INPUT.MAX_REGION".
        value: bool, int, float or str.
    Returns:
        str: what was found and what is allowed, or None when the value is fine.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"found {value}; must be a finite number"
    if key in OPTIONS and value not in OPTIONS[key]:
        return f"found {value!r}; allowed: {', '.join(map(repr, OPTIONS[key]))}"
    test, words = RANGES.get(key, (None, None))
    if test and not test(value):
        return f"found {value!r}; must be {words}"
    return None


def contradiction(cfg, task):
    """The first pair of settings that cannot both be meant, or the first one a task cannot do without.

    Args:
        cfg: complete CfgNode whose values are each allowed.
        task: one of `task_checks.TASKS`, or None for checks that hold whatever the configuration is used for.
    Returns:
        (keys, message): the full names involved and what to do about them; (None, None) when all is well.
    """
    for keys, wrong, message in (*_pairs(cfg), *task_rows(cfg, task)):
        if wrong:
            return keys, message
    return None, None


def _pairs(cfg):
    """Rows (keys, whether they contradict each other, the remedy) that hold for every task."""
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
