"""Oscar as it is pre-trained: words at masked text positions, and whether the texts belong to the image.

Shape letters: B rows, M masked positions, H width, V words, C contrast classes, n any number of positions or rows.
"""

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from oscar_paddle.models.config import contrast_classes
from oscar_paddle.models.device import to_device
from oscar_paddle.models.heads import MaskedWordHead
from oscar_paddle.models.oscar import OscarWithHead
from oscar_paddle.models.packing import with_first


class OscarForPretraining(OscarWithHead):
    """Oscar with the masked-word head and the contrast head (upstream `BertImgForPreTraining`).

    The decoder of words is the word embeddings themselves. Upstream runs the head at every position of text and
    regions; here it runs at the masked ones, the only ones with a loss, and the last layer at these and at [CLS].

    Attributes:
        resizable: names of a part that starts afresh where a file has it for another number of classes.
    Source: docs/reference.md, pre-training.
    """

    head_parts = ("cls.predictions.", "cls.seq_relationship.")
    resizable = ("cls.seq_relationship.",)
    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config):
        super().__init__(config)
        classes = config.num_contrast_classes = contrast_classes(config)
        self.cls = nn.Layer()
        self.cls.predictions = MaskedWordHead(config, self.bert.embeddings.word_embeddings.weight)
        self.cls.seq_relationship = nn.Linear(config.hidden_size, classes)
        self.apply(self._initialise)

    def forward(self, packed, masked_positions):
        """
        Args:
            packed: PackedBatch of B rows. masked_positions: [M] int64, places among its text positions; at least one.
        Returns:
            (scores of all words [M, V] float32, scores of the contrast classes [B, C] float32).
        """
        outputs = self.bert(packed, with_first(packed, masked_positions))
        return self.cls.predictions(outputs["states"]).astype("float32"), self.contrast(outputs["pooled"])

    def contrast(self, pooled):
        """[B, H] -> [B, C] float32; no dropout, as upstream."""
        return self.cls.seq_relationship(pooled).astype("float32")

    def losses(self, packed, masked_positions, masked_labels, contrast_labels):
        """Loss of every masked token and of every row, and whether the highest score is the label's.

        Args:
            packed, masked_positions: as for `forward`, but M may be 0.
            masked_labels: [M] int64. contrast_labels: [B] int64.
        Returns:
            ((losses [M'], right [M']), (losses [B], right [B])) float32; M' is M, or 1 where M is 0: that loss is 0,
            with gradients that are 0 and not missing, whichever rank has no masked token.
        Source: the reference divides 0 by 0 there; docs/reference.md, pre-training.
        """
        if not len(masked_positions):
            words, contrast = self(packed, np.zeros(1, np.int64))
            of_words = (words[:, 0] * 0.0, paddle.zeros([1]))
        else:
            words, contrast = self(packed, masked_positions)
            of_words = outcomes(words, *to_device(masked_labels))
        return of_words, outcomes(contrast, *to_device(contrast_labels))

    @paddle.no_grad()
    def measured(self, *batch):
        """What `losses` gives, as arrays."""
        return [[values.numpy() for values in part] for part in self.losses(*batch)]

    @paddle.no_grad()
    def match_scores(self, packed):
        """[B] float32 array: log-probability of class 0, that texts and image belong together."""
        return F.log_softmax(self.contrast(self.bert(packed)["pooled"]))[:, 0].numpy()


def outcomes(scores, labels):
    """[n, C] float32 and [n] int64 -> (softmax cross entropy [n], 1.0 where the label has the highest score [n])."""
    losses = F.cross_entropy(scores, labels, reduction="none").reshape([-1])
    return losses, (scores.argmax(axis=-1) == labels).astype("float32")
