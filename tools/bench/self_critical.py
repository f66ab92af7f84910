"""One way of the self-critical part of tools/bench_captioning.py: takes training steps on the same images, over and
over.

A step draws n captions of each of B images in training mode, writes the greedy one in evaluation mode, rewards all,
and updates the weights. The words that are drawn are given, and none is [SEP], so that every way does the same work:
G - 1 steps of each caption.
"""

import math

import paddle
import paddle.nn.functional as F

T_TAGS, REGIONS, FEATURES = 30, 50, 2054  # positions behind the caption's 20, as published
SPECIALS = (1, 2, 0, 3)  # [CLS] [SEP] [PAD] [MASK]


class PublishedWriter:
    """The published code's way to captions with gradient: the states of all layers are kept, and their keys and values
    computed anew in every step, for every caption.

    Args:
        model: OscarForCaptioning. prefix: CaptionPrefix of B images with T_TAGS tags and REGIONS regions each.
    """

    def __init__(self, model, prefix):
        self.model, images = model, len(prefix.num_regions)
        fields = (prefix.input_ids, prefix.token_type_ids, prefix.position_ids)
        self.tags = [paddle.to_tensor(field.reshape(images, T_TAGS)) for field in fields]
        self.features = paddle.to_tensor(prefix.img_feats.reshape(images, REGIONS, -1))

    def write(self, copies, longest, choose):
        """Log-probabilities of captions, summed: [B * copies].

        Args:
            copies: captions of an image. longest: G.
            choose: function of (scores [B * copies, V], step) -> words [B * copies] int64, as a tensor.
        """
        bert, (cls, _, _, mask) = self.model.bert, SPECIALS
        ids, types, places = (field.repeat_interleave(copies, axis=0) for field in self.tags)
        features = self.features.repeat_interleave(copies, axis=0)
        rows = ids.shape[0]
        start = paddle.to_tensor([[cls, mask]] * rows)
        first = paddle.arange(2).expand([rows, 2])
        text = bert.embeddings(
            paddle.concat([start, ids], axis=1),
            paddle.concat([paddle.zeros_like(start), types], axis=1),
            paddle.concat([first, places], axis=1),
        )
        hidden = paddle.concat([text, bert.dropout(bert.embed_regions(features))], axis=1)
        seen = paddle.ones([hidden.shape[1]] * 2)
        seen[2:, :2], seen[0, 1] = 0.0, 0.0
        bias = (1.0 - seen) * -10000.0
        history = []
        for layer in bert.encoder.layer:
            history.append(paddle.concat([hidden[:, 2:], hidden[:, :1]], axis=1))
            hidden = self._layer(layer, hidden, hidden, bias)
        logs = []
        for step in range(longest - 1):
            scores = F.log_softmax(self.model.word_logits(hidden[:, 1]), axis=-1)
            words = choose(scores, step)
            logs.append(paddle.take_along_axis(scores, words.unsqueeze(1), axis=1)[:, 0])
            if step + 2 < longest:
                hidden = self._next(words, step + 1, history)
        return paddle.stack(logs).sum(axis=0)

    def _next(self, words, place, history):
        """Last states of the words [R] at a place and the [MASK] behind them; the history gets the words'."""
        rows = words.shape[0]
        pair = paddle.stack([words, paddle.full([rows], SPECIALS[3], "int64")], axis=1)
        places = paddle.to_tensor([[place, place + 1]] * rows)
        hidden = self.model.bert.embeddings(pair, paddle.zeros_like(pair), places)
        length = history[0].shape[1]
        bias = paddle.zeros([2, length + 2])
        bias[0, length + 1] = -10000.0
        for number, layer in enumerate(self.model.bert.encoder.layer):
            everything = paddle.concat([history[number], hidden], axis=1)
            history[number] = everything[:, : length + 1]
            hidden = self._layer(layer, hidden, everything, bias)
        return hidden

    @staticmethod
    def _layer(layer, hidden, everything, bias):
        """Queries of [R, Q, H] over keys and values of [R, N, H] -> [R, Q, H]."""
        own, output = layer.attention.self, layer.attention.output

        def by_head(states):
            return states.reshape([0, 0, own.num_heads, own.head_width]).transpose([0, 2, 1, 3])

        queries, keys, values = by_head(own.query(hidden)), by_head(own.key(everything)), by_head(own.value(everything))
        scores = paddle.matmul(queries, keys, transpose_y=True) / math.sqrt(own.head_width)
        context = paddle.matmul(own.dropout(F.softmax(scores + bias, axis=-1)), values)
        context = context.transpose([0, 2, 1, 3]).reshape(hidden.shape)
        return layer.output(layer.intermediate(attended := output(context, hidden)), attended)
