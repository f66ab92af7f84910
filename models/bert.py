"""BERT encoder blocks that work on packed rows.

Shape letters: B rows, N longest row, P real positions of all rows together, H width, A heads, D width of a head.

A batch of rows with different lengths is kept as one [P, H] matrix, so that the linear layers, LayerNorm and GELU
never see padding; only the attention scores are laid out as [B, A, N, N]. Names of parameters equal the upstream
PyTorch names, so a checkpoint converts by transposing linear weights and nothing else.
"""

import math
import threading
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute


class Packing(NamedTuple):
    """Where the real positions of a batch stand; tensors with the fields of `models.packing.PackedBatch`."""

    spread: paddle.Tensor
    collect: paddle.Tensor
    first: paddle.Tensor
    text: paddle.Tensor
    bias: paddle.Tensor

    def to_rows(self, hidden):
        """[P, H] -> [B, N, H]."""
        rows, longest = self.spread.shape
        return paddle.gather(hidden, self.spread.reshape([-1])).reshape([rows, longest, hidden.shape[-1]])

    def from_rows(self, padded):
        """[B, N, H] -> [P, H]."""
        return paddle.gather(padded.reshape([-1, padded.shape[-1]]), self.collect)

    def first_position(self, hidden):
        """[P, H] -> [B, H]."""
        return paddle.gather(hidden, self.first)

    def text_positions(self, hidden):
        """[P, H] -> [Pt, H]."""
        return paddle.gather(hidden, self.text)


class EqualRows(NamedTuple):
    """The same for rows of (nearly) equal length, which stay [B, N, H] throughout, the little padding included."""

    bias: paddle.Tensor

    def to_rows(self, hidden):
        return hidden

    def from_rows(self, padded):
        return padded

    def first_position(self, hidden):
        """[B, N, H] -> [B, H]."""
        return hidden[:, 0]


class First:
    """Position 0 of each row, where nothing else is asked of the last layer."""

    @staticmethod
    def of(hidden, packing):
        """Hidden states -> those of the positions asked for, [n, H]."""
        return packing.first_position(hidden)

    @staticmethod
    def to_rows(asked):
        """[n, H] -> [B, Q, H]."""
        return asked.unsqueeze(1)

    @staticmethod
    def from_rows(rows):
        """[B, Q, H] -> [n, H]."""
        return rows.squeeze(1)


class Some(NamedTuple):
    """Some positions of each row, n of all, Q of a row at most; with the methods of First.

    Attributes, int32 tensors:
        positions: [n] packed positions. spread: [B, Q], which of the n stand in a row; any behind its last one.
        collect: [n] place of each in the flattened [B, Q].
    """

    positions: paddle.Tensor
    spread: paddle.Tensor
    collect: paddle.Tensor

    def of(self, hidden, packing):
        return paddle.gather(hidden, self.positions)

    def to_rows(self, asked):
        return paddle.gather(asked, self.spread.reshape([-1])).reshape([*self.spread.shape, asked.shape[-1]])

    def from_rows(self, rows):
        return paddle.gather(rows.reshape([-1, rows.shape[-1]]), self.collect)


class Linear(nn.Linear):
    """nn.Linear whose bias is added in place and whose bias gradient is a matrix product.

    On the CPU, Paddle's own way to it, a sum over rows, takes as long as a quarter of the layer's matrix products.
    """

    def forward(self, hidden):
        """[..., in] -> [..., out]."""
        if not self.training or not hidden.place.is_cpu_place():
            return super().forward(hidden)
        rows = hidden.reshape([-1, hidden.shape[-1]])
        loop = getattr(_unrolled, "loop", None) if paddle.is_grad_enabled() else None
        return _Product.apply(rows, self.weight, self.bias, loop).reshape([*hidden.shape[:-1], -1])


_unrolled = threading.local()


class Unrolled:
    """Context of a loop whose steps use the same Linear layers on a few rows each, and which the loss sees all of.

    The gradient of a weight is then one product of the rows of all steps. Step by step, most of the time would be spent
    on writing it and adding it up. Where a step is not a part of the loss, the weight would get no gradient at all.
    """

    def __enter__(self):
        self.uses = {}  # name of a weight -> how many gradients are still to come; their rows
        _unrolled.loop = self

    def __exit__(self, *problem):
        _unrolled.loop = None

    def expect(self, weight):
        self.uses.setdefault(weight.name, [0, []])[0] += 1

    def collect(self, weight, hidden, gradient):
        """All rows (hidden, gradient) of a weight's uses when the last of them is here, else None."""
        use = self.uses[weight.name]
        use[0] -= 1
        use[1].append((hidden, gradient))
        return None if use[0] else [paddle.concat(rows) for rows in zip(*use[1], strict=True)]


