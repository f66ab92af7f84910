"""Task heads: small layers on the pooled vector, and on the states of text positions.

Shape letters: n positions, H width, V words of the vocabulary.
"""

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.models.bert import LayerNorm, Linear


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


class MaskedWordHead(nn.Layer):
    """Scores of all words at a masked position (upstream `BertLMPredictionHead`, `cls.predictions` of a model).

    Args:
        config: BertConfig.
        words: the word embeddings [V, H] where the decoder is the same tensor (see `tied` of `OscarWithHead`), or None:
            a decoder of its own.
    Source: docs/reference.md, masked-word head.
    """

    def __init__(self, config, words=None):
        super().__init__()
        self.transform = _Transform(config)
        self.bias = self.create_parameter([config.vocab_size], is_bias=True)
        self._words = [words]  # in a list, or it would be a second parameter
        if words is None:
            self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias_attr=False)

    def forward(self, hidden):
        """[n, H] -> scores [n, V], in the type of `hidden`."""
        hidden, words = self.transform(hidden), self._words[0]
        scores = self.decoder(hidden) if words is None else paddle.matmul(hidden, words, transpose_y=True)
        return scores + self.bias

    def words_by_width(self):
        """[H, V], what the transformed states are multiplied by."""
        words = self._words[0]
        return self.decoder.weight if words is None else words.transpose([1, 0])


class _Transform(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)

    def forward(self, hidden):
        return self.LayerNorm(F.gelu(self.dense(hidden)))  # the exact erf form, as upstream
