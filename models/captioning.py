"""Oscar that writes: the scores of all words at masked text positions.

Shape letters: n positions, H width, V words of the vocabulary, M masked positions.
"""

import numpy as np
import paddle
import paddle.nn as nn

from oscar_paddle.models.device import to_device
from oscar_paddle.models.heads import MaskedWordHead
from oscar_paddle.models.losses import masked_word_losses
from oscar_paddle.models.oscar import OscarWithHead


class OscarForCaptioning(OscarWithHead):
    """Oscar with the masked-word head (upstream `BertForImageCaptioning`).

    The decoder is the word embeddings themselves where config.tie_weights says so, else a matrix of its own.
    """

    head_parts = ("cls.predictions.",)
    # Upstream: Oscar's first release has the head without its prefix, and without a bias.
    _FIRST_RELEASE = ("transform.", "decoder.")

    def __init__(self, config):
        super().__init__(config)
        words = self.bert.embeddings.word_embeddings.weight if getattr(config, "tie_weights", False) else None
        self.cls = nn.Layer()
        self.cls.predictions = MaskedWordHead(config, words)
        if words is not None:
            self.tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
        self.apply(self._initialise)
        for parameter in self.bert.pooler.parameters():
            parameter.stop_gradient = True  # nothing reads it, and a weight without a gradient must not decay
        if getattr(config, "freeze_embedding", False):
            self.bert.embeddings.word_embeddings.weight.stop_gradient = True

    @classmethod
    def upstream(cls, state):
        """The tensors of a file with the head of Oscar's first release brought up to date."""
        found = {f"cls.predictions.{n}" if n.startswith(cls._FIRST_RELEASE) else n: v for n, v in state.items()}
        if "decoder.weight" in state:
            found.setdefault("cls.predictions.bias", np.zeros(len(state["decoder.weight"]), np.float32))
        return found

    def word_logits(self, hidden):
        """States [n, H] of masked positions -> [n, V] float32."""
        return self.cls.predictions(hidden).astype("float32")

    def masked_losses(self, packed, places, words, smoothing=0.0):
        """Loss of every masked word, and whether the likeliest word is the right one.

        Args:
            packed: PackedBatch, rows "S2S". places: [M] int64, which of its text positions are masked.
            words: [M] int64, what was there. smoothing: see `masked_word_losses`.
        Returns:
            ([M] float32, [M] bool) tensors.
        """
        places, words = to_device(places, words)
        states = paddle.gather(self.bert(packed, outputs=("text_states",))["text_states"], places)
        logits = self.word_logits(states)
        return masked_word_losses(logits, words, smoothing), logits.argmax(axis=-1) == words