class _Product(PyLayer):
    @staticmethod
    def forward(ctx, hidden, weight, bias, loop):
        ctx.save_for_backward(hidden, weight)
        ctx.wanted = [not tensor.stop_gradient for tensor in (hidden, weight, bias)]
        ctx.loop = loop
        if loop:
            loop.expect(weight)
        return paddle.matmul(hidden, weight).add_(bias)

    @staticmethod
    def backward(ctx, gradient):
        hidden, weight = ctx.saved_tensor()
        of_hidden, of_weight, of_bias = ctx.wanted
        to_hidden = paddle.matmul(gradient, weight, transpose_y=True) if of_hidden else None
        rows = ctx.loop.collect(weight, hidden, gradient) if ctx.loop else (hidden, gradient)
        if rows is None:
            return to_hidden, None, None
        hidden, gradient = rows
        over_rows = paddle.ones([1, gradient.shape[0]])
        return (
            to_hidden,
            paddle.matmul(hidden, gradient, transpose_x=True) if of_weight else None,
            paddle.matmul(over_rows, gradient)[0] if of_bias else None,
        )


class Dropout(nn.Dropout):
    """nn.Dropout whose mask is drawn by NumPy on the CPU, where Paddle's own takes six times as long.

    The mask is seeded by a draw of Paddle's generator, so `paddle.seed` and recompute decide it as usual; p is rounded
    to 1/65536, and what is kept is scaled by exactly its inverse.
    """

    def forward(self, hidden):
        if not self.training or not self.p or not hidden.place.is_cpu_place():
            return super().forward(hidden)
        random = np.random.SFC64(paddle.randint(0, 2**31 - 1, [1]).item())
        draws = random.random_raw(-(-hidden.size // 4)).view(np.uint16)[: hidden.size]
        threshold = round(self.p * 65536)
        mask = (draws >= threshold).reshape(hidden.shape) * np.float32(65536 / (65536 - threshold))
        return hidden * paddle.utils.dlpack.from_dlpack(mask)  # shares the memory, where to_tensor copies


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm whose gradient is vector operations: on the CPU, Paddle's own takes forty times the forward pass."""

    def forward(self, hidden):
        """[..., H] -> the same shape."""
        if not self.training or not hidden.place.is_cpu_place():
            return super().forward(hidden)
        rows = hidden.reshape([-1, hidden.shape[-1]])
        return _Normalise.apply(rows, self.weight, self.bias, self._epsilon).reshape(hidden.shape)


class _Normalise(PyLayer):
    @staticmethod
    def forward(ctx, hidden, weight, bias, epsilon):
        ctx.save_for_backward(hidden, weight)
        ctx.epsilon = epsilon
        return F.layer_norm(hidden, hidden.shape[1], weight, bias, epsilon)

    @staticmethod
    def backward(ctx, gradient):
        hidden, weight = ctx.saved_tensor()
        rows, width = hidden.shape
        over_rows, over_columns = paddle.full([1, rows], 1.0), paddle.full([width, 1], 1.0 / width)

        def mean(values):  # of each row; a matrix product is the fastest sum here
            return paddle.matmul(values, over_columns)

        centred = hidden - mean(hidden)
        scale = paddle.rsqrt(mean(centred * centred) + ctx.epsilon)
        normal, inner = centred.multiply_(scale), gradient * weight
        along = normal * mean(inner * normal)
        of_hidden = inner.subtract_(mean(inner)).subtract_(along).multiply_(scale)
        return of_hidden, paddle.matmul(over_rows, gradient * normal)[0], paddle.matmul(over_rows, gradient)[0]


class BertEmbeddings(nn.Layer):
    """Sum of word, position and segment embeddings, then LayerNorm and dropout."""

    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids, token_type_ids, position_ids):
        """[P] int64 each -> [P, H]."""
        embedded = (
            self.word_embeddings(input_ids)
            + self.position_embeddings(position_ids)
            + self.token_type_embeddings(token_type_ids)
        )
        return self.dropout(self.LayerNorm(embedded))


def attend(queries, keys, values, bias, dropout):
    """Scaled dot-product attention, step by step.

    Args:
        queries: [B, N, A, D]. keys, values: [B, M, A, D].
        bias: added to the scores [B, A, N, M]. dropout: layer for the weights.
    Returns:
        [B, N, A, D].
    """
    queries = queries.transpose([0, 2, 1, 3]) * (1.0 / math.sqrt(queries.shape[-1]))
    scores = paddle.matmul(queries, keys.transpose([0, 2, 1, 3]), transpose_y=True)
    if not dropout.training or not scores.place.is_cpu_place():
        weights = F.softmax(scores + bias, axis=-1)
    else:  # there, an addition that broadcasts takes eight times this one
        weights = F.softmax(scores + bias.expand(scores.shape), axis=-1)
    return paddle.matmul(dropout(weights), values.transpose([0, 2, 1, 3])).transpose([0, 2, 1, 3])


class BertSelfAttention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_width = config.hidden_size // config.num_attention_heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        # Softmax does not see a constant added to all scores of a query, so the true gradient of this bias is zero.
        # Left to Adam, rounding noise would become steps that differ between machines and numbers of ranks.
        self.key.bias.stop_gradient = True
        self.dropout = Dropout(config.attention_probs_dropout_prob)
        self.fused = False  # Paddle's fused attention; for scoring on GPUs, see solvers.scoring.pairs

    def forward(self, hidden, packing, asked=None):
        """[P, H] -> [P, H], or [n, H] of the positions `asked` for (First, Some)."""
        keys = self._by_head(packing.to_rows(self.key(hidden)))
        values = self._by_head(packing.to_rows(self.value(hidden)))
        if asked:
            queries = self._by_head(asked.to_rows(self.query(asked.of(hidden, packing))))
            bias = packing.bias[:, :, :1]
        else:
            queries = self._by_head(packing.to_rows(self.query(hidden)))
            bias = packing.bias
        attend = self._fused_attention if self.fused and not self.training else self._attention
        context = attend(queries, keys, values, bias.astype(queries.dtype))
        context = context.reshape([0, 0, self.num_heads * self.head_width])
        return asked.from_rows(context) if asked else packing.from_rows(context)

    def _by_head(self, rows):
        """[B, N, H] -> [B, N, A, D]."""
        return rows.reshape([0, 0, self.num_heads, self.head_width])

    def _attention(self, queries, keys, values, bias):
        """[B, N, A, D] each, and the bias of the scores -> [B, N, A, D]."""
        return attend(queries, keys, values, bias, self.dropout)

    def _fused_attention(self, queries, keys, values, bias):
        """The same in one operation, without dropout."""
        bias = bias.expand([queries.shape[0], 1, queries.shape[1], keys.shape[1]])
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, training=False)


