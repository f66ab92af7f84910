"""One variant of tools/bench_eval.py: scores pairs for as long as it is told, and counts what it did."""

import json
import random
import resource
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F

from oscar_paddle.models.config import BertConfig
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring.exported import build_backend
from oscar_paddle.solvers.scoring.pairs import Block, PairScorer, image_groups
from oscar_paddle.tools.bench.made_up import made_up_data

IMAGES, CAPTIONS = 48, 2400
COMPARED = Block(range(4), range(8))
PUBLISHED_ROWS = 64  # of a batch of the published way: --per_gpu_eval_batch_size of its commands
PUBLISHED_TEXT, PUBLISHED_REGIONS = 70, 70


def serve(args):
    """Answer requests [what, seconds] on standard input with lines `bench:JSON` until it closes."""
    paddle.set_device("cpu")
    paddle.seed(0)
    config = BertConfig(
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=max(1, args.hidden // 64),
        intermediate_size=4 * args.hidden,
    )
    model = OscarForClassification(config)
    model.eval()
    paddle.nn.initializer.Normal(std=0.2)(model.classifier.weight)  # margins of a few units, as after training
    Path(args.work_dir).mkdir(parents=True, exist_ok=True)
    published = args.worker.startswith("published")
    data = made_up_data(args.work_dir, IMAGES, CAPTIONS, cache_bytes=0 if published else 256 << 20)
    if published:
        scorer = PublishedWay(model, data)
    else:
        backend, precision = args.worker.split("-")
        chosen = build_backend(model, backend, precision, "random weights", args.work_dir, Ranks())
        scorer = OurWay(PairScorer(chosen, data, args.batch_tokens), random.Random(0))
    counts = Counts(config, None if published else average_operations(config, data))
    margins = scorer.compared()
    _answer("ready")
    for line in sys.stdin:
        what, seconds = json.loads(line)
        if what == "run":
            counts.run(scorer, seconds)
            _answer("done")
        else:
            _answer({"threads": args.threads, "margins": margins.ravel().tolist(), **counts.report()})


def _answer(value):
    print("bench:" + json.dumps(value), flush=True)


class Counts:
    """Time, pairs, positions and arithmetic of one variant.

    Args:
        config: BertConfig.
        average: operations that the average pair of the data needs. Our time goes with the length of a pair, and a
            short run meets few images, so pairs/s are those of average pairs; None where all pairs take the same time.
    """

    def __init__(self, config, average):
        self.config, self.average = config, average
        self.pairs = self.seconds = self.real = self.padded = self.operations = 0
        self.numpy_rates, self.paddle_rates = [], []

    def run(self, scorer, seconds):
        numpy_rate, paddle_rate = matrix_product_rates()
        self.numpy_rates.append(numpy_rate)
        self.paddle_rates.append(paddle_rate)
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            started = time.perf_counter()
            lengths, padded = scorer.step()
            self.seconds += time.perf_counter() - started
            self.pairs += len(lengths)
            self.real += int(lengths.sum())
            self.padded += padded
            self.operations += useful_operations(self.config, lengths)

    def report(self):
        pairs = self.pairs if self.average is None else self.operations / self.average
        return {
            "pairs": self.pairs,
            "pairs_per_s": pairs / self.seconds,
            "padding": 1 - self.real / self.padded,
            "useful_gflops": self.operations / self.seconds / 1e9,
            "numpy_gflops": max(self.numpy_rates),
            "numpy_gflops_median": float(np.median(self.numpy_rates)),
            "paddle_gflops": max(self.paddle_rates),
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def useful_operations(config, lengths):
    """Multiplications and additions that pairs of these lengths need: no padding, position 0 only where that is enough.

    Args:
        lengths: [pairs] int, real positions.
    """
    width, inner, n = config.hidden_size, config.intermediate_size, lengths.astype(np.float64)
    layer = n * (8 * width**2 + 4 * width * inner) + 4 * n**2 * width
    last = n * 4 * width**2 + 4 * width**2 + 4 * width * inner + 4 * n * width
    return float(((config.num_hidden_layers - 1) * layer + last + 2 * width**2).sum())


def average_operations(config, data):
    """`useful_operations` of the average pair of a data set."""
    captions, total = np.arange(CAPTIONS), 0.0
    for image, image_id in enumerate(data.image_ids):
        lengths = data.text_lengths(np.full(CAPTIONS, image), captions) + len(data.regions[image_id])
        total += useful_operations(config, lengths)
    return total / (len(data.image_ids) * CAPTIONS)


def matrix_product_rates(rows=4096, width=768, inner=3072):
    """Float32 GFLOP/s of NumPy's and of Paddle's matrix product, the best of three each."""
    rng = np.random.RandomState(0)
    left, right = rng.rand(rows, width).astype(np.float32), rng.rand(width, inner).astype(np.float32)
    tensors = paddle.to_tensor(left), paddle.to_tensor(right)
    rates = []
    for multiply in (lambda: left @ right, lambda: paddle.matmul(*tensors)):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            multiply()
            times.append(time.perf_counter() - started)
        rates.append(2 * rows * width * inner / min(times) / 1e9)
    return rates


class OurWay:
    """Batches of the scorer, each from a block drawn anew, as the run ends after a time."""

    def __init__(self, scorer, rng):
        self.scorer, self.rng = scorer, rng
        blocks = [block for group in image_groups(1000, 5000)[:IMAGES] for block in group]  # as in COCO 1K
        self.blocks = [block for block in blocks if block.captions.stop <= CAPTIONS]

    def compared(self):
        return self.scorer.score(COMPARED)

    def step(self):
        """Score one batch; (lengths [B], positions with padding)."""
        pairs = self.scorer.pairs(self.rng.choice(self.blocks))
        _, batch, regions = self.rng.choice(list(self.scorer.batches(*pairs)))
        self.scorer.backend.margins(batch, regions)
        return (batch.bias[:, 0, 0] == 0).sum(axis=1), batch.order.size


class PublishedWay:
    """Every pair a row of 70 text and 70 region positions, its regions decoded for it, all layers for all positions.

    The same weights through plain Paddle functions, as the published ports write them.
    """

    def __init__(self, model, data):
        self.model, self.data, self.rng = model, data, np.random.RandomState(0)

    def compared(self):
        images = np.repeat(np.asarray(COMPARED.images), len(COMPARED.captions))
        captions = np.tile(np.asarray(COMPARED.captions), len(COMPARED.images))
        margins = [
            self.margins(images[start : start + PUBLISHED_ROWS], captions[start : start + PUBLISHED_ROWS])[0]
            for start in range(0, len(images), PUBLISHED_ROWS)
        ]
        return np.concatenate(margins)

    def step(self):
        images = self.rng.randint(IMAGES, size=PUBLISHED_ROWS)
        lengths = self.margins(images, self.rng.randint(CAPTIONS, size=PUBLISHED_ROWS))[1]
        return lengths, PUBLISHED_ROWS * (PUBLISHED_TEXT + PUBLISHED_REGIONS)

    def margins(self, images, captions):
        """[B] margins and [B] real positions of the pairs."""
        rows = [self._row(image, caption) for image, caption in zip(images, captions, strict=True)]
        ids, types, mask, features = (np.stack(field) for field in zip(*rows, strict=True))
        with paddle.no_grad():
            margins = match_margin(self._logits(*map(paddle.to_tensor, (ids, types, mask, features)))).numpy()
        return margins, mask.sum(axis=1).astype(np.int64)

    def _row(self, image, caption):
        """input_ids [70], token_type_ids [70], mask [140], features [70, 2054] of one pair, all padded."""
        one = np.array([image]), np.array([caption])
        ids, types, _, text_length = self.data.text_rows(*one)
        regions = self.data.regions[self.data.image_ids[image]]  # nothing is kept: read and decoded again
        features = np.zeros((PUBLISHED_REGIONS, regions.shape[1]), np.float32)
        features[: len(regions)] = regions
        text = np.arange(PUBLISHED_TEXT) < text_length[0]
        region = np.arange(PUBLISHED_REGIONS) < len(regions)
        return ids[0], types[0], np.concatenate([text, region]).astype(np.float32), features

    def _logits(self, ids, types, mask, features):
        bert, bias = self.model.bert, ((1.0 - mask) * -10000.0).unsqueeze([1, 2])
        positions = paddle.arange(ids.shape[1]).unsqueeze(0).expand(ids.shape)
        hidden = paddle.concat([bert.embeddings(ids, types, positions), bert.embed_regions(features)], axis=1)
        for layer in bert.encoder.layer:
            hidden = self._layer(layer, hidden, bias)
        return self.model.classifier(F.tanh(bert.pooler.dense(hidden[:, 0])))

    @staticmethod
    def _layer(layer, hidden, bias):
        attention = layer.attention.self
        shape = [hidden.shape[0], hidden.shape[1], attention.num_heads, attention.head_width]
        queries, keys, values = (
            linear(hidden).reshape(shape).transpose([0, 2, 1, 3])
            for linear in (attention.query, attention.key, attention.value)
        )
        scores = paddle.matmul(queries, keys.transpose([0, 1, 3, 2])) / attention.head_width**0.5
        context = paddle.matmul(F.softmax(scores + bias, axis=-1), values)
        context = context.transpose([0, 2, 1, 3]).reshape(hidden.shape)
        output = layer.attention.output
        attended = output.LayerNorm(output.dense(context) + hidden)
        inner = F.gelu(layer.intermediate.dense(attended))
        return layer.output.LayerNorm(layer.output.dense(inner) + attended)
