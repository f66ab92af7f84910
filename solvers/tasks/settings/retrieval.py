"""What retrieval needs of a configuration."""

from oscar_paddle.config.checks import evaluates_while_training, folders


def needs(cfg, action):
    """Rows for `config.checks.contradiction`; `action` is "train" or "eval".

    Retrieval is evaluated in one of two ways; which one must be said.
    """
    yield from folders(cfg, action, "the caption files")
    undecided = not (cfg.EVAL.EVAL_CROSS_IMAGE or cfg.EVAL.EVAL_CAPTION_INDEX_FILE)
    how = "which captions each image is scored with is not said: set EVAL_CROSS_IMAGE True, or name an index file"
    if action == "train":
        undecided = undecided and evaluates_while_training(cfg)
        how += ", or set MONITOR.EVAL_FREQ and EVAL_STEPS to 0"
    yield ("EVAL.EVAL_CROSS_IMAGE", "EVAL.EVAL_CAPTION_INDEX_FILE"), undecided, how