class BertSelfOutput(nn.Layer):
    """Linear, dropout, residual, LayerNorm; also the second half of the feed-forward block (`BertOutput`)."""

    def __init__(self, config, input_size=None):
        super().__init__()
        self.dense = Linear(input_size or config.hidden_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden, residual):
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class BertAttention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertSelfOutput(config)

    def forward(self, hidden, packing, asked=None):
        residual = asked.of(hidden, packing) if asked else hidden
        return self.output(self.self(hidden, packing, asked), residual)


class BertIntermediate(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden):
        return F.gelu(self.dense(hidden))  # the exact erf form, as upstream


class BertLayer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertSelfOutput(config, input_size=config.intermediate_size)

    def forward(self, hidden, packing, asked=None):
        attended = self.attention(hidden, packing, asked)
        return self.output(self.intermediate(attended), attended)


class BertEncoder(nn.Layer):
    """The stack of layers.

    `asked` computes keys and values of the last layer for all positions and everything else there for the positions
    asked for only: exact, since nothing else reads the others. A mask by query (models.visibility) admits First alone.
    """

    def __init__(self, config):
        super().__init__()
        self.layer = nn.LayerList([BertLayer(config) for _ in range(config.num_hidden_layers)])
        self.recompute = False  # trade time for memory: keep only the layers' inputs for the backward pass

    def forward(self, hidden, packing, asked=None):
        """[P, H] with Packing, or [B, N, H] with EqualRows -> the same shape, or [n, H] of what is `asked` for."""
        last = len(self.layer) - 1
        for index, layer in enumerate(self.layer):
            only = asked if index == last else None
            if self.recompute and self.training:
                hidden = recompute(layer, hidden, packing, only)
            else:
                hidden = layer(hidden, packing, only)
        return hidden


class BertPooler(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, first_hidden):
        """[B, H], the last layer at position 0 -> [B, H] in (-1, 1)."""
        return F.tanh(self.dense(first_hidden))
