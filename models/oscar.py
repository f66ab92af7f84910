"""Oscar/VinVL: one BERT over text tokens and image regions.

Shape letters: B rows, Pt real text positions, Pu real regions of the distinct images, P = all real positions, H width.
"""

import paddle
import paddle.nn as nn

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.models.bert import BertEmbeddings, BertEncoder, BertPooler, Linear, Packing
from oscar_paddle.models.heads import build_classifier, build_pair_classifier
from oscar_paddle.models.packing import pack


class OscarModel(nn.Layer):
    """Text and regions to one pooled vector a row (upstream `BertImgModel`, sub-module name `bert`)."""

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
            self.LayerNorm = nn.LayerNorm(config.hidden_size, epsilon=config.img_layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.use_img_layernorm = bool(config.use_img_layernorm)

    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 -> [Pu, H], before dropout: the same for every row that shows the image."""
        embedded = self.img_embedding(img_feats)
        return self.LayerNorm(embedded) if self.use_img_layernorm else embedded

    def encode(self, input_ids, token_type_ids, position_ids, regions, order, packing):
        """Packed text and embedded regions -> pooled [B, H].

        Args:
            regions: [Pu, H] from `embed_regions`.
            order: [P] int32 with Packing, [B, N] int32 with EqualRows; see `models.packing`.
            packing: Packing or EqualRows.
        """
        text = self.embeddings(input_ids, token_type_ids, position_ids)
        text_length = text.shape[0]
        if self.training:  # each row that shows a region drops its own values of it
            shown = order >= text_length
            hidden = paddle.gather(paddle.concat([text, regions.astype(text.dtype)]), order)
            hidden = paddle.where(shown.unsqueeze(-1), self.dropout(hidden), hidden)
        else:
            hidden = paddle.gather_nd(paddle.concat([text, regions.astype(text.dtype)]), order.unsqueeze(-1))
        return self.pooler(self.encoder(hidden, packing, first_only=True))

    def forward(self, input_ids, token_type_ids, position_ids, img_feats, order, spread, collect, first, bias):
        """The fields of a PackedBatch, as tensors -> pooled [B, H]."""
        regions = self.embed_regions(img_feats)
        packing = Packing(spread, collect, first, bias)
        return self.encode(input_ids, token_type_ids, position_ids, regions, order, packing)


class OscarForClassification(nn.Layer):
    """Oscar with a classification head on the pooled vector (retrieval, VQA, GQA, unpaired NLVR2).

    `forward` takes a PackedBatch, `logits` the named arrays that it is packed from (see `datasets.collate`).
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bert = OscarModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = self._build_classifier(config)
        self.apply(self._initialise)

    _build_classifier = staticmethod(build_classifier)

    def forward(self, packed):
        """PackedBatch -> logits [B, num_labels]."""
        return self.classify(self.bert(*[paddle.to_tensor(field) for field in packed]))

    def classify(self, pooled):
        """[B, H] -> logits [B, num_labels]."""
        return self.classifier(self.dropout(pooled))

    def logits(self, batch):
        """A batch of named arrays (`input_ids`, `token_type_ids`, `attention_mask`, `img_feats`, and optionally
        `img_index`) -> logits [B, num_labels]."""
        names = ("input_ids", "token_type_ids", "attention_mask", "img_feats", "img_index")
        return self(pack(**{name: batch[name] for name in names if name in batch}))

    def _initialise(self, layer):
        """New parameters as upstream: normal(0, initializer_range), biases 0, LayerNorm 1 and 0."""
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.initializer.Normal(std=self.config.initializer_range)(layer.weight)
        if isinstance(layer, nn.Linear):
            nn.initializer.Constant(0.0)(layer.bias)


class OscarForImagePairs(OscarForClassification):
    """Oscar with a head on the pooled vectors of two rows (upstream `ImageBertForMultipleChoice`, NLVR2 with pairs).

    Rows 2i and 2i + 1 of a batch belong together: logits are [B / 2, num_labels].
    """

    _build_classifier = staticmethod(build_pair_classifier)

    def classify(self, pooled):
        """[B, H] -> logits [B / 2, num_labels]."""
        return self.classifier(self.dropout(pooled).reshape([-1, 2 * pooled.shape[-1]]))
