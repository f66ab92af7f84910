"""Task heads: small layers on the pooled vector."""

import paddle.nn as nn

from oscar_paddle.config.errors import WeightsError


def build_classifier(config):
    """The classification head that `config.classifier` names; absent means linear.

    Linear is `classifier.{weight,bias}`; MLP is Linear, ReLU, Linear with hidden width
    hidden_size * cls_hidden_scale as `classifier.0.*` and `classifier.2.*`.

    Raises:
        WeightsError: any other name.
    Source: common_model.md section 7.
    """
    if config.classifier == "linear":
        return nn.Linear(config.hidden_size, config.num_labels)
    if config.classifier == "mlp":
        width = config.hidden_size * config.cls_hidden_scale
        return nn.Sequential(nn.Linear(config.hidden_size, width), nn.ReLU(), nn.Linear(width, config.num_labels))
    raise WeightsError(f"config.json: classifier {config.classifier!r} is unknown, expected 'linear' or 'mlp'")
