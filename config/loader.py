"""From YAML files and `--opts` to one frozen configuration.

Later wins: the defaults, the files named by `_BASE_` (in their order, each with its own bases first), the YAML file
itself, then `--opts KEY VALUE ...`. Every value is checked where it is set, so an error names the file and line (or
`--opts`) it comes from; after the last one the settings are checked against each other and frozen.
"""

import difflib
import os
import re

from oscar_paddle.config.checks import contradiction
from oscar_paddle.config.default import KEYS, get_cfg_defaults, value_of
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.config.yaml_file import BASE_KEY, Setting, Unfit, one_line, read_yaml_settings

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load_config(cfg_file, opts=(), needs=None):
    """The configuration that a YAML file and command-line overrides describe.

    An empty OUTPUT.SAVE_NAME becomes the file's name without its ending, so `configs/retrieval_train.yaml` writes to
    the run folder `retrieval_train`.

    Args:
        cfg_file: path of the YAML file.
        opts: flat sequence KEY, VALUE, KEY, VALUE ...; values are text, or already of the key's type.
        needs: what a task needs, as a function cfg -> rows (see `checks`); None: nothing. By the task's name it is
            `tools.shell.command_line.load_task_config`.
    Returns:
        CfgNode: complete, checked and frozen; its attribute `origins` is {full name of a key that is set: where}.
    Raises:
        ConfigError: one line that names the key and the file (or `--opts`).
    """
    cfg_file = os.fspath(cfg_file)
    cfg = get_cfg_defaults()
    origins = {}
    for setting in (*_settings_from_file(cfg_file), *_settings_from_opts(opts)):
        if setting.key in cfg and setting.value is None:
            continue  # a section whose keys are all commented out
        _check_known(cfg, setting)
        section, name = setting.key.split(".")
        cfg[section][name] = _checked_value(setting)
        origins[setting.key] = setting.where
    if not cfg.OUTPUT.SAVE_NAME:
        cfg.OUTPUT.SAVE_NAME = os.path.splitext(os.path.basename(cfg_file))[0]
    keys, remedy = contradiction(cfg, needs)
    if keys:
        found = (f"{key} is {one_line(repr(value_of(cfg, key)), 80)} ({origins.get(key, 'default')})" for key in keys)
        raise ConfigError(f"{cfg_file}: {', '.join(found)}: {remedy}")
    cfg.__dict__["origins"] = origins
    cfg.freeze()
    return cfg


def _settings_from_file(path, chain=()):
    """All settings of a YAML file, those of its bases first; chain: the files whose `_BASE_` led here."""
    own, bases = read_yaml_settings(path, named_by=chain[-1] if chain else None)
    if os.path.realpath(path) in map(os.path.realpath, chain):
        raise ConfigError(f"{chain[-1]}: {BASE_KEY} goes round in a circle: {' -> '.join((*chain, path))}")
    return [setting for base in bases for setting in _settings_from_file(base, (*chain, path))] + own


def _settings_from_opts(opts):
    """The settings in a flat sequence KEY, VALUE, KEY, VALUE ..."""
    opts = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in opts]
    for key in map(str, opts[::2]):
        if "=" in key:
            raise ConfigError(f"--opts: {one_line(key)}: put a blank between key and value, KEY VALUE")
    if len(opts) % 2:
        raise ConfigError(f"--opts: {one_line(opts[-1])} has no value: expected pairs KEY VALUE KEY VALUE ...")
    return [Setting(str(key), value, "--opts") for key, value in zip(opts[::2], opts[1::2], strict=True)]


def _check_known(cfg, setting):
    section, _, name = setting.key.partition(".")
    if section in cfg and not name:
        example, found = next(iter(cfg[section])), _describe(setting.value)
        raise ConfigError(f"{setting.where}: {section} is a section of keys like {section}.{example}, found {found}")
    if setting.key not in KEYS:
        wrong, nearest = one_line(setting.key), _nearest(setting.key)
        raise ConfigError(f"{setting.where}: unknown key {wrong}; the nearest known key is {nearest}")


def _nearest(wrong):
    """The full key name most like a wrong one. A right name in a wrong section, or in none, counts nearly in full."""
    wrong = wrong[:100].upper().replace("-", "_")

    def likeness(known):
        whole = difflib.SequenceMatcher(None, wrong, known).ratio()
        last = difflib.SequenceMatcher(None, wrong.rpartition(".")[2], known.rpartition(".")[2]).ratio()
        return max(whole, 0.95 * last), whole

    return max(KEYS, key=likeness)


def _checked_value(setting):
    """The value of a setting as its key's type, within what the key allows."""
    kind = type(KEYS[setting.key].default)
    value, hint = _convert(setting.value, kind), ""
    if kind is str and not isinstance(setting.value, Unfit):
        hint = "; write '' for an empty text" if setting.value is None else "; put it in quotes to make it text"
    if value is None:
        problem = f"expected {kind.__name__}, found {_describe(setting.value)}{hint}"
    else:
        problem = KEYS[setting.key].problem(value)
    if problem:
        raise ConfigError(f"{setting.where}: {setting.key}: {one_line(problem)}")
    return value


def _convert(value, kind):
    """`value` as `kind` (bool, int, float or str), or None where it is not one.

    Text is read as the key's type: `--opts` has only text, YAML 1.1 takes `2e-5` for text, and yacs, on which
    VinVL-Paddle relies, evaluates quoted values. A whole number may stand for a float; a bool stands for nothing else.
    """
    if type(value) is kind:
        return value
    try:
        if kind is float and type(value) is int:
            return float(value)
        if not isinstance(value, str) or kind is str:
            return None
        if kind is bool:
            return _BOOLS.get(value.lower())
        if kind is int and not re.fullmatch("[-+]?[0-9]{1,20}", value):
            return None
        return kind(value)
    except (ValueError, OverflowError):
        return None


def _describe(value):
    """Type and value of what was found, for an error."""
    if value is None:
        return "nothing"
    if isinstance(value, Unfit):
        return value.words
    shown = repr(value) if isinstance(value, str) else str(value)
    return f"{type(value).__name__} {one_line(shown, limit=80)}"
