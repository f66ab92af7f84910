"""Whether a checkpoint may be continued with the present settings: exactly, or on demand inexactly."""

import logging
import math

from oscar_paddle.config.default import KEYS, RUN, keys_deciding, value_of
from oscar_paddle.config.errors import ConfigError

log = logging.getLogger(__name__)

# Of the keys that decide a run, those with a rule of their own; the data and the model are compared by content.
_SCHEDULE_KEYS = ("OPTIMIZATION.EPOCHS", "OPTIMIZATION.MAX_STEPS")  # free with a constant learning rate
_BATCH_KEYS = ("OPTIMIZATION.BATCH_SIZE", "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS")  # compared as a product
_PROCESSES = "the number of processes"
_OF_THE_RUN = ("hidden_dropout_prob", "attention_probs_dropout_prob", "loss_type")  # in config.json, from keys


def settings_for_resume(cfg, world_size, model_config, has_dropout, fingerprints, device=""):
    """What a checkpoint remembers of its run, as a JSON-serialisable dict.

    Args:
        world_size: number of processes.
        model_config: dict, the contents of the model's config.json.
        has_dropout: whether any layer drops values, or the task's losses draw at random.
        fingerprints: {what: hex digest} of the data.
        device: kind and name of what computes, see `runtime.device_name`.
    """
    return {
        "keys": {key: value_of(cfg, key) for key in keys_deciding(RUN)},
        "world_size": world_size,
        "model": model_config,
        "has_dropout": has_dropout,
        "data": fingerprints,
        "device": device,
    }


def check_resumable(saved, present, where, inexact=False):
    """Refuse a checkpoint that would not continue exactly.

    Another number of processes, batch size or accumulation is allowed when their product (examples per update) stays
    the same and dropout is off: dropout masks are drawn per process and micro-batch. Keys that only say what is
    reported, when, and with how many workers are free.

    Args:
        saved, present: dicts from `settings_for_resume`.
        where: the checkpoint folder.
        inexact: PRETRAINED.RESUME_INEXACT: refuse another model only, and warn of everything else that differs.
    Returns:
        whether the run goes on exactly.
    Raises:
        ConfigError: names the first thing that differs, with both values, and how to go on all the same.
    """
    of_the_model, others = _model_differences(saved, present), list(_differences(saved, present))
    for what in of_the_model if inexact else (others or of_the_model)[:1]:
        way = "the same model continues only; " if what in of_the_model else ""
        raise ConfigError(
            f"{where}: cannot be resumed exactly: {what}; {way}start a new run with PRETRAINED.DIR = {where} and "
            "PRETRAINED.FROM_SCRATCH False (the schedule begins anew)"
            + ("" if way else ", or ask for it with PRETRAINED.RESUME_INEXACT True")
        )
    for what in others:
        log.warning("%s: not resumed exactly (PRETRAINED.RESUME_INEXACT): %s", where, what)
    before, after = _devices(saved, present)
    if before != after and not others:
        log.warning("%s: was computed on %s; on %s the last bits of the run will differ", where, before, after)
    if others:
        log.warning(
            "the order of examples, dropout masks, learning rate and so all numbers from here on are not those of an "
            "unbroken run; weights, moments and the place in the data go on"
        )
    return not others


def resumed_lead(state, present, epoch_steps):
    """How many updates ahead of their count the place in the data is, after going on with other updates.

    Args:
        state: trainer_state.json. present: dict from `settings_for_resume`. epoch_steps: updates of an epoch, now.
    """
    before, after = (_examples_per_update(settings) for settings in (state["settings"], present))
    position = min(epoch_steps, round(state["position_in_epoch"] * before / after))
    return state["epoch"] * epoch_steps + position - state["step"]


def _model_differences(saved, present):
    """In words; dropout and loss follow from keys, which have rules of their own."""
    names = {*saved["model"], *present["model"]} - set(_OF_THE_RUN)
    pairs = {name: (saved["model"].get(name), present["model"].get(name)) for name in sorted(names)}
    return [
        _words(f"{name} of the model (config.json in PRETRAINED.DIR)", *pair)
        for name, pair in pairs.items()
        if pair[0] != pair[1]
    ]


def _differences(saved, present):
    """Yields in words what would make the rest of the run another."""
    constant = present["keys"]["OPTIMIZATION.LR_SCHEDULER"] == "constant"
    free = _BATCH_KEYS + _SCHEDULE_KEYS if constant else _BATCH_KEYS
    for key, value in present["keys"].items():
        before = saved["keys"].get(key, KEYS[key].default)  # of a key that is younger than the checkpoint
        if key not in free and before != value:
            yield _words(key, before, value)
    for name in _OF_THE_RUN:
        if saved["model"].get(name) != present["model"].get(name):
            yield _words(f"{name} of the model", saved["model"].get(name), present["model"].get(name))
    for what in saved["data"].keys() & present["data"].keys():  # a run may start or stop evaluating on the way
        if saved["data"][what] != present["data"][what]:
            yield _words(f"the content of {what}", saved["data"][what], present["data"][what])
    before, after = _devices(saved, present)
    kinds = [device.split(" ")[0] for device in (before, after)]
    if kinds[0] != kinds[1] and present["has_dropout"]:
        words = _words("the device (MISC.DEVICE)", before, after)
        yield f"{words}; a {kinds[1]} draws other dropout masks (set MISC.DEVICE {kinds[0]})"
    batches = {_PROCESSES: (saved["world_size"], present["world_size"])}
    batches.update({key: (saved["keys"][key], present["keys"][key]) for key in _BATCH_KEYS})
    changed = [_words(key, *values) for key, values in batches.items() if values[0] != values[1]]
    before, after = _examples_per_update(saved), _examples_per_update(present)
    if before != after:
        yield f"{changed[0]}; {' x '.join(batches)} must stay {before} (it would be {after})"
    elif changed and present["has_dropout"]:
        only = "only a run with DROPOUT and ATTENTION_DROPOUT 0 may change it"
        yield f"{changed[0]}; dropout masks depend on it ({only})"


def _devices(saved, present):
    return saved.get("device") or present["device"], present["device"]


def _examples_per_update(settings):
    return settings["world_size"] * math.prod(settings["keys"][key] for key in _BATCH_KEYS)


def _words(what, old, new):
    return f"{what} was {old!r} and is {new!r}"
