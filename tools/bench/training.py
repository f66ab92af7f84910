"""One way of tools/bench_train.py: takes training steps on the same pairs, over and over."""

import time

import numpy as np
import paddle
from paddle import profiler

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.models.losses import classification_losses
from oscar_paddle.solvers.runtime import set_up_cpu_kernels
from oscar_paddle.solvers.tasks.retrieval import RetrievalTask
from oscar_paddle.tools.bench.made_up import made_up_data, made_up_model
from oscar_paddle.tools.bench.ours import trainer_alone
from oscar_paddle.tools.bench.published import PublishedWay, paddles_adamw

IMAGES_PER_POSITIVE = 8  # few negatives then share an image with another pair, as in a large data set
STEPS = 10**6  # of the run that a measured step belongs to: its learning rate hardly changes


class Training:
    """What both ways have: the task, the model, and the step to be timed."""

    def __init__(self, name, args):
        paddle.set_device("cpu")
        paddle.seed(1)
        images = IMAGES_PER_POSITIVE * args.positives
        self.data = made_up_data(args.work_dir, images, images, cache_bytes=1 << 40)  # all stay decoded
        self.model = made_up_model(args.width, args.layers, use_img_layernorm=1)
        self.cfg = get_cfg_defaults()
        self.cfg.OPTIMIZATION.BATCH_SIZE, self.cfg.OPTIMIZATION.MAX_STEPS = args.positives, STEPS
        self.task = RetrievalTask(self.cfg, train=self.data)
        self.examples = np.arange(args.positives)

    def loss(self):
        """Loss of the rows without dropout."""
        self.model.eval()
        with paddle.no_grad():
            return float(self.mean_loss())

    def step(self):
        """Seconds of one training step, from the arrays of the data set to new weights."""
        self.model.train()
        started = time.perf_counter()
        self.update()
        return time.perf_counter() - started

    def matmul_share(self):
        """Part of a step's time that is spent in matrix products, forward and backward, by Paddle's profiler."""
        with profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda _: None) as recorder:
            seconds = self.step()
        roots = recorder.profiler_result.get_data().values()
        return sum(matmul_seconds(root) for root in roots) / seconds


def matmul_seconds(node):
    if "matmul" in node.name.lower():
        return (node.end_ns - node.start_ns) / 1e9
    return sum(matmul_seconds(child) for child in node.children_node)


class Ours(Training):
    """Steps as the trainer does."""

    def __init__(self, name, args):
        set_up_cpu_kernels()
        super().__init__(name, args)
        self.trainer = trainer_alone(self.model, self.task, self.cfg)

    def mean_loss(self):
        batch = self.task.batch(self.examples, 0)
        sums, counts = self.task.losses(self.model, batch), self.task.counts(batch)
        return sum(sums[name] / counts[name] for name in sums)

    def update(self):
        self.trainer.update(self.examples, [self.task.batch(self.examples, 0)])


class Published(Training):
    """Padded rows, Paddle's own AdamW and clipping."""

    def __init__(self, name, args):
        super().__init__(name, args)
        self.way = PublishedWay(self.model, self.data)
        self.optimizer = paddles_adamw(self.model, self.cfg.OPTIMIZATION, self.task.recipe.groups)

    def mean_loss(self):
        images, captions, labels = self.data.training_pairs(self.examples, self.cfg.MISC.SEED, 0)
        logits = self.way.logits(images, captions)[0]
        return classification_losses(logits, paddle.to_tensor(labels), self.cfg.OPTIMIZATION.LOSS_TYPE).mean()

    def update(self):
        self.mean_loss().backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)
