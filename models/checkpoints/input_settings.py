"""How the text and regions were made that a checkpoint was trained with, as far as its folder tells.

The reference keeps these settings in `training_args.bin` and reads them back before it evaluates; our own checkpoints
have them in `trainer_state.json`, converted ones in `training_args.json`.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.pickle_names import shown
from oscar_paddle.models.config import read_json_object
from oscar_paddle.models.visibility import MASK_TYPES

ARGS_BIN, ARGS_JSON, TRAINER_STATE = "training_args.bin", "training_args.json", "trainer_state.json"
TOKENIZER = "tokenizer_config.json"
_USUAL_MASK = MASK_TYPES[0]


class InputSettings(NamedTuple):
    """Settings under the names that the reference gives them; the defaults are those of VinVL."""

    max_seq_length: int = 70  # text positions
    max_img_seq_length: int = 70  # regions
    do_lower_case: bool = True
    add_od_labels: bool = True
    img_feature_type: str = "frcnn"
    od_label_type: str = "vg"
    att_mask_type: str = _USUAL_MASK
    source: str = ""  # file that they are from; "": they are the published ones
    others: dict | None = None  # what else the reference's settings hold, for its own use

    def to_args(self):
        """The reference's settings as a dict, the others included; a mask only where it is not the usual one."""
        args = {**(self.others or {}), **{field: getattr(self, field) for field in _TYPES}}
        if self.att_mask_type == _USUAL_MASK:
            del args["att_mask_type"]
        return args


_TYPES = {field: kind for field, kind in InputSettings.__annotations__.items() if field not in ("source", "others")}
_OUR_KEYS = {
    "max_seq_length": "MAX_SEQ_LEN",
    "max_img_seq_length": "MAX_REGION",
    "do_lower_case": "DO_LOWER_CASE",
    "add_od_labels": "ADD_OD_LABEL",
    "img_feature_type": "IMG_FEATURE_TYPE",
    "att_mask_type": "ATT_MASK_TYPE",
}


def read_input_settings(folder, config):
    """Settings of a checkpoint folder; what it does not tell is as published for Oscar or VinVL.

    Args:
        config: dict, the folder's config.json.
    Raises:
        WeightsError: a file with settings is damaged, or one of them is of the wrong type.
    """
    folder = Path(folder)
    settings = InputSettings(img_feature_type=config.get("img_feature_type", "frcnn"), others={})
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int):
        settings = settings._replace(max_seq_length=min(settings.max_seq_length, positions))
    if not config.get("use_img_layernorm"):  # Oscar
        settings = settings._replace(max_img_seq_length=50)
    if (folder / TOKENIZER).is_file():
        tokenizer = read_json_object(folder / TOKENIZER)
        settings = _updated(settings, tokenizer, ("do_lower_case",), folder / TOKENIZER)
    for name, read in ((ARGS_BIN, _read_args), (ARGS_JSON, read_json_object), (TRAINER_STATE, _read_own)):
        if (folder / name).is_file():
            values = read(folder / name)
            others = {field: value for field, value in values.items() if field not in _TYPES and _is_plain(value)}
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


def _updated(settings, values, fields, path):
    """Settings with those of the fields that a file has."""
    found = {field: values[field] for field in fields if field in values}
    for field, value in found.items():
        kind = _TYPES[field]
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise WeightsError(f"{path}: {field} is {shown(value)}; expected {kind.__name__}")
    return settings._replace(**found)


def _read_args(path):
    args = torch_files.load(path)
    if not isinstance(args, argparse.Namespace):
        raise WeightsError(f"{path}: holds a {type(args).__name__}; expected an argparse.Namespace")
    return vars(args)


def _read_own(path):
    """Our trainer's state: its config, section INPUT."""
    config = read_json_object(path).get("config")
    inputs = config.get("INPUT") if isinstance(config, dict) else None
    if not isinstance(inputs, dict):
        raise WeightsError(f"{path}: no settings in it; expected the sections of a config under 'config'")
    return {field: inputs[key] for field, key in _OUR_KEYS.items() if key in inputs}


def _is_plain(value):
    """Whether a value is what a command line gives, a scalar or a list of them: JSON can hold it, and it has an end."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(part, (str, int, float, type(None))) for part in parts)
