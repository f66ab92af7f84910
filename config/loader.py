"""From YAML files and `--opts` to one frozen configuration, and back to a file.

Later wins: the defaults, the files named by `_BASE_` (in their order, each with its own bases first), the YAML file
itself, then `--opts KEY VALUE ...`. Every value is checked where it is set, so an error names the file and line (or
`--opts`) it comes from; after the last one the settings are checked against each other and frozen.
"""

import difflib
import os
import re

import yaml

from oscar_paddle.config.checks import contradiction
from oscar_paddle.config.default import KEYS, get_cfg_defaults, value_of
from oscar_paddle.config.errors import ConfigError, UserError
from oscar_paddle.config.yaml_file import BASE_KEY, Setting, Unfit, one_line, read_yaml_settings

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load_config(cfg_file, opts=(), needs=None):
    """The configuration that a YAML file and command-line overrides describe.

    An empty OUTPUT.SAVE_NAME becomes the file's name without its ending, so `configs/retrieval_train.yaml` writes to
    the run folder `retrieval_train`.

    Args:
        cfg_file: path of the YAML file.
        opts: flat sequence KEY, VALUE, KEY, VALUE ...; values are text, or already of the key's type. A key named
            twice takes its last value.
        needs: what a task needs, as a function cfg -> rows (see `checks`); None: nothing. By the task's name it is
            `tools.command_line.load_task_config`.
    Returns:
        CfgNode: complete, checked and frozen; its attribute `origins` is {full name of a key that is set: where}.
    Raises:
        ConfigError: one line that names the key and the file (or `--opts`): a file that is missing, unreadable or not
            YAML, a circular `_BASE_`, a key that is unknown or given twice, a value of the wrong type or out of range,
            settings that contradict each other, or a missing one that the task needs.
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


def dump_config(cfg, path):
    """Writes a configuration as YAML that `load_config` reads back to the same values.

    The file appears whole or not at all: it is written beside its final place and then renamed.

    Args:
        cfg: CfgNode, frozen or not.
        path: file to write; its folder is made when missing.
    Raises:
        UserError: the file cannot be written.
    """
    path = os.fspath(path)
    sections = {section: dict(keys) for section, keys in cfg.items()}
    breaks = {"\x85", "\u2028", "\u2029"}  # line ends to YAML: unescaped, it reads them back as blanks
    readable = not any(breaks & set(str(value)) for keys in sections.values() for value in keys.values())
    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(unfinished, "w", encoding="utf-8") as file:
            yaml.safe_dump(sections, file, sort_keys=False, allow_unicode=readable)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write the configuration: {error.strerror or error}") from error
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def _settings_from_file(path, chain=()):
    """All settings of a YAML file, those of its bases first.

    Args:
        path: the file, as the user or a `_BASE_` names it.
        chain: the files whose `_BASE_` led here, outermost first.
    """
    own, bases = read_yaml_settings(path, named_by=chain[-1] if chain else None)
    if os.path.realpath(path) in map(os.path.realpath, chain):
        raise ConfigError(f"{chain[-1]}: {BASE_KEY} goes round in a circle: {' -> '.join((*chain, path))}")
    return [setting for base in bases for setting in _settings_from_file(base, (*chain, path))] + own


def _settings_from_opts(opts):
    """The settings in a flat sequence KEY, VALUE, KEY, VALUE ..."""
    opts = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in opts]
    keys, values = [str(key) for key in opts[::2]], opts[1::2]
    for key in keys:
        if "=" in key:
            raise ConfigError(f"--opts: {one_line(key)}: put a blank between key and value, KEY VALUE")
    if len(keys) > len(values):
        raise ConfigError(f"--opts: {one_line(keys[-1])} has no value: expected pairs KEY VALUE KEY VALUE ...")
    return [Setting(key, value, "--opts") for key, value in zip(keys, values, strict=True)]


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
    wrong = wrong[:100].upper()

    def likeness(known):
        whole = difflib.SequenceMatcher(None, wrong, known).ratio()
        last = difflib.SequenceMatcher(None, wrong.rpartition(".")[2], known.rpartition(".")[2]).ratio()
        return max(whole, 0.95 * last), whole

    return max(KEYS, key=likeness)


def _checked_value(setting):
    """The value of a setting as its key's type, within what the key allows."""
    kind = type(KEYS[setting.key].default)
    value = _convert(setting.value, kind)
    if value is None:
        problem = f"expected {kind.__name__}, found {_describe(setting.value)}{_hint(setting, kind)}"
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


def _hint(setting, kind):
    if kind is not str or isinstance(setting.value, Unfit):
        return ""
    return "; write '' for an empty text" if setting.value is None else "; put it in quotes to make it text"


def _describe(value):
    """Type and value of what was found, for an error."""
    if value is None:
        return "nothing"
    if isinstance(value, Unfit):
        return value.words
    shown = repr(value) if isinstance(value, str) else str(value)
    return f"{type(value).__name__} {one_line(shown, limit=80)}"
