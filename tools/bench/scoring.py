"""One variant of tools/bench_eval.py: scores pairs for as long as it is told, and counts what it did."""

import random
import time
import timeit
from pathlib import Path

import numpy as np
import paddle

from oscar_paddle.models.losses import match_margin
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring.backends import build_backend
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import Block, block_groups
from oscar_paddle.tools.bench.made_up import made_up_data, made_up_model
from oscar_paddle.tools.bench.published import REGIONS, TEXT, PublishedWay
from oscar_paddle.tools.bench.worker import peak_memory_gib

IMAGES, CAPTIONS = 48, 2400
COMPARED = Block(range(4), range(8))
PUBLISHED_ROWS = 64  # of a batch of the published way: --per_gpu_eval_batch_size of its commands


class Scoring:
    """A way of scoring ("published...", or backend and precision), with its time, pairs, positions and arithmetic."""

    def __init__(self, name, args):
        paddle.set_device("cpu")
        paddle.seed(0)
        model = made_up_model(args.hidden, args.layers)
        model.eval()
        paddle.nn.initializer.Normal(std=0.2)(model.classifier.weight)  # margins of a few units, as after training
        Path(args.work_dir).mkdir(parents=True, exist_ok=True)
        published = name.startswith("published")
        data = made_up_data(args.work_dir, IMAGES, CAPTIONS, cache_bytes=0 if published else 256 << 20)
        self.config = model.config
        # Our time goes with the length of a pair, and a short run meets few images, so pairs/s are those of average
        # pairs; the published way takes the same time for each.
        self.average = None if published else average_operations(model.config, data)
        if published:
            self.way = PublishedScorer(model, data)
        else:
            backend, precision = name.split("-")
            chosen = build_backend(model, backend, precision, "random weights", args.work_dir, Ranks())
            self.way = OurScorer(PairScorer(chosen, data, args.batch_tokens), random.Random(0))
        self.margins = self.way.compared().ravel().tolist()
        self.rates, self.steps = [], []

    def run(self, seconds):
        """Score for so long."""
        self.rates.append(matrix_product_rates())
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            started = time.perf_counter()
            done = self.way.step()
            self.steps.append((time.perf_counter() - started, *done))

    def report(self):
        """What all runs together came to, and the margins of the COMPARED pairs."""
        seconds, lengths, padded = zip(*self.steps, strict=True)
        seconds, lengths = sum(seconds), np.concatenate(lengths)
        operations = float(useful_operations(self.config, lengths).sum())
        numpy_rates, paddle_rates = zip(*self.rates, strict=True)
        return {
            "margins": self.margins,
            "pairs": len(lengths),
            "pairs_per_s": (operations / self.average if self.average else len(lengths)) / seconds,
            "padding": float(1 - lengths.sum() / sum(padded)),
            "useful_gflops": operations / seconds / 1e9,
            "numpy_gflops": max(numpy_rates),
            "numpy_gflops_median": float(np.median(numpy_rates)),
            "paddle_gflops": max(paddle_rates),
            "peak_memory_gib": peak_memory_gib(),
        }


def useful_operations(config, lengths):
    """Multiplications and additions that pairs need: no padding, position 0 only where that is enough.

    lengths: [pairs] int, real positions; returns [pairs] float64.
    """
    width, inner, n = config.hidden_size, config.intermediate_size, lengths.astype(np.float64)
    layer = n * (8 * width**2 + 4 * width * inner) + 4 * n**2 * width
    last = n * 4 * width**2 + 4 * width**2 + 4 * width * inner + 4 * n * width
    return (config.num_hidden_layers - 1) * layer + last + 2 * width**2


def average_operations(config, data):
    """`useful_operations` of the average pair of a data set."""
    images, captions = np.divmod(np.arange(IMAGES * CAPTIONS), CAPTIONS)
    num_regions = np.array([len(data.regions[image_id]) for image_id in data.image_ids])
    return float(useful_operations(config, data.text_rows(images, captions).text_length + num_regions[images]).mean())


def matrix_product_rates(rows=4096, width=768, inner=3072):
    """Float32 GFLOP/s of NumPy's and of Paddle's matrix product, the best of three each."""
    rng = np.random.RandomState(0)
    left, right = rng.rand(rows, width).astype(np.float32), rng.rand(width, inner).astype(np.float32)
    tensors = paddle.to_tensor(left), paddle.to_tensor(right)
    ways = (lambda: left @ right), (lambda: paddle.matmul(*tensors))
    return [2 * rows * width * inner / min(timeit.repeat(way, number=1, repeat=3)) / 1e9 for way in ways]


class OurScorer:
    """Batches of the scorer, each from a block drawn anew, as the run ends after a time."""

    def __init__(self, scorer, rng):
        self.scorer, self.rng = scorer, rng
        blocks = [block for group in block_groups(1000, 5000)[:IMAGES] for block in group]  # as in COCO 1K
        self.blocks = [block for block in blocks if block.columns.stop <= CAPTIONS]

    def compared(self):
        return self.scorer.score(COMPARED)

    def step(self):
        """Score one batch; (lengths [B], positions with padding)."""
        _, batch, regions = self.rng.choice(list(self.scorer.block_batches(self.rng.choice(self.blocks))))
        self.scorer.run(batch, regions)
        return (batch.bias[:, 0, 0] == 0).sum(axis=1), batch.order.size


class PublishedScorer:
    """Batches of pairs drawn at random, whose regions are read and decoded again for every pair."""

    def __init__(self, model, data):
        self.way, self.rng = PublishedWay(model, data), np.random.RandomState(0)

    def compared(self):
        images, captions = np.meshgrid(COMPARED.rows, COMPARED.columns, indexing="ij")
        return self.score(images.ravel(), captions.ravel())[0]

    def step(self):
        """As `OurScorer.step`."""
        images = self.rng.randint(IMAGES, size=PUBLISHED_ROWS)
        lengths = self.score(images, self.rng.randint(CAPTIONS, size=PUBLISHED_ROWS))[1]
        return lengths, PUBLISHED_ROWS * (TEXT + REGIONS)

    @paddle.no_grad()
    def score(self, images, captions):
        """[B] margins and [B] real positions of the pairs."""
        logits, lengths = self.way.logits(images, captions)
        return match_margin(logits).numpy(), lengths
