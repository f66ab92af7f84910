"""Whether a checkpoint may be continued with the present settings: only where the result is exactly the same."""

import math

from oscar_paddle.config.default import RUN, keys_deciding, value_of
from oscar_paddle.config.errors import ConfigError

# Of the keys that decide a run, those with a rule of their own; the data and the model are compared by content.
_SCHEDULE_KEYS = ("OPTIMIZATION.EPOCHS", "OPTIMIZATION.MAX_STEPS")  # free with a constant learning rate
_BATCH_KEYS = ("OPTIMIZATION.BATCH_SIZE", "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS")  # compared as a product
_PROCESSES = "the number of processes"


def settings_for_resume(cfg, world_size, model_config, has_dropout, fingerprints):
    """What a checkpoint remembers of its run, as a JSON-serialisable dict.

    Args:
        world_size: number of processes.
        model_config: dict, the contents of the model's config.json.
        has_dropout: whether any layer drops values.
        fingerprints: {what: hex digest} of the data.
    """
    return {
        "keys": {key: value_of(cfg, key) for key in keys_deciding(RUN)},
        "world_size": world_size,
        "model": model_config,
        "has_dropout": has_dropout,
        "data": fingerprints,
    }


def check_resumable(saved, present, where):
    """Refuse a checkpoint that would not continue exactly.

    Another number of processes, batch size or accumulation is allowed when their product (examples per update) stays
    the same and dropout is off: dropout masks are drawn per process and micro-batch. Keys that only say what is
    reported, when, and with how many workers are free.

    Args:
        saved, present: dicts from `settings_for_resume`.
        where: the checkpoint folder.
    Raises:
        ConfigError: names the first thing that differs, with both values.
    """

    def refuse(key, old, new, why=""):
        raise ConfigError(f"{where}: cannot be resumed exactly: {key} was {old!r} and is {new!r}{why}")

    constant = present["keys"]["OPTIMIZATION.LR_SCHEDULER"] == "constant"
    free = _BATCH_KEYS + _SCHEDULE_KEYS if constant else _BATCH_KEYS
    for key, value in present["keys"].items():
        if key not in free and saved["keys"].get(key) != value:
            refuse(key, saved["keys"].get(key), value)
    for name in sorted({*saved["model"], *present["model"]}):
        old, new = saved["model"].get(name), present["model"].get(name)
        if old != new:
            refuse(f"{name} of the model (config.json in PRETRAINED.DIR)", old, new)
    for what in saved["data"].keys() & present["data"].keys():  # a run may start or stop evaluating on the way
        if saved["data"][what] != present["data"][what]:
            refuse(f"the content of {what}", saved["data"][what], present["data"][what])

    batches = {_PROCESSES: (saved["world_size"], present["world_size"])}
    batches.update({key: (saved["keys"][key], present["keys"][key]) for key in _BATCH_KEYS})
    changed = {key: values for key, values in batches.items() if values[0] != values[1]}
    before, after = (math.prod(values) for values in zip(*batches.values(), strict=True))
    why = "; dropout masks depend on it (only a run with DROPOUT and ATTENTION_DROPOUT 0 may change it)"
    if before != after:
        why = f"; {' x '.join(batches)} must stay {before} (it would be {after})"
    if before != after or (changed and present["has_dropout"]):
        key, (old, new) = next(iter(changed.items()))
        refuse(key, old, new, why)
