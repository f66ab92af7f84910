"""One way of the self-critical part of tools/bench_captioning.py: takes training steps on the same images, over and
over.

A step draws n captions of each of B images in training mode, writes the greedy one in evaluation mode, rewards all,
and updates the weights. The words that are drawn are given, and none is [SEP], so that every way does the same work:
G - 1 steps of each caption.
"""

import math
import time

import numpy as np
import paddle
import paddle.nn.functional as F

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.decoding import Specials, given_draws
from oscar_paddle.solvers.metrics.cider import CiderD
from oscar_paddle.solvers.runtime import set_up_cpu_kernels
from oscar_paddle.solvers.self_critical import SelfCritical, SelfCriticalOptions, advantages
from oscar_paddle.solvers.tasks.task import Task
from oscar_paddle.tools.bench.ours import trainer_alone

LONGEST, TAGS, REGIONS = 20, 30, 50  # positions, as published; every image has all of them
FIRST_TAG, FIRST_WORD = 40, 4
SPECIALS = Specials(cls=1, sep=2, pad=0, mask=3)
REFERENCES, COCO_IMAGES = 5, 113_287
STEPS = 10**6  # of the run that a measured step belongs to: its learning rate hardly changes


class Training:
    """What all ways have: images, words to draw, the model, and the step to be timed."""

    shared_prefix = False

    def __init__(self, name, args):
        paddle.set_device("cpu")
        paddle.seed(1)
        sizes = {"hidden_size": args.hidden, "num_attention_heads": max(1, args.hidden // 64)}
        sizes |= {"intermediate_size": 4 * args.hidden, "num_hidden_layers": args.layers}
        # Weights of this size make some words ten times as likely as others, so that equal losses say something.
        config = BertConfig(**sizes, use_img_layernorm=1, tie_weights=True, initializer_range=0.1)
        self.model, random = OscarForCaptioning(config), np.random.default_rng(0)
        self.model.bert.embeddings.word_embeddings.weight.stop_gradient = True  # as VinVL's published training
        words = config.vocab_size
        self.prefix = made_up_prefix(random, args.scst_images, words)
        shape = (args.scst_images * args.scst_samples, LONGEST - 1)
        self.drawn = random.integers(FIRST_WORD, words, shape)
        self.cfg = get_cfg_defaults()
        self.cfg.OPTIMIZATION.BATCH_SIZE, self.cfg.OPTIMIZATION.MAX_STEPS = args.scst_images, STEPS
        options = SelfCriticalOptions(args.scst_samples, "greedy", self.shared_prefix, LONGEST)
        captions = random.integers(FIRST_WORD, words, (args.scst_images, REFERENCES, 10))
        self.references = [[*map(text_of, of_image)] for of_image in captions]
        self.reward_seconds = 0.0
        cider = CiderD({}, COCO_IMAGES)  # the time does not depend on the counts
        self.self_critical = SelfCritical(options, cider=cider, decode=text_of, specials=SPECIALS)
        self.self_critical.rewards = self.timed(self.self_critical.rewards)

    def timed(self, rewards):
        def call(*arguments):
            started = time.perf_counter()
            try:
                return rewards(*arguments)
            finally:
                self.reward_seconds += time.perf_counter() - started

        return call

    def step(self):
        """(seconds of a step, seconds of it for the reward)."""
        self.model.train()
        self.reward_seconds, started = 0.0, time.perf_counter()
        self.update()
        return time.perf_counter() - started, self.reward_seconds

    def loss(self):
        """Mean loss of the drawn captions without dropout."""
        probabilities = [(layer, layer.p) for layer in self.model.sublayers() if hasattr(layer, "p")]
        try:
            for layer, _ in probabilities:
                layer.p = 0.0
            self.model.train()
            with paddle.no_grad():
                return float(self.mean_loss())
        finally:
            for layer, p in probabilities:
                layer.p = p


def made_up_prefix(random, images, words):
    """CaptionPrefix of images with random tags and regions, all slots full."""
    return CaptionPrefix(
        input_ids=random.integers(FIRST_WORD, words, images * TAGS),
        token_type_ids=np.ones(images * TAGS, np.int64),
        position_ids=np.tile(FIRST_TAG + np.arange(TAGS), images),
        text_length=np.full(images, TAGS),
        img_feats=np.maximum(random.standard_normal((images * REGIONS, 2054)), 0).astype(np.float32),
        num_regions=np.full(images, REGIONS),
    )


def text_of(ids):
    """A made-up word for every id behind the special tokens."""
    return " ".join(f"w{word}" for word in ids if word >= FIRST_WORD)


class Ours(Training):
    """Steps as the trainer takes them."""

    def __init__(self, name, args):
        set_up_cpu_kernels()
        super().__init__(name, args)
        self.trainer = trainer_alone(self.model, _GivenWords(self), self.cfg)

    def mean_loss(self):
        sums = self.trainer.task.losses(self.model, self.prefix)
        return sums["scst"] / self.drawn.shape[0]

    def update(self):
        self.trainer.update(np.arange(len(self.references)), [self.prefix])


class SharedPrefix(Ours):
    """The same, with the prefix of an image encoded once for all its samples."""

    shared_prefix = True


class _GivenWords(Task):
    """Self-critical training with the words to draw given."""

    terms = SelfCritical.terms

    def __init__(self, training):
        super().__init__(training.cfg)
        self.training = training

    @property
    def num_examples(self):
        return len(self.training.references)

    def counts(self, batch):
        return self.training.self_critical.counts(self.training.references)

    def losses(self, model, batch):
        words = given_draws(self.training.drawn)
        return self.training.self_critical.losses(model, batch, self.training.references, words)


class Published(Training):
    """Steps as in the published code, with Paddle's own AdamW and clipping."""

    def __init__(self, name, args):
        super().__init__(name, args)
        self.writer, self.samples = PublishedWriter(self.model, self.prefix), args.scst_samples
        options = self.cfg.OPTIMIZATION
        self.optimizer = paddle.optimizer.AdamW(
            options.LR,
            epsilon=options.EPSILON,
            weight_decay=options.WEIGHT_DECAY,
            parameters=[parameter for parameter in self.model.parameters() if not parameter.stop_gradient],
            grad_clip=paddle.nn.ClipGradByGlobalNorm(options.CLIP_MAX_NORM),
        )

    def mean_loss(self):
        images, given, greedy = len(self.references), paddle.to_tensor(self.drawn), []

        def likeliest(logits, step):
            greedy.append(logits.argmax(axis=-1))
            return greedy[-1]

        self.model.eval()
        with paddle.no_grad():
            self.writer.write(1, LONGEST, likeliest)
        self.model.train()
        sums = self.writer.write(self.samples, LONGEST, lambda logits, step: given[:, step])
        greedy = paddle.stack(greedy, axis=1).numpy()[:, None]
        captions = np.hstack([self.drawn.reshape(images, self.samples, -1), greedy])
        captions[:, :, -1] = SPECIALS.sep  # in place of the last word, as none ended before
        rewards = self.self_critical.rewards([[*map(text_of, own)] for own in captions], self.references)
        above = advantages(rewards[:, :-1], rewards[:, -1:]).ravel().astype(np.float32)
        return -(sums / (LONGEST - 1) * paddle.to_tensor(above)).mean()

    def update(self):
        self.mean_loss().backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)


class PublishedWriter:
    """The published code's way to captions with gradient: the states of all layers are kept, and their keys and values
    computed anew in every step, for every caption.

    Args:
        model: OscarForCaptioning. prefix: CaptionPrefix of `made_up_prefix`.
    """

    def __init__(self, model, prefix):
        self.model, images = model, len(prefix.num_regions)
        fields = (prefix.input_ids, prefix.token_type_ids, prefix.position_ids)
        self.tags = [paddle.to_tensor(field.reshape(images, TAGS)) for field in fields]
        self.features = paddle.to_tensor(prefix.img_feats.reshape(images, REGIONS, -1))

    def write(self, copies, longest, choose):
        """Log-probabilities of captions, summed: [B * copies].

        Args:
            copies: captions of an image. longest: G.
            choose: function of (logits [B * copies, V], step) -> words [B * copies] int64, as a tensor.
        """
        bert = self.model.bert
        ids, types, places = (field.repeat_interleave(copies, axis=0) for field in self.tags)
        features = self.features.repeat_interleave(copies, axis=0)
        rows = ids.shape[0]
        start = paddle.to_tensor([[SPECIALS.cls, SPECIALS.mask]] * rows)
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
            logits = self.model.word_logits(hidden[:, 1])
            words = choose(logits, step)
            logs.append(-F.cross_entropy(logits, words, reduction="none").reshape([-1]))  # log_softmax is slow on CPUs
            if step + 2 < longest:
                hidden = self._next(words, step + 1, history)
        return paddle.stack(logs).sum(axis=0)

    def _next(self, words, place, history):
        """Last states of the words [R] at a place and the [MASK] behind them; the history gets the words'."""
        rows = words.shape[0]
        pair = paddle.stack([words, paddle.full([rows], SPECIALS.mask, "int64")], axis=1)
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
