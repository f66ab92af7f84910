"""Task heads: small layers on the pooled vector."""

import paddle
import paddle.nn as nn

from oscar_paddle.config.errors import WeightsError


class ReLU(nn.ReLU):
    """nn.ReLU that keeps a NaN: Paddle 3.3.1 makes 0 of it on the CPU, and so a quiet answer of broken weights."""

    def forward(self, hidden):
        return paddle.where(paddle.isnan(hidden), hidden, super().forward(hidden))


def build_classifier(config, rows=1):
    """The classification head that `config.classifier` names, on the pooled vectors [B, rows * hidden_size].

    Linear is `classifier.{weight,bias}`; MLP is Linear, ReLU, Linear with hidden width
    hidden_size * cls_hidden_scale as `classifier.0.*` and `classifier.2.*`. The MLP of image pairs (two rows) has a
    LayerNorm behind its ReLU where regions have one (VinVL), which moves the second Linear to `classifier.3.*`.

    Raises:
        WeightsError: `config.classifier` is neither 'linear' nor 'mlp'.
    Source: docs/reference.md, heads, pair head and names.
    """
    width, hidden = rows * config.hidden_size, config.hidden_size * config.cls_hidden_scale
    if config.classifier == "linear":
        return nn.Linear(width, config.num_labels)
    if config.classifier != "mlp":
        raise WeightsError(f"config.json: classifier {config.classifier!r} is unknown, expected 'linear' or 'mlp'")
    norm = [nn.LayerNorm(hidden, epsilon=config.layer_norm_eps)] if rows == 2 and config.use_img_layernorm else []
    return nn.Sequential(nn.Linear(width, hidden), ReLU(), *norm, nn.Linear(hidden, config.num_labels))
