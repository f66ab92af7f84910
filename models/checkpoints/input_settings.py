"""How the text and regions were made that a checkpoint was trained with, as far as its folder tells.

The reference keeps these settings in `training_args.bin` and reads them back before it evaluates; our own checkpoints
have them in `trainer_state.json`, converted ones in `training_args.json`.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.pickle_names import shown
from oscar_paddle.models.visibility import MASK_TYPES

ARGS_BIN, ARGS_JSON, TRAINER_STATE, TOKENIZER = (
    "training_args.bin",
    "training_args.json",
    "trainer_state.json",
    "tokenizer_config.json",
)

# Field of the reference's settings -> (its type, our key).
_FIELDS = {
    "max_seq_length": (int, "MAX_SEQ_LEN"),
    "max_img_seq_length": (int, "MAX_REGION"),
    "do_lower_case": (bool, "DO_LOWER_CASE"),
    "add_od_labels": (bool, "ADD_OD_LABEL"),
    "img_feature_type": (str, "IMG_FEATURE_TYPE"),
    "od_label_type": (str, None),
    "att_mask_type": (str, "ATT_MASK_TYPE"),
}
_USUAL_MASK = MASK_TYPES[0]


class InputSettings(NamedTuple):
    """Settings under the names that the reference gives them.

    Attributes:
        max_seq_length: text positions. max_img_seq_length: regions.
        do_lower_case, add_od_labels: bool.
        img_feature_type, od_label_type, att_mask_type: str.
        source: file that they are from, "" when they are the published ones.
        others: dict of what else the reference's settings hold, for its own use.
    """

    max_seq_length: int
    max_img_seq_length: int
    do_lower_case: bool
    add_od_labels: bool
    img_feature_type: str
    od_label_type: str
    att_mask_type: str
    source: str
    others: dict

    def to_args(self):
        """The reference's settings as a dict, the others included; a mask only where it is not the usual one."""
        args = {**self.others, **{field: getattr(self, field) for field in _FIELDS}}
        if self.att_mask_type == _USUAL_MASK:
            del args["att_mask_type"]
        return args


def read_input_settings(folder, config):
    """Settings of a checkpoint folder; what it does not tell is as published for Oscar or VinVL.

    Args:
        folder: checkpoint folder.
        config: dict, its config.json.
    Returns:
        InputSettings.
    Raises:
        WeightsError: a file with settings is damaged, or one of them is of the wrong type.
    """
    folder = Path(folder)
    positions = config.get("max_position_embeddings", 512)
    found, source, others = (
        {
            "max_seq_length": min(70, positions) if isinstance(positions, int) else 70,
            "max_img_seq_length": 70 if config.get("use_img_layernorm") else 50,  # VinVL | Oscar
            "do_lower_case": True,
            "add_od_labels": True,
            "img_feature_type": config.get("img_feature_type", "frcnn"),
            "od_label_type": "vg",
            "att_mask_type": _USUAL_MASK,
        },
        "",
        {},
    )
    if (folder / TOKENIZER).is_file():
        tokenizer = _read_json(folder / TOKENIZER)
        found["do_lower_case"] = _typed(tokenizer, "do_lower_case", bool, folder / TOKENIZER, True)
    for name, read in ((ARGS_BIN, _read_args), (ARGS_JSON, _read_json), (TRAINER_STATE, _read_own)):
        path = folder / name
        if path.is_file():
            values, source = read(path), name
            found.update({f: _typed(values, f, kind, path, found[f]) for f, (kind, _) in _FIELDS.items()})
            others = {field: value for field, value in values.items() if field not in _FIELDS and _is_plain(value)}
            break
    for field, least in (("max_seq_length", 3), ("max_img_seq_length", 1)):
        if found[field] < least:
            raise WeightsError(f"{folder / source}: {field} is {found[field]}; expected at least {least}")
    if found["att_mask_type"] not in MASK_TYPES:
        expected = ", ".join(MASK_TYPES)
        raise WeightsError(f"{folder / source}: att_mask_type is {found['att_mask_type']!r}; expected {expected}")
    return InputSettings(**found, source=source, others=others)


def _read_args(path):
    args = torch_files.load(path)
    if not isinstance(args, argparse.Namespace):
        raise WeightsError(f"{path}: holds a {type(args).__name__}; expected an argparse.Namespace")
    return vars(args)


def _read_json(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def _read_own(path):
    """Our trainer's state: its config, section INPUT."""
    config = _read_json(path).get("config")
    inputs = config.get("INPUT") if isinstance(config, dict) else None
    if not isinstance(inputs, dict):
        raise WeightsError(f"{path}: no settings in it; expected the sections of a config under 'config'")
    return {field: inputs[key] for field, (_, key) in _FIELDS.items() if key in inputs}


def _is_plain(value):
    """Whether a value is what a command line gives, a scalar or a list of them: JSON can hold it, and it has an end."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(part, (str, int, float, type(None))) for part in parts)


def _typed(values, field, kind, path, default):
    value = values.get(field, default)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
        raise WeightsError(f"{path}: {field} is {shown(value)}; expected {kind.__name__}")
    return value
