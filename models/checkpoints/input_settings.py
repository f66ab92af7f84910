"""What a checkpoint was trained with, as far as its folder tells: how text and regions were made, what classes mean.

The reference keeps these settings in `training_args.bin` and reads them back before it evaluates; our own checkpoints
have them in `trainer_state.json`, converted ones in `training_args.json`. The answers of the classes and the digest of
the vocabulary are ours, and stand beside them.
"""

import argparse
import functools
import hashlib
import itertools
import logging
import os
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from oscar_paddle.config.errors import DataError, WeightsError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.pickle_names import shown
from oscar_paddle.models.config import read_json_object, read_model_config
from oscar_paddle.models.visibility import MASK_TYPES

log = logging.getLogger(__name__)

ARGS_BIN, ARGS_JSON, TRAINER_STATE = "training_args.bin", "training_args.json", "trainer_state.json"
TOKENIZER = "tokenizer_config.json"
_USUAL_MASK = MASK_TYPES[0]


class InputSettings(NamedTuple):
    """Settings under the names that the reference gives them; the defaults are those of VinVL."""

    max_seq_length: int = 70  # text positions
    max_img_seq_length: int = 70  # regions
    max_seq_a_length: int = 40  # text positions that a caption to be written has for itself
    do_lower_case: bool = True
    add_od_labels: bool = True
    img_feature_type: str = "frcnn"
    od_label_type: str = "vg"
    att_mask_type: str = _USUAL_MASK
    use_pair: bool = True  # of two images: an encoder row for each
    answers: list | None = None  # of the classes, in their order
    vocabulary: str = ""  # see `vocabulary_digest`
    source: str = ""  # file that they are from; "": they are the published ones
    others: dict | None = None  # what else the reference's settings hold, for its own use
    told_by: dict = MappingProxyType({})  # field -> file that says it; the others are as published

    def to_args(self):
        """The reference's settings as a dict, the others included; mask and rows of a pair only where unusual, the
        caption's slot only where it is known."""
        args = {**(self.others or {}), **{field: getattr(self, field) for field in _TYPES}}
        if "max_seq_a_length" not in self.told_by:
            del args["max_seq_a_length"]
        unsaid = {"att_mask_type": _USUAL_MASK, "use_pair": True, "answers": None, "vocabulary": ""}
        return {field: value for field, value in args.items() if field not in unsaid or value != unsaid[field]}


_NOT_SETTINGS = ("source", "others", "told_by")
_TYPES = {field: kind for field, kind in InputSettings.__annotations__.items() if field not in _NOT_SETTINGS}
OUR_KEYS = {
    "max_seq_length": "INPUT.MAX_SEQ_LEN",
    "max_img_seq_length": "INPUT.MAX_REGION",
    "max_seq_a_length": "CAPTION.MAX_SEQ_A_LEN",
    "do_lower_case": "INPUT.DO_LOWER_CASE",
    "add_od_labels": "INPUT.ADD_OD_LABEL",
    "img_feature_type": "INPUT.IMG_FEATURE_TYPE",
    "att_mask_type": "INPUT.ATT_MASK_TYPE",
    "use_pair": "INPUT.USE_PAIR",
    "od_label_type": "DATASET.OD_LABEL_TYPE",
}


def read_input_settings(folder, config):
    """Settings of a checkpoint folder; what it does not tell is as published for Oscar or VinVL.

    Args:
        config: dict, the folder's config.json.
    Raises:
        WeightsError, DataError: a file with settings is damaged, or one of them is of the wrong type.
    """
    folder = Path(folder)
    settings = InputSettings(img_feature_type=config.get("img_feature_type", "frcnn"), others={})
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int):
        settings = settings._replace(max_seq_length=min(settings.max_seq_length, positions))
    if not config.get("use_img_layernorm"):  # Oscar
        settings = settings._replace(max_img_seq_length=50)
    if os.path.lexists(folder / TOKENIZER):
        tokenizer = read_json_object(folder / TOKENIZER)
        settings = _updated(settings, tokenizer, ("do_lower_case",), folder / TOKENIZER)
    for name, read in ((ARGS_BIN, _read_args), (ARGS_JSON, read_json_object), (TRAINER_STATE, _read_own)):
        if os.path.lexists(folder / name):  # a folder or a dead link, too, is no file that was never there
            values = _before_self_critical(read(folder / name))
            others = {field: value for field, value in values.items() if field not in _TYPES and _is_plain(value)}
            if "max_seq_length" in values:  # a mask is written where it is not the usual one
                values = {"att_mask_type": _USUAL_MASK, **values}
            settings = _updated(settings, values, _TYPES, folder / name)._replace(source=name, others=others)
            break
    for field, least in (("max_seq_length", 3), ("max_img_seq_length", 1)):
        if getattr(settings, field) < least:
            where = f"{folder / settings.source}: {field}"
            raise WeightsError(f"{where} is {getattr(settings, field)}; expected at least {least}")
    if settings.att_mask_type not in MASK_TYPES:
        where, expected = folder / settings.source, ", ".join(MASK_TYPES)
        raise WeightsError(f"{where}: att_mask_type is {settings.att_mask_type!r}; expected {expected}")
    return settings


