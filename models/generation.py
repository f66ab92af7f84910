"""Writing captions: what they are written after is computed once an image, then two positions a step and caption.

Tags and regions never see the caption (mask type S2S), so their keys and values serve every step and all captions of
an image. A step adds the last word of each caption and a [MASK], whose state gives the scores of the next word; of the
step only the last words' keys and values stay. They stay where they were written, for all captions of the image: which
of them a caption sees is a mask, so a beam that moves to another caption's history moves no numbers.

Shape letters: B images, K captions an image that are being written, R = B * K, Q new positions of an image, N positions
of the longest prefix, C words of all captions of an image that stay, M positions that are read, V words of the
vocabulary, H width, A heads, D width of a head.
"""

import contextlib
import math
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.bert import Unrolled
from oscar_paddle.models.decoding import best_words, check_decoding, draw_captions, likely, search
from oscar_paddle.models.device import to_device
from oscar_paddle.models.packing import row_batch
from oscar_paddle.models.visibility import HIDDEN_BIAS, score_bias


class NewPositions(NamedTuple):
    """Positions that a pass adds to the rows of B images, as NumPy arrays or tensors.

    Attributes:
        input_ids, token_type_ids, position_ids: [Pt] int64, and regions: [Pu, H]: what stands there.
        order: [B, Q] int32, for each new position its place in concat(text [Pt], regions [Pu]).
        bias: [B or 1, 1, Q or 1, Q] float32, who of them sees whom, see `models.visibility`.
        read: [M] int32, whose of the Q last states are wanted.
    """

    input_ids: object
    token_type_ids: object
    position_ids: object
    regions: object
    order: object
    bias: object
    read: object


class Seen(NamedTuple):
    """Keys and values of earlier positions: lists, one [B, A, n, D] a layer, and bias [B, 1, Q or 1, n] float32."""

    keys: list
    values: list
    bias: object


def new_states(bert, new, seen):
    """One pass over new positions of B images.

    Args:
        bert: OscarModel, in evaluation or training mode.
        new: NewPositions of tensors. seen: list of Seen, what all of them may see.
    Returns:
        (last states [B, M, H] of the positions that are read, keys, values of all new positions: lists, one
        [B, A, Q, D] a layer).
    """
    hidden = bert.embed(new.input_ids, new.token_type_ids, new.position_ids, new.regions, new.order)
    keys, values, bias = [], [], new.bias
    biases = [part.bias for part in seen]
    last = len(bert.encoder.layer) - 1
    for number, layer in enumerate(bert.encoder.layer):
        attention = layer.attention.self
        keys.append(_by_head(attention, attention.key(hidden)))
        values.append(_by_head(attention, attention.value(hidden)))
        if number == last:  # nothing reads the other positions
            hidden = paddle.index_select(hidden, new.read, axis=1)
            bias, *biases = (_rows_read(part, new.read) for part in (bias, *biases))
        queries = _by_head(attention, attention.query(hidden))
        parts = [(part.keys[number], part.values[number], by) for part, by in zip(seen, biases, strict=True)]
        context = _attend(attention, queries, [*parts, (keys[-1], values[-1], bias)])
        attended = layer.attention.output(context, hidden)
        hidden = layer.output(layer.intermediate(attended), attended)
    return hidden, keys, values


def _rows_read(bias, read):
    return bias if bias.shape[2] == 1 else paddle.index_select(bias, read, axis=2)


def _by_head(attention, rows):
    """[B, n, H] -> [B, A, n, D]."""
    return rows.reshape([0, 0, attention.num_heads, attention.head_width]).transpose([0, 2, 1, 3])


