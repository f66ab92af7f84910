"""Oscar that writes: the scores of all words at masked text positions.

Shape letters: n positions, H width, V words of the vocabulary.
"""

import paddle.nn as nn

from oscar_paddle.models.heads import MaskedWordHead
from oscar_paddle.models.oscar import OscarWithHead


class OscarForCaptioning(OscarWithHead):
    """Oscar with the masked-word head (upstream `BertForImageCaptioning`).

    The decoder is the word embeddings themselves where config.tie_weights says so, else a matrix of its own.
    """

    head_parts = ("cls.predictions.",)

    def __init__(self, config):
        super().__init__(config)
        words = self.bert.embeddings.word_embeddings.weight if getattr(config, "tie_weights", False) else None
        self.cls = nn.Layer()
        self.cls.predictions = MaskedWordHead(config, words)
        if words is not None:
            self.tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
        for parameter in self.bert.pooler.parameters():
            parameter.stop_gradient = True  # nothing reads it, and a weight without a gradient must not decay
        self.apply(self._initialise)

    def word_logits(self, hidden):
        """States [n, H] of masked positions -> [n, V] float32."""
        return self.cls.predictions(hidden).astype("float32")