def _before_self_critical(values):
    """The settings as they were before self-critical training, for which the reference replaces the caption's slot by
    the length of generation in `max_seq_length` (docs/reference.md, caption rows)."""
    if values.get("scst") is not True:
        return values
    lengths = [values.get(name) for name in ("max_seq_length", "max_gen_length", "max_seq_a_length")]
    if not all(type(length) is int for length in lengths):
        return values
    whole, generated, slot = lengths
    return {**values, "scst": False, "max_seq_length": whole - generated + slot}


def stored_settings(folder):
    """The same for a folder with a model; settings that cannot be read count as not told, with a warning."""
    config = read_model_config(folder).to_dict()
    try:
        return read_input_settings(folder, config)
    except (WeightsError, DataError) as error:
        _warn_once(f"{error}; what the checkpoint was trained with is not compared")
        return InputSettings()


@functools.cache  # an evaluation asks for settings, vocabulary and answers
def _warn_once(text):
    log.warning("%s", text)


def _updated(settings, values, fields, path):
    """Settings with those of the fields that a file has."""
    found = {field: values[field] for field in fields if field in values}
    for field, value in found.items():
        kind = _TYPES[field]
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise WeightsError(f"{path}: {field} is {shown(value)}; expected {getattr(kind, '__name__', kind)}")
    if not all(isinstance(answer, str) for answer in found.get("answers") or ()):
        raise WeightsError(f"{path}: answers holds what is no text; expected the answer of each class")
    return settings._replace(**found, told_by={**settings.told_by, **dict.fromkeys(found, path.name)})


def _read_args(path):
    args = torch_files.load(path)
    if not isinstance(args, argparse.Namespace):
        raise WeightsError(f"{path}: holds a {type(args).__name__}; expected an argparse.Namespace")
    return vars(args)


def _read_own(path):
    """Our trainer's state: its config, and what the classes and token ids mean."""
    state = read_json_object(path)
    config = state.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("INPUT"), dict):
        raise WeightsError(f"{path}: no settings in it; expected the sections of a config under 'config'")
    parts = {field: key.split(".") for field, key in OUR_KEYS.items()}
    found = {field: config[section][key] for field, (section, key) in parts.items() if key in config.get(section, ())}
    return {**found, **{field: state[field] for field in ("answers", "vocabulary") if field in state}}


def _is_plain(value):
    """Whether a value is what a command line gives, a scalar or a list of them: JSON can hold it, and it has an end."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(part, (str, int, float, type(None))) for part in parts)


# ---- what must agree


def vocabulary_digest(words):
    """Hex digest of the words of a vocabulary in their order, whatever their casing is used for."""
    return hashlib.blake2b("\n".join(words).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def check_meaning(folder, words=None, answers=None):
    """Refuse token ids or classes that mean something else than when the checkpoint in `folder` was trained.

    Args:
        words: the vocabulary in the order of its ids. answers: list of str in the order of the classes. What is None
            here, or not kept by the checkpoint, is not compared.
    Returns:
        InputSettings of the folder.
    Raises:
        DataError: names what differs: the digests, or the first class with both answers.
    """
    settings = stored_settings(folder)
    if words is not None and settings.vocabulary not in ("", found := vocabulary_digest(words)):
        raise DataError(
            f"{folder}: trained with another vocabulary (digest {settings.vocabulary}; found {found}, {len(words)} "
            "words): put the vocab.txt that it was trained with into the folder"
        )
    if answers is None or settings.answers in (None, list(answers)):
        return settings
    pairs = enumerate(itertools.zip_longest(settings.answers, answers))
    number, both = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    was, now = (f'"{answer}"' if answer is not None else "none" for answer in both)
    raise DataError(
        f"{folder}: the classes of this checkpoint are other answers: class {number} was {was}, is {now} "
        f"({len(settings.answers)} answers were, {len(answers)} are); name the dictionary that it was trained with "
        "(DATASET.LABEL_FILE, LABEL2ANS_FILE), or train a new head (PRETRAINED.FRESH_HEAD True)"
    )