def _attend(attention, queries, parts):
    """Queries [B, A, n, D] over the keys of several parts at once -> [B, n, H]."""
    queries = queries * (1.0 / math.sqrt(attention.head_width))
    scores = [paddle.matmul(queries, keys, transpose_y=True) + bias.astype(queries.dtype) for keys, _, bias in parts]
    weights = attention.dropout(F.softmax(paddle.concat(scores, axis=-1), axis=-1))
    context, start = None, 0
    for keys, values, _ in parts:
        end = start + (keys.shape[2] if keys.shape[2] > 0 else paddle.shape(keys)[2])  # -1 where it is exported
        part = paddle.matmul(paddle.slice(weights, axes=[3], starts=[start], ends=[end]), values)
        context, start = part if context is None else context + part, end
    return context.transpose([0, 2, 1, 3]).reshape([0, 0, attention.num_heads * attention.head_width])


# ---- what runs a pass ----


class EagerWriter:
    """Runs passes with Paddle as it is; in training mode, with gradients.

    Args:
        model: with `bert` and `word_logits`.
        precision: "float32", or "bfloat16" or "float16" for automatic mixed precision (GPUs).
    Attributes:
        multiple: prefixes are padded to a multiple of so many positions.
    """

    multiple = 1

    def __init__(self, model, precision="float32"):
        self.model, self.config, self.precision = model, model.config, precision

    def embed_regions(self, img_feats):
        """[Pu, D] float32 array -> [Pu, H]."""
        return self.model.bert.embed_regions(*to_device(img_feats))

    def run(self, new, seen, logits=True):
        """One pass, see `new_states`.

        Args:
            new: NewPositions of arrays; `regions` may be a tensor. seen: list of Seen.
            logits: whether anything is read.
        Returns:
            (scores of all words [B, M, V] float32 or None, keys, values).
        """
        new = NewPositions(*(part if isinstance(part, paddle.Tensor) else to_device(part)[0] for part in new))
        seen = [part._replace(bias=to_device(part.bias)[0]) for part in seen]
        half = self.precision != "float32"  # else as the caller has it: a trainer may have mixed precision on
        with paddle.amp.auto_cast(dtype=self.precision) if half else contextlib.nullcontext():
            states, keys, values = new_states(self.model.bert, new, seen)
            return self.model.word_logits(states) if logits else None, keys, values

    def join(self, words, count, keys, values):
        """The words that stay, Seen or None, with those of a pass at [count:] of each image."""
        if words is None:
            return Seen(keys, values, None)
        keys, values = (
            [paddle.concat(pair, axis=2) for pair in zip(*both, strict=True)]
            for both in ((words.keys, keys), (words.values, values))
        )
        return Seen(keys, values, None)

    def take(self, seen, images):
        """The keys and values of some images."""
        (images,) = to_device(images)
        keys, values = ([paddle.index_select(part, images, axis=0) for part in parts] for parts in seen[:2])
        return Seen(keys, values, seen.bias)


# ---- captions that are being written ----


def prefix_states(writer, prefix, copies=1):
    """Keys and values of what the captions of B images are written after.

    Args:
        writer: EagerWriter, or what else runs passes. prefix: CaptionPrefix.
        copies: rows an image; in training mode each has dropout of its own.
    Returns:
        Seen of B * copies rows, an image's one after the other.
    """
    images = np.repeat(np.arange(len(prefix.text_length)), copies)
    region_start = (np.cumsum(prefix.num_regions) - prefix.num_regions)[images]
    rows = row_batch(prefix.take_text(images), prefix.num_regions[images], region_start)
    extra = -rows.order.shape[1] % writer.multiple if rows.order.size else writer.multiple
    order = np.pad(rows.order, ((0, 0), (0, extra)))
    bias = np.pad(rows.bias, ((0, 0), (0, 0), (0, 0), (0, extra)), constant_values=HIDDEN_BIAS)
    text = np.stack([rows.input_ids, rows.token_type_ids, rows.position_ids])
    if not text.size:  # no image has tags; a pass needs some text, which nothing points to
        text, order = np.zeros((3, 1), np.int64), order + 1
    width = writer.config.hidden_size
    regions = writer.embed_regions(prefix.img_feats) if len(prefix.img_feats) else np.zeros((1, width), np.float32)
    new = NewPositions(*text, regions=regions, order=order, bias=bias, read=np.zeros(1, np.int32))
    _, keys, values = writer.run(new, [], logits=False)
    return Seen(keys, values, bias)


