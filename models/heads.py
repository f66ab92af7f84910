"""Task heads: small layers on the pooled vector."""

import paddle.nn as nn

from oscar_paddle.config.errors import WeightsError


def build_pair_classifier(config):
    """The head of image pairs, on two pooled vectors side by side [B, 2 * hidden_size].

    As `build_classifier`, but the MLP has a LayerNorm behind its ReLU where regions have one (VinVL), which moves the
    second Linear to `classifier.3.*`.

    Raises:
        WeightsError: `config.classifier` is neither 'linear' nor 'mlp'.
    Source: docs/reference.md, pair head and names.
    """
    width = 2 * config.hidden_size
    if config.classifier != "mlp":
        return _linear(config, width)
    hidden = config.hidden_size * config.cls_hidden_scale
    norm = [nn.LayerNorm(hidden, epsilon=config.layer_norm_eps)] if config.use_img_layernorm else []
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), *norm, nn.Linear(hidden, config.num_labels))


def build_classifier(config):
    """The classification head that `config.classifier` names; absent means linear.

    Linear is `classifier.{weight,bias}`; MLP is Linear, ReLU, Linear with hidden width
    hidden_size * cls_hidden_scale as `classifier.0.*` and `classifier.2.*`.

    Raises:
        WeightsError: any other name.
    Source: docs/reference.md, heads.
    """
    if config.classifier != "mlp":
        return _linear(config, config.hidden_size)
    width = config.hidden_size * config.cls_hidden_scale
    return nn.Sequential(nn.Linear(config.hidden_size, width), nn.ReLU(), nn.Linear(width, config.num_labels))


def _linear(config, width):
    if config.classifier != "linear":
        raise WeightsError(f"config.json: classifier {config.classifier!r} is unknown, expected 'linear' or 'mlp'")
    return nn.Linear(width, config.num_labels)
