"""ViLBERT: a text stream and a region stream that read each other in co-attention blocks.

Shape letters: Pt text positions, Pv regions of all expressions, Pu regions of the distinct images, B expressions,
L longest text, R most regions, H width of text, V of regions, W of the co-attention, A heads, D width of a head.

Layers work on packed rows as in `models.bert`, and parameters have the upstream names, those included that upstream
never calls or whose results referring expressions do not need. These carry no gradient.
"""

import paddle
import paddle.nn as nn
from paddle.distributed.fleet.utils import recompute

from oscar_paddle.models.bert import (
    BertEmbeddings,
    BertIntermediate,
    BertLayer,
    BertSelfOutput,
    Dropout,
    LayerNorm,
    Linear,
    Packing,
    attend,
)
from oscar_paddle.models.config import VilbertConfig
from oscar_paddle.models.device import to_device
from oscar_paddle.models.stream_packing import StreamBatch

# Heads of upstream's class that no referring expression needs: kept where a file has them, see `load_into`.
_UNREAD = ("cls.", "vil_", "linguisic_logit.")


class RegionEmbeddings(nn.Layer):
    """Projected feature plus projected location, then one LayerNorm; regions have no position or type."""

    def __init__(self, config):
        super().__init__()
        self.image_embeddings = Linear(config.v_feature_size, config.v_hidden_size)
        self.image_location_embeddings = Linear(5, config.v_hidden_size)
        self.LayerNorm = LayerNorm(config.v_hidden_size, epsilon=config.layer_norm_eps)

    def forward(self, img_feats, img_locs):
        """[Pu, 2048] and [Pu, 5] -> [Pu, V], before dropout: the same for every expression about the image."""
        return self.LayerNorm(self.image_embeddings(img_feats) + self.image_location_embeddings(img_locs))


class CoAttention(nn.Layer):
    """Both streams read each other; suffix 1 is regions, 2 is text."""

    def __init__(self, config):
        super().__init__()
        self.num_heads = config.bi_num_attention_heads
        self.head_width = config.bi_hidden_size // self.num_heads
        for stream, width in (("1", config.v_hidden_size), ("2", config.hidden_size)):
            for part in ("query", "key", "value"):
                self.add_sublayer(part + stream, Linear(width, config.bi_hidden_size))
            getattr(self, f"key{stream}").bias.stop_gradient = True  # as in BertSelfAttention
        self.dropout1 = Dropout(config.v_attention_probs_dropout_prob)
        self.dropout2 = Dropout(config.attention_probs_dropout_prob)

    def forward(self, regions, text, region_packing, text_packing, order=None, regions_only=False):
        """What text reads of the regions [Pt, W] (None when `regions_only`), what regions read of the text [Pv, W].

        `order`: the regions are those of the distinct images [Pu, V], and this shows them to the expressions.
        """
        queries = self._by_head(region_packing, _take(self.query1(regions), order))
        keys, values = (self._by_head(text_packing, linear(text)) for linear in (self.key2, self.value2))
        of_text = self._merge(region_packing, attend(queries, keys, values, text_packing.bias, self.dropout2))
        if regions_only:
            return None, of_text
        queries = self._by_head(text_packing, self.query2(text))
        keys, values = (
            self._by_head(region_packing, _take(linear(regions), order)) for linear in (self.key1, self.value1)
        )
        return self._merge(text_packing, attend(queries, keys, values, region_packing.bias, self.dropout1)), of_text

    def _by_head(self, packing, hidden):
        return packing.to_rows(hidden).reshape([0, 0, self.num_heads, self.head_width])

    def _merge(self, packing, context):
        return packing.from_rows(context.reshape([0, 0, self.num_heads * self.head_width]))


class CoOutput(nn.Layer):
    """Linear, dropout, residual, LayerNorm for each stream (upstream also has two layers that it never calls)."""

    def __init__(self, config):
        super().__init__()
        streams = {
            "1": (config.v_hidden_size, config.v_hidden_dropout_prob),
            "2": (config.hidden_size, config.hidden_dropout_prob),
        }
        for stream, (width, dropout) in streams.items():
            self.add_sublayer(f"dense{stream}", Linear(config.bi_hidden_size, width))
            self.add_sublayer(f"LayerNorm{stream}", LayerNorm(width, epsilon=config.layer_norm_eps))
            self.add_sublayer(f"dropout{stream}", Dropout(dropout))
            self.add_sublayer(f"q_dense{stream}", Linear(config.bi_hidden_size, width))

    def regions(self, context, residual):
        return self.LayerNorm1(self.dropout1(self.dense1(context)) + residual)

    def text(self, context, residual):
        return self.LayerNorm2(self.dropout2(self.dense2(context)) + residual)


