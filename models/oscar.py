"""Oscar/VinVL: one BERT over text tokens and image regions.

Shape letters: B rows, Pt text positions, Pu regions of the distinct images, P = all positions, N longest row, H width.
"""

import paddle
import paddle.nn as nn

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.models.bert import (
    BertEmbeddings,
    BertEncoder,
    BertPooler,
    Dropout,
    First,
    LayerNorm,
    Linear,
    Packing,
    Some,
)
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.device import to_device
from oscar_paddle.models.heads import build_classifier
from oscar_paddle.models.losses import classification_losses
from oscar_paddle.models.packing import PackedBatch, SomePositions


class OscarModel(nn.Layer):
    """Text and regions to named outputs (upstream `BertImgModel`, sub-module name `bert`)."""

    def __init__(self, config):
        super().__init__()
        if config.img_feature_type.startswith("dis_code"):
            raise WeightsError(
                f"config.json: img_feature_type {config.img_feature_type!r} (discrete image codes) is not supported; "
                "no released checkpoint uses it"
            )
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)
        self.img_embedding = Linear(config.img_feature_dim, config.hidden_size)
        if config.use_img_layernorm:
            self.LayerNorm = LayerNorm(config.hidden_size, epsilon=config.img_layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.use_img_layernorm = bool(config.use_img_layernorm)

    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 -> [Pu, H], before dropout: the same for every row that shows the image."""
        embedded = self.img_embedding(img_feats)
        return self.LayerNorm(embedded) if self.use_img_layernorm else embedded

    def embed(self, input_ids, token_type_ids, position_ids, regions, order):
        """What stands at the positions of some rows, before the first layer: [P, H] or [B, N, H], as `order`."""
        text = self.embeddings(input_ids, token_type_ids, position_ids)
        text_length = text.shape[0]
        if self.training:  # each row that shows a region drops its own values of it
            shown = order >= text_length
            hidden = paddle.gather(paddle.concat([text, regions.astype(text.dtype)]), order.reshape([-1]))
            hidden = hidden.reshape([*order.shape, -1])
            hidden = paddle.where(shown.unsqueeze(-1), self.dropout(hidden), hidden)
        else:
            hidden = paddle.gather_nd(paddle.concat([text, regions.astype(text.dtype)]), order.unsqueeze(-1))
        return hidden

    def encode(self, input_ids, token_type_ids, position_ids, regions, order, packing, outputs=("pooled",)):
        """Packed text and embedded regions to what the caller wants of them.

        Where only `pooled` is asked for, the last layer computes position 0 alone.

        Args:
            regions: [Pu, H] from `embed_regions`.
            order: [P] int32 with Packing, [B, N] int32 with EqualRows; see `models.packing`.
            packing: Packing or EqualRows.
            outputs: names among "pooled", "text_states"; the latter needs a Packing. Or Some, whose first B positions
                are those of the rows' [CLS].
        Returns:
            dict of the named outputs: pooled [B, H], in (-1, 1); text_states [Pt, H], the last layer at every text
            position; with Some, pooled and states [n - B, H], the last layer at its further positions.
        """
        hidden = self.embed(input_ids, token_type_ids, position_ids, regions, order)
        if isinstance(outputs, Some):
            rows = outputs.spread.shape[0]
            hidden = self.encoder(hidden, packing, outputs)
            return {"pooled": self.pooler(hidden[:rows]), "states": hidden[rows:]}
        if outputs == ("pooled",):
            return {"pooled": self.pooler(self.encoder(hidden, packing, First()))}
        hidden = self.encoder(hidden, packing)
        make = {
            "pooled": lambda: self.pooler(packing.first_position(hidden)),
            "text_states": lambda: packing.text_positions(hidden),
        }
        return {name: make[name]() for name in outputs}

    def forward(self, packed, outputs=("pooled",)):
        """PackedBatch -> dict of the named outputs, see `encode`; SomePositions are taken for Some."""
        fields = PackedBatch(*to_device(*packed))
        packing = Packing(fields.spread, fields.collect, fields.first, fields.text, fields.bias)
        regions = self.embed_regions(fields.img_feats)
        ids, types, positions = fields.input_ids, fields.token_type_ids, fields.position_ids
        if isinstance(outputs, SomePositions):
            outputs = Some(*to_device(*outputs))
        return self.encode(ids, types, positions, regions, fields.order, packing, outputs)


class OscarWithHead(nn.Layer):
    """What the trunk asks of a model: Oscar (`bert`) and what a task puts on it.

    Attributes:
        config_class: what config.json is read as.
        head_parts: beginnings of the names of the head's parameters, which a fine-tuning run may start afresh.
        tied: {name in files: name of the parameter that it is another copy of}.
    """

    config_class, head_parts, tied = BertConfig, ("classifier.",), {}

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bert = OscarModel(config)

    @staticmethod
    def upstream(state):
        """The tensors of a file with the names of older files brought up to date."""
        return state

    @property
    def recompute(self):
        """Whether the encoder keeps the layers' inputs only for the backward pass."""
        return self.bert.encoder.recompute

    @recompute.setter
    def recompute(self, on):
        self.bert.encoder.recompute = on

    def _initialise(self, layer):
        """New parameters as upstream: normal(0, initializer_range), biases 0, LayerNorm 1 and 0."""
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.initializer.Normal(std=self.config.initializer_range)(layer.weight)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.initializer.Constant(0.0)(layer.bias)


class OscarForClassification(OscarWithHead):
    """Oscar with a classification head on the pooled vector: pairs of image and caption, questions."""

    rows = 1  # of an example

    def __init__(self, config):
        super().__init__(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier = build_classifier(config, self.rows)
        self.apply(self._initialise)

    def forward(self, packed):
        """PackedBatch -> logits [B, num_labels]."""
        return self.classify(self.bert(packed)["pooled"])

    def classify(self, pooled):
        """[B, H] -> logits [B, num_labels], in float32 whatever made the pooled vectors: half would tie close ones."""
        with paddle.amp.auto_cast(enable=False):
            return self.head(self.dropout(pooled.astype("float32")))

    def head(self, pooled):
        return self.classifier(pooled)

    def row_losses(self, packed, labels, loss_type):
        """Loss of every row or pair of rows, float32; labels and types as in `classification_losses`."""
        return classification_losses(self(packed), *to_device(labels), loss_type)


class OscarForImagePairs(OscarForClassification):
    """Oscar with a head on the pooled vectors of two rows (upstream `ImageBertForMultipleChoice`).

    Rows 2i and 2i + 1 of a batch belong together: logits are [B / 2, num_labels].
    """

    rows = 2

    def head(self, pooled):
        """[B, H] -> logits [B / 2, num_labels]."""
        return self.classifier(pooled.reshape([-1, 2 * pooled.shape[-1]]))
