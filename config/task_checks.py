"""What each task needs of a configuration: settings that must be present, and values that only it refuses."""

# "train" and "eval" are those of retrieval.
TASKS = ("train", "eval", *(f"{action}_{kind}" for kind in ("vqa", "gqa", "nlvr2") for action in ("train", "eval")))

# kind -> key -> values that its files and its loss have.
_CHOICES = {
    "vqa": {
        "DATASET.TRAIN": ("train", "train+val"),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test2015", "test-dev2015"),
        "DATASET.DATA_LABEL_TYPE": ("mask", "all"),
    },
    "gqa": {
        "DATASET.TRAIN": ("train",),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test-dev", "test"),
        "DATASET.EVAL_DATA_TYPE": ("bal", "all"),
        "OPTIMIZATION.LOSS_TYPE": ("xe", "sfmx"),
    },
    "nlvr2": {
        "DATASET.TRAIN": ("train",),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test1", "val+test1"),
        "OPTIMIZATION.LOSS_TYPE": ("xe", "sfmx", "kl"),  # of one right class, kl is cross entropy
        "OUTPUT.NUM_LABELS": (2,),
    },
}
_TEST_ONLY, _TRAIN_ONLY = ("DATASET.TEST",), ("DATASET.TRAIN", "DATASET.DEV", "OPTIMIZATION.LOSS_TYPE")


def evaluates_while_training(cfg):
    return cfg.MONITOR.EVAL_FREQ > 0 or cfg.MONITOR.EVAL_STEPS > 0


def task_rows(cfg, task):
    """Rows (keys, whether something is wrong with them, the remedy) for one task of `TASKS`; none for None."""
    if task is None:
        return
    action, _, kind = task.partition("_")
    what = {"": "the caption files"}.get(kind, "the question files")
    yield ("DATASET.DATA_DIR",), not cfg.DATASET.DATA_DIR, f"set it to the folder with {what}"
    if action == "train":
        start = "set it to the folder of the model to start from (config.json, vocab.txt and weights)"
        yield ("PRETRAINED.DIR",), not cfg.PRETRAINED.DIR, start
    else:
        yield ("EVAL.CHECKPOINT_DIR",), not cfg.EVAL.CHECKPOINT_DIR, "set it to the checkpoint folder to evaluate"
    yield from _choices(cfg, action, kind) if kind else _protocol(cfg, action)


def _protocol(cfg, action):
    """Retrieval is evaluated in one of two ways; which one must be said."""
    undecided = not (cfg.EVAL.EVAL_CROSS_IMAGE or cfg.EVAL.EVAL_CAPTION_INDEX_FILE)
    how = "which captions each image is scored with is not said: set EVAL_CROSS_IMAGE True, or name an index file"
    if action == "train":
        undecided = undecided and evaluates_while_training(cfg)
        how += ", or set MONITOR.EVAL_FREQ and EVAL_STEPS to 0"
    yield ("EVAL.EVAL_CROSS_IMAGE", "EVAL.EVAL_CAPTION_INDEX_FILE"), undecided, how


def _choices(cfg, action, kind):
    for key, allowed in _CHOICES[kind].items():
        if key in (_TEST_ONLY if action == "train" else _TRAIN_ONLY):
            continue
        if key == "DATASET.DEV" and not evaluates_while_training(cfg):
            continue
        section, name = key.split(".")
        remedy = f"{kind} has {', '.join(map(repr, allowed))}"
        yield (key,), cfg[section][name] not in allowed, remedy
    clr = "Caption, Labels and Regions all see each other in this task: set 'CLR'"
    yield ("INPUT.ATT_MASK_TYPE",), cfg.INPUT.ATT_MASK_TYPE != "CLR", clr