class CoLayer(nn.Layer):
    """A co-attention block: the streams read each other, then each has its feed-forward block."""

    def __init__(self, config):
        super().__init__()
        vision = config.vision()
        self.biattention, self.biOutput = CoAttention(config), CoOutput(config)
        self.v_intermediate = BertIntermediate(vision)
        self.v_output = BertSelfOutput(vision, input_size=vision.intermediate_size)
        self.t_intermediate = BertIntermediate(config)
        self.t_output = BertSelfOutput(config, input_size=config.intermediate_size)

    def forward(self, regions, text, region_packing, text_packing, order=None, regions_only=False):
        """Both streams -> both streams, or regions alone when `regions_only`. `order`: see `CoAttention`."""
        packings = region_packing, text_packing
        of_regions, of_text = self.biattention(regions, text, *packings, order, regions_only)
        regions = self.biOutput.regions(of_text, _take(regions, order))  # each stream adds what it has read
        regions = self.v_output(self.v_intermediate(regions), regions)
        if regions_only:
            return regions
        text = self.biOutput.text(of_regions, text)
        return regions, self.t_output(self.t_intermediate(text), text)


class VilbertEncoder(nn.Layer):
    """Both stacks of layers, as far as the regions need them: text behind the last co-attention is not computed."""

    def __init__(self, config):
        super().__init__()
        self.layer = nn.LayerList([BertLayer(config) for _ in range(config.num_hidden_layers)])
        self.v_layer = nn.LayerList([BertLayer(config.vision()) for _ in range(config.v_num_hidden_layers)])
        self.c_layer = nn.LayerList([CoLayer(config) for _ in config.v_biattention_id])
        self.stops = list(zip(config.v_biattention_id, config.t_biattention_id, strict=True))
        self.recompute = False  # as in BertEncoder

    def forward(self, regions, text, region_packing, text_packing, order=None):
        """Embedded regions and text -> regions [Pv, V].

        Args:
            regions: [Pv, V]; or with `order` [Pu, V], those of the distinct images.
            text: [Pt, H]. region_packing, text_packing: Packing or EqualRows.
            order: [Pv] (Packing) or [B, R] (EqualRows) int32, the row among the Pu of each region.
        """
        done_regions = done_text = 0
        for number, (v_stop, t_stop) in enumerate(self.stops):
            if v_stop > done_regions:
                regions, order = _take(regions, order), None
            for layer in self.v_layer[done_regions:v_stop]:
                regions = self._run(layer, regions, region_packing)
            for layer in self.layer[done_text:t_stop]:
                text = self._run(layer, text, text_packing)
            inputs = self.c_layer[number], regions, text, region_packing, text_packing, order
            if number == len(self.stops) - 1:
                regions = self._run(*inputs, True)
            else:
                regions, text = self._run(*inputs)
            order, done_regions, done_text = None, v_stop, t_stop
        for layer in self.v_layer[done_regions:]:
            regions = self._run(layer, regions, region_packing)
        return regions

    def _run(self, layer, *inputs):
        return recompute(layer, *inputs) if self.recompute and self.training else layer(*inputs)

    def unread(self):
        """The parameters that no result depends on."""
        last = self.c_layer[-1]
        layers = [*self.layer[self.stops[-1][1] :], last.t_intermediate, last.t_output, last.biattention.query2]
        layers += [last.biattention.key1, last.biattention.value1, last.biOutput.dense2, last.biOutput.LayerNorm2]
        for block in self.c_layer:
            layers += [block.biOutput.q_dense1, block.biOutput.q_dense2]
        return [parameter for layer in layers for parameter in layer.parameters()]


