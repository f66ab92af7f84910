"""`config.json` of a checkpoint: what shape a model has."""

import json
from pathlib import Path
from types import SimpleNamespace

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
_ENCODER_KEYS = list(_DEFAULTS)[: list(_DEFAULTS).index("num_labels")]
PORTED_NAMES = {"img_feat_dim": "img_feature_dim", "img_feat_type": "img_feature_type"}  # as VinVL-Paddle saves them


class BertConfig:
    """The contents of a `config.json`: known keys with BERT-base defaults, unknown keys kept as they are.

    Source: docs/reference.md, config; the reference writes every attribute back, so nothing is dropped here.
    """

    def __init__(self, **values):
        self.__dict__.update(_DEFAULTS)
        self.__dict__.update({PORTED_NAMES.get(key, key): value for key, value in values.items()})
        for key in _SIZES:
            _check_size(key, getattr(self, key))
        _check_heads(self, "hidden_size", "num_attention_heads")
        _check_act(self, "hidden_act")

    def to_dict(self):
        return dict(self.__dict__)


# What ViLBERT adds, as in its bert_base_6layer_6conect.json (docs/reference.md, ViLBERT model).
_VILBERT_SIZES = {
    "v_feature_size": 2048,
    "v_target_size": 1601,
    "v_hidden_size": 1024,
    "v_num_hidden_layers": 6,
    "v_num_attention_heads": 8,
    "v_intermediate_size": 1024,
    "bi_hidden_size": 1024,
    "bi_num_attention_heads": 8,
}
_VILBERT_DEFAULTS = {
    **_VILBERT_SIZES,
    "v_hidden_act": "gelu",
    "v_hidden_dropout_prob": 0.1,
    "v_attention_probs_dropout_prob": 0.1,
    "v_initializer_range": 0.02,
    "v_biattention_id": [0, 1, 2, 3, 4, 5],
    "t_biattention_id": [6, 7, 8, 9, 10, 11],
}


class VilbertConfig(BertConfig):
    """The contents of a two-stream model's `config.json`; `img_feature_dim` is another name of v_feature_size."""

    def __init__(self, **values):
        super().__init__(**{**_VILBERT_DEFAULTS, **values})
        for key in set(_DEFAULTS) - set(values) - set(_ENCODER_KEYS):
            del self.__dict__[key]  # of Oscar's regions and heads, which this model has not
        self.__dict__.pop("img_feature_dim", None)
        for key in _VILBERT_SIZES:
            _check_size(key, getattr(self, key))
        for width, heads in (("v_hidden_size", "v_num_attention_heads"), ("bi_hidden_size", "bi_num_attention_heads")):
            _check_heads(self, width, heads)
        _check_act(self, "v_hidden_act")
        self._check_connections()

    @property
    def img_feature_dim(self):
        return self.v_feature_size

    @img_feature_dim.setter
    def img_feature_dim(self, value):
        self.v_feature_size = value

    def _check_connections(self):
        """Upstream looks at its defaults only: lists that do not fit end in layers that are left out in silence."""
        layers = {"v_biattention_id": self.v_num_hidden_layers, "t_biattention_id": self.num_hidden_layers}
        for key, count in layers.items():
            ids = getattr(self, key)
            is_list = isinstance(ids, list) and ids and all(type(number) is int for number in ids)
            if not is_list or sorted(ids) != ids or not 0 <= ids[0] <= ids[-1] < count:
                raise WeightsError(f"{key} is {ids!r:.80}, expected numbers of layers in order, from 0 to {count - 1}")
        if len(self.v_biattention_id) != len(self.t_biattention_id):
            raise WeightsError("v_biattention_id and t_biattention_id have different lengths, expected pairs")

    def vision(self):
        """What `models.bert` reads of a config, for the layers of the region stream."""
        return SimpleNamespace(
            hidden_size=self.v_hidden_size,
            num_attention_heads=self.v_num_attention_heads,
            intermediate_size=self.v_intermediate_size,
            hidden_dropout_prob=self.v_hidden_dropout_prob,
            attention_probs_dropout_prob=self.v_attention_probs_dropout_prob,
            layer_norm_eps=self.layer_norm_eps,
        )


def _check_size(key, size):
    if type(size) is not int or size < 1:
        raise WeightsError(f"{key} is {size!r:.40}, expected a whole number from 1 on")


def _check_heads(config, width, heads):
    if getattr(config, width) % getattr(config, heads):
        found = f"{width} {getattr(config, width)} is not a multiple of {heads} {getattr(config, heads)}"
        raise WeightsError(found)


def _check_act(config, key):
    if getattr(config, key) != "gelu":
        raise WeightsError(f"{key} {getattr(config, key)!r} is not supported, expected 'gelu'")


def contrast_classes(config):
    """Classes of the contrast head of pre-training; 2 where config.json does not say."""
    return getattr(config, "num_contrast_classes", 2)


def read_model_config(folder, config_class=None):
    """`config.json` of a checkpoint folder as a config_class; WeightsError: missing, damaged, or of another model.

    It is a VilbertConfig where the file speaks of a second stream, else a BertConfig.
    """
    path = Path(folder) / CONFIG
    if not path.exists():
        raise WeightsError(no_checkpoint(folder) or f"{path}: not found; a checkpoint folder needs a {CONFIG}")
    values = read_json_object(path)
    found = VilbertConfig if "v_hidden_size" in values else BertConfig
    if config_class not in (None, found):
        kinds = {BertConfig: "one stream (BERT, Oscar)", VilbertConfig: "two streams (ViLBERT, v_hidden_size)"}
        raise WeightsError(f"{path}: of a model of {kinds[found]}; this task needs one of {kinds[config_class]}")
    try:
        return found(**values)
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