class Captions:
    """Captions of some images while they are being written, word by word, all of one length.

    Args:
        writer: EagerWriter, or what else runs passes.
        prefix: CaptionPrefix of B images.
        mask_id: id of [MASK].
        copies: rows an image, see `prefix_states`; each is then an image of its own here.
    Attributes:
        images: [B] int64, which images of the prefix (times copies) are left.
        length: words of every caption so far.
    """

    def __init__(self, writer, prefix, mask_id, copies=1):
        self.writer, self.mask_id = writer, mask_id
        self.images, self.length = np.arange(len(prefix.text_length) * copies), 0
        self.prefix, self.words = prefix_states(writer, prefix, copies), None
        self.sees = np.zeros((len(self.images), 1, 0), bool)  # [B, K, C], which words of the image a caption has

    def advance(self, tokens, parents=None):
        """Add a word to every caption and look at what may come next.

        Args:
            tokens: [B, K] int64, the words: [CLS] at first.
            parents: [B, K] int, which of the image's captions each of them goes on from; None: each from itself.
        Returns:
            [B, K, V] float32, the scores of the next word: a tensor, or an array, whatever the writer makes.
        """
        images, captions = tokens.shape
        if parents is not None:
            self.sees = np.take_along_axis(self.sees, parents[:, :, None], axis=1)
        elif self.sees.shape[1] != captions:
            self.sees = np.repeat(self.sees, captions, axis=1)
        seen = [self.prefix]
        if self.words is not None:
            room = self.words.keys[0].shape[2] - self.sees.shape[2]  # for more words
            sees = np.pad(np.tile(self.sees, (1, 2, 1)), ((0, 0), (0, 0), (0, room)))
            seen.append(self.words._replace(bias=score_bias(sees)))
        logits, keys, values = self.writer.run(self._last_and_mask(tokens), seen)
        last = ([part[:, :, :captions] for part in parts] for parts in (keys, values))
        self.words = self.writer.join(self.words, self.sees.shape[2], *last)
        own = np.broadcast_to(np.eye(captions, dtype=bool), (images, captions, captions))
        self.sees = np.concatenate([self.sees, own], axis=2)
        self.length += 1
        return logits

    def _last_and_mask(self, tokens):
        """NewPositions: the last words of an image's captions, then a [MASK] for each."""
        images, captions = tokens.shape
        ids = np.concatenate([tokens, np.full_like(tokens, self.mask_id)], axis=1).ravel()
        places = np.tile(np.repeat(self.length + np.arange(2), captions), images)
        own = np.eye(captions, dtype=bool)
        return NewPositions(
            input_ids=ids,
            token_type_ids=np.zeros_like(ids),
            position_ids=places,
            regions=np.zeros((1, self.writer.config.hidden_size), np.float32),  # none, but a pass needs some
            order=np.arange(ids.size, dtype=np.int32).reshape(images, -1),
            bias=score_bias(np.block([[own, np.zeros_like(own)], [own, own]])[None]),
            read=np.arange(captions, 2 * captions, dtype=np.int32),
        )

    def keep(self, places):
        """Go on with the images at these places [b] of the batch only."""
        self.images, self.sees = self.images[places], self.sees[places]
        self.prefix = self.writer.take(self.prefix, places)._replace(bias=self.prefix.bias[places])
        self.words = self.writer.take(self.words, places)

    @staticmethod
    def worth_leaving(going):
        """Whether so many images have ended that the others go on alone. going: [B] bool.

        What is left is copied, so a few may stay.
        """
        return np.count_nonzero(going) <= len(going) - max(1, len(going) // 8)


def generate(writer, prefix, specials, decoding, draws=None):
    """Captions of some images.

    Args:
        writer: EagerWriter of a model in evaluation mode, or what else runs passes.
        prefix: CaptionPrefix of B images. specials: `models.decoding.Specials`.
        decoding: `models.decoding.Decoding`. draws: see `models.decoding.search`; needed with do_sample.
    Returns:
        (ids [B, keep, max_length] int64, scores [B, keep] float32), see `models.decoding.search`.
    Raises:
        ConfigError: the model cannot write so, see `check_decoding`.
    """
    check_decoding(decoding, writer.config)
    with paddle.no_grad():
        return search(Captions(writer, prefix, specials.mask), specials, decoding, draws)


class Samples(NamedTuple):
    """Captions drawn with gradients, those of an image one after the other.

    Attributes:
        ids: [R, max_length] int64, as `models.decoding.search` gives them.
        log_probs: [R] float32 tensor with gradients, of all words behind [CLS] together.
        lengths: [R] int64, how many words these are.
    """

    ids: np.ndarray
    log_probs: paddle.Tensor
    lengths: np.ndarray


def sample_captions(model, prefix, specials, decoding, draws, share_prefix=False):
    """Captions drawn from the model as it is, in training mode with dropout, for self-critical training.

    Args:
        model: with `bert` and `word_logits`. prefix: CaptionPrefix of B images.
        specials, decoding: see `generate`; `keep` captions an image, and without `do_sample` the most probable word is
            "drawn".
        draws: see `models.decoding.search`.
        share_prefix: one dropout draw for the prefix of an image rather than one a caption.
    Returns:
        Samples of R = B * keep captions; gradients flow through all steps.
    Source: docs/reference.md, generation.
    """
    check_decoding(decoding, model.config)
    copies, each = (1, decoding.keep) if share_prefix else (decoding.keep, 1)
    captions = Captions(EagerWriter(model), prefix, specials.mask, copies)
    logs, places = [], []

    def pick(logits, live, ids, numbers, step):
        logits = paddle.gather(logits.reshape([-1, logits.shape[-1]]), *to_device(live))
        chosen, words = _pick_with_gradient(logits, ids, numbers, step, decoding, draws)
        logs.append(words)
        places.append(numbers)
        return chosen, words.numpy()

    with Unrolled():
        ids, _, lengths = draw_captions(captions, specials, decoding.max_length, pick, each=each, apart=True)
    sums = paddle.zeros([len(ids)])
    where, logs = to_device(np.concatenate(places))[0], paddle.concat(logs)
    return Samples(ids, paddle.index_add(sums, where, 0, logs), lengths)


def _pick_with_gradient(logits, ids, numbers, step, decoding, draws):
    """As `models.decoding.picker`, of the tensor [r, V]: (words [r], their log-probabilities as a tensor)."""
    rows = np.arange(len(ids))[:, None]
    if decoding.repetition_penalty != 1:
        values, penalty = logits.numpy(), np.float32(decoding.repetition_penalty)
        factors = np.ones_like(values)
        factors[rows, ids] = np.where(values[rows, ids] < 0, penalty, 1 / penalty)
        logits = logits * to_device(factors)[0]
    if decoding.do_sample:
        logits = logits / decoding.temperature
        stays = likely(logits.numpy(), decoding.top_k, decoding.top_p)
        if not stays.all():
            logits = paddle.where(to_device(stays)[0], logits, paddle.full([], -math.inf))
    # Not by log_softmax: of rows as wide as a vocabulary, Paddle 3.3.1's takes hundreds of times as long on the CPU.
    probabilities = F.softmax(logits.detach(), axis=-1).numpy()
    if np.isnan(probabilities).any():
        raise DataError("the scores of words are NaN; the weights hold NaN, or overflow")
    if decoding.do_sample:
        chosen = np.asarray(draws(probabilities.astype(np.float64), numbers, step))
    else:
        chosen = best_words(logits.numpy(), 1)[:, 0]
    return chosen, -F.cross_entropy(logits, to_device(chosen)[0], reduction="none").reshape([-1])
