"""`config.json` of a checkpoint: what shape a model has."""

import json
from pathlib import Path

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.config.places import no_checkpoint

CONFIG = "config.json"

# What the shape of a model is made of, as in BERT-base.
_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_DEFAULTS = {
    **_SIZES,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "num_labels": 2,  # this and img_feature_dim may be anything until a run sets them
    "img_feature_dim": 2054,
    "img_feature_type": "frcnn",
    "use_img_layernorm": 0,
    "img_layer_norm_eps": 1e-12,
    "loss_type": "sfmx",
    "classifier": "linear",
    "cls_hidden_scale": 2,
}
PORTED_NAMES = {"img_feat_dim": "img_feature_dim", "img_feat_type": "img_feature_type"}  # as VinVL-Paddle saves them


class BertConfig:
    """The contents of a `config.json`: known keys with BERT-base defaults, unknown keys kept as they are.

    Source: docs/reference.md, config; the reference writes every attribute back, so nothing is dropped here.
    """

    def __init__(self, **values):
        self.__dict__.update(_DEFAULTS)
        self.__dict__.update({PORTED_NAMES.get(key, key): value for key, value in values.items()})
        for key in _SIZES:
            size = getattr(self, key)
            if type(size) is not int or size < 1:
                raise WeightsError(f"{key} is {size!r:.40}, expected a whole number from 1 on")
        heads = self.num_attention_heads
        if self.hidden_size % heads:
            raise WeightsError(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads}")
        if self.hidden_act != "gelu":
            raise WeightsError(f"hidden_act {self.hidden_act!r} is not supported, expected 'gelu'")

    def to_dict(self):
        return dict(self.__dict__)


def read_model_config(folder, config_class=BertConfig):
    """`config.json` of a checkpoint folder as a config_class; WeightsError: missing, damaged, or no model's."""
    path = Path(folder) / CONFIG
    if not path.exists():
        raise WeightsError(no_checkpoint(folder) or f"{path}: not found; a checkpoint folder needs a {CONFIG}")
    values = read_json_object(path)
    try:
        return config_class(**values)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def read_json_object(path):
    """A JSON file of a checkpoint folder as a dict; WeightsError: it cannot be read, or holds something else."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def write_json_object(path, values):
    """Write a dict in the form of every config.json here: sorted, so that equal ones are equal files."""
    Path(path).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
