"""Whether a checkpoint may be continued with the present settings: only where the result is exactly the same."""

from oscar_paddle.config.errors import ConfigError

# Keys that decide the numbers of a run. The batch is compared as a product, below.
_EXACT_KEYS = (
    "INPUT.MAX_REGION", "INPUT.MAX_SEQ_LEN", "INPUT.IMG_FEATURE_DIM", "INPUT.ADD_OD_LABEL", "INPUT.DO_LOWER_CASE",
    "INPUT.ATT_MASK_TYPE", "INPUT.NUM_CAPTIONS_PER_IMAGE_TRN", "OUTPUT.NUM_LABELS", "OPTIMIZATION.LR",
    "OPTIMIZATION.EPSILON", "OPTIMIZATION.LOSS_TYPE", "OPTIMIZATION.WARMUP_STEPS", "OPTIMIZATION.LR_SCHEDULER",
    "OPTIMIZATION.WEIGHT_DECAY", "OPTIMIZATION.CLIP_MAX_NORM", "OPTIMIZATION.OPTIMIZER", "OPTIMIZATION.DROPOUT",
    "OPTIMIZATION.ATTENTION_DROPOUT", "OPTIMIZATION.AMP", "OPTIMIZATION.NEGATIVES", "MISC.SEED",
)  # fmt: skip
_SCHEDULE_KEYS = ("OPTIMIZATION.EPOCHS", "OPTIMIZATION.MAX_STEPS")  # free with a constant learning rate
_BATCH_KEYS = ("OPTIMIZATION.BATCH_SIZE", "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS")


def settings_for_resume(cfg, world_size, has_dropout, fingerprint):
    """What a checkpoint remembers of its run, as a JSON-serialisable dict."""
    return {
        "keys": {key: _value(cfg, key) for key in (*_EXACT_KEYS, *_SCHEDULE_KEYS, *_BATCH_KEYS)},
        "world_size": world_size,
        "has_dropout": has_dropout,
        "training_data": fingerprint,
    }


def check_resumable(saved, present, where):
    """Refuse a checkpoint that would not continue exactly.

    Another number of processes, batch size or accumulation is allowed when their product (examples per update) stays
    the same and dropout is off: dropout masks are drawn per process and micro-batch.

    Args:
        saved, present: dicts from `settings_for_resume`.
        where: the checkpoint folder.
    Raises:
        ConfigError: names the first key that differs, with both values.
    """

    def refuse(key, old, new, why=""):
        raise ConfigError(f"{where}: cannot be resumed exactly: {key} was {old!r} and is {new!r}{why}")

    constant = present["keys"]["OPTIMIZATION.LR_SCHEDULER"] == "constant"
    for key in _EXACT_KEYS if constant else (*_EXACT_KEYS, *_SCHEDULE_KEYS):
        if saved["keys"].get(key) != present["keys"][key]:
            refuse(key, saved["keys"].get(key), present["keys"][key])
    if saved["training_data"] != present["training_data"]:
        refuse("the training data (images, captions or tags)", saved["training_data"], present["training_data"])
    if _examples_per_update(saved) != _examples_per_update(present):
        why = "; processes x OPTIMIZATION.BATCH_SIZE x OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS must stay the same"
        refuse("the number of examples per update", _examples_per_update(saved), _examples_per_update(present), why)
    if present["has_dropout"]:
        why = "; dropout masks depend on it (only runs with DROPOUT and ATTENTION_DROPOUT 0 may change it)"
        if saved["world_size"] != present["world_size"]:
            refuse("the number of processes", saved["world_size"], present["world_size"], why)
        for key in _BATCH_KEYS:
            if saved["keys"][key] != present["keys"][key]:
                refuse(key, saved["keys"][key], present["keys"][key], why)


def _examples_per_update(settings):
    product = settings["world_size"]
    for key in _BATCH_KEYS:
        product *= settings["keys"][key]
    return product


def _value(cfg, key):
    section, name = key.split(".")
    return cfg[section][name]