class VilbertModel(nn.Layer):
    """Both streams (upstream `BertModel`, sub-module name `bert`)."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.v_embeddings = RegionEmbeddings(config)
        self.dropout = Dropout(config.hidden_dropout_prob)  # of the regions; upstream: inside the embeddings
        self.encoder = VilbertEncoder(config)
        self.t_pooler, self.v_pooler = nn.Layer(), nn.Layer()
        self.t_pooler.dense = Linear(config.hidden_size, config.bi_hidden_size)
        self.v_pooler.dense = Linear(config.v_hidden_size, config.bi_hidden_size)

    def forward(self, fields):
        """StreamBatch of tensors -> the region stream [Pv, V]."""
        text = self.embeddings(fields.input_ids, fields.token_type_ids, fields.position_ids)
        regions, order = self.v_embeddings(fields.img_feats, fields.img_locs), fields.order
        if self.training:  # each expression drops its own values of a region
            regions, order = self.dropout(_take(regions, order)), None
        region_packing = Packing(fields.region_spread, fields.region_collect, None, None, fields.region_bias)
        text_packing = Packing(fields.text_spread, fields.text_collect, None, None, fields.text_bias)
        return self.encoder(regions, text, region_packing, text_packing, order)

    def unread(self):
        """The parameters that no result depends on."""
        return [*self.encoder.unread(), *self.t_pooler.parameters(), *self.v_pooler.parameters()]


class VilbertForReferring(nn.Layer):
    """A score for every region of an expression's image (upstream `VILBertForVLTasks`, its output `vision_logit`).

    What the trunk asks of a model is as in `models.oscar.OscarWithHead`.

    Attributes:
        unread: beginnings of the names of the heads that files have and nothing reads; a file may lack them.
    """

    config_class, head_parts, unread = VilbertConfig, ("vision_logit.",), _UNREAD
    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bert = VilbertModel(config)
        self.dropout = Dropout(config.hidden_dropout_prob)  # upstream: 0.1, whatever config.json says
        self.vision_logit = nn.Linear(config.v_hidden_size, 1)
        self.cls, self.vil_prediction = _PretrainingHeads(config), _AnswerHead(config)
        self.vil_logit = nn.Linear(config.bi_hidden_size, 1)
        self.linguisic_logit = nn.Linear(config.hidden_size, 1)
        self.apply(self._initialise)
        heads = [
            p
            for head in (self.cls, self.vil_prediction, self.vil_logit, self.linguisic_logit)
            for p in head.parameters()
        ]
        for parameter in (*self.bert.unread(), *heads):
            parameter.stop_gradient = True

    @staticmethod
    def upstream(state):
        """Without the second copy of the word embeddings: the Paddle port's stays as it was while these are trained."""
        return {name: value for name, value in state.items() if name not in VilbertForReferring.tied}

    @property
    def recompute(self):
        """Whether the encoder keeps the layers' inputs only for the backward pass."""
        return self.bert.encoder.recompute

    @recompute.setter
    def recompute(self, on):
        self.bert.encoder.recompute = on

    def forward(self, batch):
        """Scores of regions.

        Args:
            batch: `models.stream_packing.StreamBatch` of NumPy arrays.
        Returns:
            [Pv] float32: for each expression in turn its image's regions, in their order.
        """
        return self.score(self.bert(StreamBatch(*to_device(*batch))))

    def score(self, regions):
        """The region stream [..., V] -> [...] float32, in float32 whatever made it."""
        with paddle.amp.auto_cast(enable=False):
            return self.vision_logit(self.dropout(regions.astype("float32"))).squeeze(-1)

    def _initialise(self, layer):
        """New parameters as upstream: normal(0, initializer_range), biases 0, LayerNorm 1 and 0."""
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.initializer.Normal(std=self.config.initializer_range)(layer.weight)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.initializer.Constant(0.0)(layer.bias)


class _PretrainingHeads(nn.Layer):
    """Parameters of upstream's `cls`, but for the decoder of words, which is the word embeddings."""

    def __init__(self, config):
        super().__init__()
        self.predictions, self.imagePredictions = nn.Layer(), nn.Layer()
        for head, width in ((self.predictions, config.hidden_size), (self.imagePredictions, config.v_hidden_size)):
            head.transform = nn.Layer()
            head.transform.dense = nn.Linear(width, width)
            head.transform.LayerNorm = nn.LayerNorm(width, epsilon=config.layer_norm_eps)
        self.predictions.bias = self.create_parameter([config.vocab_size], is_bias=True)
        self.imagePredictions.decoder = nn.Linear(config.v_hidden_size, config.v_target_size)
        self.bi_seq_relationship = nn.Linear(config.bi_hidden_size, 2)


class _AnswerHead(nn.Layer):
    """Parameters of upstream's `vil_prediction` with one label: two weight-normed layers, in PyTorch's orientation."""

    def __init__(self, config):
        super().__init__()
        sizes = {"0": (config.bi_hidden_size, 2 * config.bi_hidden_size), "3": (2 * config.bi_hidden_size, 1)}
        self.main = nn.Layer()
        for number, (inputs, outputs) in sizes.items():
            layer = self.main.add_sublayer(number, nn.Layer())
            layer.weight_g = self.create_parameter([])
            layer.weight_v = self.create_parameter([outputs, inputs])
            layer.bias = self.create_parameter([outputs], is_bias=True)


def _take(values, order):
    """Rows of `values` [n, ...] in this order, [m] or [B, R]; as they are where it is None."""
    if order is None:
        return values
    return paddle.gather(values, order) if order.ndim == 1 else paddle.gather_nd(values, order.unsqueeze(-1))
