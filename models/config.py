"""`config.json` of a checkpoint: what shape a model has."""

import json
from pathlib import Path

from oscar_paddle.config.errors import WeightsError

_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "num_labels": 2,
    "img_feature_dim": 2054,
    "img_feature_type": "frcnn",
    "use_img_layernorm": 0,
    "img_layer_norm_eps": 1e-12,
    "loss_type": "sfmx",
    "classifier": "linear",
    "cls_hidden_scale": 2,
}

# What the shape of a model is made of; num_labels and img_feature_dim may be anything until a run sets them.
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)

_ALIASES = {"img_feat_dim": "img_feature_dim", "img_feat_type": "img_feature_type"}  # as VinVL-Paddle saves them


class BertConfig:
    """The contents of a `config.json`: known keys with BERT-base defaults, unknown keys kept as they are.

    Source: common_model.md section 2; the reference writes every attribute back, so nothing is dropped here.
    """

    def __init__(self, **values):
        self.__dict__.update(_DEFAULTS)
        self.__dict__.update({_ALIASES.get(key, key): value for key, value in values.items()})
        for key in _SIZES:
            size = getattr(self, key)
            if type(size) is not int or size < 1:
                raise WeightsError(f"{key} is {size!r:.40}, expected a whole number from 1 on")
        if self.hidden_size % self.num_attention_heads:
            raise WeightsError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act != "gelu":
            raise WeightsError(f"hidden_act {self.hidden_act!r} is not supported, expected 'gelu'")

    @classmethod
    def from_json_file(cls, path):
        """Read `config.json`.

        Raises:
            WeightsError: the file is missing, is not a JSON object, or describes no model that can be built.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WeightsError(f"{path}: not found; a checkpoint folder needs a config.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: cannot be read as JSON: {error}") from None
        if not isinstance(values, dict):
            raise WeightsError(f"{path}: expected a JSON object, found {type(values).__name__}")
        try:
            return cls(**values)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None

    def to_dict(self):
        return dict(self.__dict__)
