"""The published ports' way to logits and to new weights, with our weights: what the measuring tools compare with.

Every pair is a row of 70 text and 70 region positions, however long it is; its regions are embedded and normalised for
it alone, and every layer computes every position.
"""

import numpy as np
import paddle
import paddle.nn.functional as F

from oscar_paddle.solvers.optimizer import group_of

TEXT, REGIONS = 70, 70


def paddles_adamw(model, options, groups):
    """Paddle's own AdamW and clipping. Args: options: cfg.OPTIMIZATION. groups: of the task's recipe."""
    named = dict(model.named_parameters())
    decayed = {parameter.name for name, parameter in named.items() if group_of(name, groups).decays}
    return paddle.optimizer.AdamW(
        options.LR,
        epsilon=options.EPSILON,
        weight_decay=options.WEIGHT_DECAY,
        apply_decay_param_fun=lambda name: name in decayed,
        parameters=list(named.values()),
        grad_clip=paddle.nn.ClipGradByGlobalNorm(options.CLIP_MAX_NORM),
    )


class PublishedWay:
    """Args: model: OscarForClassification. data: RetrievalDataset with rows of TEXT positions."""

    def __init__(self, model, data):
        self.model, self.data = model, data

    def logits(self, images, captions):
        """Pairs -> (logits [B, C], as a tensor; real positions [B] int64)."""
        text, shape = self.data.text_rows(images, captions), (len(images), TEXT)
        real_text = np.arange(TEXT) < text.text_length[:, None]
        ids, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        ids[real_text], types[real_text] = text.input_ids, text.token_type_ids
        regions = [self.data.regions[self.data.image_ids[image]] for image in images]
        features = np.zeros((len(ids), REGIONS, regions[0].shape[1]), np.float32)
        for row, own in zip(features, regions, strict=True):
            row[: len(own)] = own
        num_regions = np.array([len(own) for own in regions])
        real = np.concatenate([real_text, np.arange(REGIONS) < num_regions[:, None]], axis=1)
        return self._forward(*map(paddle.to_tensor, (ids, types, real.astype(np.float32), features))), real.sum(axis=1)

    def _forward(self, *inputs):
        bert = self.model.bert
        first = padded_states(bert, *inputs)[:, 0]
        return self.model.classifier(self.model.dropout(F.tanh(bert.pooler.dense(first))))


def padded_states(bert, ids, types, mask, features):
    """Every position of every row, computed in every layer.

    Args:
        ids, types: [B, T] int64. mask: [B, T + R] float32, 1 = real. features: [B, R, D] float32.
    Returns:
        [B, T + R, H], the last layer.
    """
    bias = ((1.0 - mask) * -10000.0).unsqueeze([1, 2])
    text = bert.embeddings(ids, types, paddle.arange(ids.shape[1]).expand_as(ids))
    hidden = paddle.concat([text, bert.dropout(bert.embed_regions(features))], axis=1)
    for layer in bert.encoder.layer:
        hidden = padded_layer(layer, hidden, bias)
    return hidden


def padded_layer(layer, hidden, bias):
    """One encoder layer, [B, N, H] -> [B, N, H]."""
    own, output = layer.attention.self, layer.attention.output

    def by_head(rows):
        return rows.reshape([0, 0, own.num_heads, own.head_width]).transpose([0, 2, 1, 3])

    queries, keys, values = (by_head(linear(hidden)) for linear in (own.query, own.key, own.value))
    scores = paddle.matmul(queries, keys, transpose_y=True) / own.head_width**0.5
    context = paddle.matmul(own.dropout(F.softmax(scores + bias, axis=-1)), values)
    context = context.transpose([0, 2, 1, 3]).reshape(hidden.shape)
    attended = output.LayerNorm(output.dropout(output.dense(context)) + hidden)
    inner = F.gelu(layer.intermediate.dense(attended))
    return layer.output.LayerNorm(layer.output.dropout(layer.output.dense(inner)) + attended)
