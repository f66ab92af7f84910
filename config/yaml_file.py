"""Reads one YAML file into settings that remember their line.

PyYAML's own loading drops line numbers and lets the last of two equal keys win without a word. So the file is read as
a tree of nodes, and only the scalar values in it are turned into Python values.
"""

import os
from typing import NamedTuple

import yaml

from oscar_paddle.config.errors import ConfigError

BASE_KEY = "_BASE_"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NULL = "tag:yaml.org,2002:null"


class Setting(NamedTuple):
    """One key as one place sets it."""

    key: str  # full name, "OPTIMIZATION.LR"; a section's name where it holds no keys
    value: object  # bool, int, float, str, date, None (nothing), or Unfit
    where: str  # "configs/a.yaml:12" or "--opts"


class Unfit(NamedTuple):
    """A YAML value that no key can take, such as a list."""

    words: str  # how an error describes it: "a list [1, 2]"


def read_yaml_settings(path, named_by=None):
    """The settings and the bases in one YAML file; named_by: the file whose `_BASE_` led here, for errors.

    Returns:
        (settings, bases): list of Setting in file order; list of paths, relative ones resolved against this file.
    Raises:
        ConfigError: missing or unreadable file, not YAML, not sections of keys, a key given twice in one mapping.
    """
    path = located(path)
    text = _read_text(path, f" ({BASE_KEY} of {named_by})" if named_by else "")
    settings, bases = [], []
    for name, node in _entries(_root(text, path), path, text):
        if name == BASE_KEY:
            bases = [located(base, os.path.dirname(path)) for base in _bases(node, path, text)]
        elif "." in name:
            section, _, key = name.partition(".")
            raise ConfigError(f"{_place(path, node)}: {name}: in a file, write '{section}:' and '{key}:' below it")
        elif isinstance(node, yaml.MappingNode):
            leaves = [(f"{name}.{key}", _value(leaf, text), leaf) for key, leaf in _entries(node, path, text)]
            for key, value, leaf in leaves or [(name, None, node)]:
                settings.append(Setting(key, value, _place(path, leaf)))
        else:
            settings.append(Setting(name, _value(node, text), _place(path, node)))
    return settings, bases


def located(path, folder=""):
    """A path relative to a folder; `configs/...` that is not there is the file that the package brings along."""
    here = os.path.join(folder, os.path.expanduser(path))
    packaged = os.path.join(_PACKAGE, os.path.normpath(path))
    brought = os.path.dirname(packaged) == os.path.join(_PACKAGE, "configs") and os.path.isfile(packaged)
    return packaged if brought and not os.path.exists(here) else here


def one_line(text, limit=200):
    """Text from elsewhere, made fit for an error of one line: blanks collapsed, cut after `limit` characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def _read_text(path, reason):
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file{reason}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}{reason}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise ConfigError(f"{path!r}: cannot be read: {getattr(error, 'strerror', None) or error}{reason}") from error


def _root(text, path):
    """The mapping at the top of the file; an empty one for an empty file."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: not YAML: character {text[error.position]!r} is not allowed") from error
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not a configuration: brackets nested too deeply") from error
    if root is None or root.tag == _NULL:
        return yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{_place(path, root)}: expected sections of keys (INPUT: ...), found {_source(root, text)}")
    return root


def _not_yaml(error, path):
    mark = getattr(error, "problem_mark", None)
    return ConfigError(
        f"{path}{f':{mark.line + 1}' if mark else ''}: not YAML: {one_line(getattr(error, 'problem', None) or error)}"
    )


def _entries(mapping, path, text):
    """The (name, value node) pairs of a mapping, `<<` merges resolved; a name given twice is refused."""
    first_line = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{_place(path, key)}: expected the name of a key, found {_source(key, text)}")
        if key.value in first_line:
            name, first = one_line(key.value), first_line[key.value]
            raise ConfigError(f"{_place(path, key)}: {name} is given twice, the first time in line {first}")
        first_line[key.value] = key.start_mark.line + 1
    merged = yaml.MappingNode(mapping.tag, list(mapping.value))  # a copy: an alias may lead to `mapping` again
    try:
        yaml.constructor.SafeConstructor().flatten_mapping(merged)
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from error
    return {key.value: value for key, value in merged.value}.items()  # PyYAML puts merged pairs before own ones


def _bases(node, path, text):
    """The paths a `_BASE_` entry names: one, or a list of them."""
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    bases = [_value(item, text) for item in items]
    if not all(isinstance(base, str) and base for base in bases):
        found = _source(node, text)
        raise ConfigError(f"{_place(path, node)}: {BASE_KEY}: expected a path or a list of paths, found {found}")
    return bases


def _value(node, text):
    """The Python value of a scalar node; Unfit for anything else."""
    if not isinstance(node, yaml.ScalarNode):
        return Unfit(_source(node, text))
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):  # 2024-13-45, !!int abc, !mytag x
        return Unfit(_source(node, text))
    too_long_to_print = type(value) is int and value.bit_length() > 64
    return Unfit(_source(node, text)) if too_long_to_print else value


def _source(node, text):
    """A node as the file writes it, for an error."""
    kind = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}.get(type(node), "a value")
    return f"{kind} {one_line(text[node.start_mark.index : node.end_mark.index], limit=80)}"


def _place(path, node):
    return f"{path}:{node.start_mark.line + 1}"
