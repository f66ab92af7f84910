#!/usr/bin/env python
"""Training speed: the published way against ours, on BERT-base with random weights and VinVL's lengths. Prints JSON.

Three processes with the same weights take turns, one training step each at a time; the fastest step of each counts, so
that other work on the machine disturbs least:
  published_default  every row padded to 70 text positions and 70 regions, every position computed in every layer, each
                     pair's regions embedded anew, Paddle's own AdamW and clipping, Paddle's default maths path, all
                     cores
  published          the same on the maths path that we choose (on Intel processors the two are one)
  ours               the update of solvers/trainer.py
A step has as many negatives as positives. The default of 8 positives keeps the whole to a few minutes on two cores;
the ratios hardly change with the batch."""

import json
import os
import subprocess
import sys
import time

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import available_cores, cpu_vendor, prepare
from oscar_paddle.tools.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_train.py
python tools/bench_train.py --positives 32 --rounds 5
python tools/bench_train.py --layers 2 --width 128 --positives 4 --rounds 1"""

MODES = ("published_default", "published", "ours")
TEXT, REGIONS, FEATURES = 70, 70, 2054


def add_arguments(parser):
    parser.add_argument("--positives", type=int, default=8, help="positive pairs a step (default 8; published 128)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="measured steps of each, after one to warm up (default 3)"
    )
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default 12, BERT-base)")
    parser.add_argument("--width", type=int, default=768, help="width of the model, a multiple of 64 (default 768)")
    parser.add_argument("--worker", default="", choices=("", *MODES), help="(internal) be one of the processes")


def main(args):
    if args.worker:
        return worker(args)
    workers = {mode: Worker(mode, args) for mode in MODES}
    try:
        losses = {mode: w.ask("loss") for mode, w in workers.items()}
        seconds = {mode: [] for mode in MODES}
        for number in range(args.rounds + 1):
            for mode, w in workers.items():
                taken = w.ask("step")
                print(f"round {number} of {args.rounds}, {mode}: {taken:.2f} s", file=sys.stderr, flush=True)
                if number > 0:  # the first one prepares what the others use
                    seconds[mode].append(taken)
        share = workers["ours"].ask("matmul_share")
        machine = {mode: w.machine for mode, w in workers.items()}
    finally:
        for w in workers.values():
            w.process.kill()
    step = {mode: min(times) for mode, times in seconds.items()}
    result = {
        "processor": cpu_vendor(),
        "cores": available_cores(),
        "settings": machine,
        "model": {"layers": args.layers, "width": args.width},
        "pairs_per_step": 2 * args.positives,
        "rounds": args.rounds,
        "seconds_per_step": step,
        "pairs_per_second": {mode: 2 * args.positives / taken for mode, taken in step.items()},
        "ratio_same_maths_path": step["published"] / step["ours"],
        "ratio_default": step["published_default"] / step["ours"],
        "loss": losses["ours"],
        "loss_difference": max(abs(losses[mode] - losses["ours"]) for mode in MODES),
        "share_of_time_in_matrix_products": share,
    }
    print(json.dumps(result, indent=2))


class Worker:
    """One of the processes, seen from the parent."""

    def __init__(self, mode, args):
        self.mode = mode
        command = [sys.executable, __file__, "--worker", mode]
        for name in ("positives", "layers", "width"):
            command += [f"--{name}", str(getattr(args, name))]
        environment = dict(os.environ)
        if mode == "published_default":
            environment.pop("MKL_DEBUG_CPU_TYPE", None)
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.machine = self.answer()

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("bench:"):
                return json.loads(line.removeprefix("bench:"))
        raise UserError(f"the process {self.mode} stopped with exit code {self.process.wait()}")


# ---- inside a worker


def worker(args):
    if args.worker == "ours":
        machine = prepare()
    else:  # threads, and for `published` the maths path; nothing else of what prepare() does
        machine = f"{available_cores()} CPU threads, default maths path"
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(available_cores())
        if args.worker == "published" and cpu_vendor() == "AuthenticAMD":
            os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
            machine = f"{available_cores()} CPU threads, MKL_DEBUG_CPU_TYPE={os.environ['MKL_DEBUG_CPU_TYPE']}"
    import paddle

    paddle.set_device("cpu")
    if args.worker == "ours":
        from oscar_paddle.solvers.runtime import set_up_cpu_kernels

        set_up_cpu_kernels()
    say(machine)
    bench = (Ours if args.worker == "ours" else Published)(args)
    for line in sys.stdin:
        say(getattr(bench, line.strip())())


def say(value):
    print("bench:" + json.dumps(value), flush=True)


def rows_of_a_step(positives):
    """Padded arrays of a step: each positive, then a negative for each, half with another image.

    Returns:
        ids, types [B, 70]; text_length, num_regions, image [B] int64; features: one [n, 2054] array for each image.
    """
    import numpy as np

    random = np.random.default_rng(0)
    other = np.arange(positives) + positives
    image = np.concatenate([np.arange(positives), np.where(np.arange(positives) % 2, np.arange(positives), other)])
    counts = np.clip(np.round(random.gamma(4.0, 37 / 4, 2 * positives)), 10, 90).astype(np.int64).clip(max=REGIONS)
    features = [random.standard_normal((count, FEATURES)).astype(np.float32) for count in counts]
    text_length = np.clip(np.round(random.normal(65, 4, 2 * positives)), 20, TEXT).astype(np.int64)
    ids = random.integers(1000, 30000, (2 * positives, TEXT))
    types = (np.arange(TEXT) >= 13).astype(np.int64) * np.ones_like(ids)
    return ids, types, text_length, counts[image], image, features


class Bench:
    """A model, its optimizer, and the step to be timed."""

    def __init__(self, args):
        import numpy as np
        import paddle

        from oscar_paddle.models.config import BertConfig
        from oscar_paddle.models.oscar import OscarForClassification

        paddle.seed(1)
        self.model = OscarForClassification(
            BertConfig(
                hidden_size=args.width,
                num_attention_heads=args.width // 64,
                intermediate_size=4 * args.width,
                num_hidden_layers=args.layers,
                use_img_layernorm=1,
            )
        )
        self.rows = rows_of_a_step(args.positives)
        self.labels = np.repeat([1, 0], args.positives)

    def loss(self):
        """Loss of the rows without dropout."""
        import paddle

        self.model.eval()
        with paddle.no_grad():
            return float(self.row_losses().mean())

    def step(self):
        """Seconds of one training step, from NumPy arrays to new weights."""
        self.model.train()
        started = time.perf_counter()
        self.update()
        return time.perf_counter() - started

    def row_losses(self):
        import paddle

        from oscar_paddle.models.losses import classification_losses

        return classification_losses(self.logits(), paddle.to_tensor(self.labels), "sfmx")

    def matmul_share(self):
        """Part of a step's time that is spent in matrix products, forward and backward, by Paddle's profiler."""
        from paddle import profiler

        with profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda _: None) as recorder:
            seconds = self.step()
        roots = recorder.profiler_result.get_data().values()
        return sum(matmul_seconds(root) for root in roots) / seconds


def matmul_seconds(node):
    if "matmul" in node.name.lower():
        return (node.end_ns - node.start_ns) / 1e9
    return sum(matmul_seconds(child) for child in node.children_node)


class Ours(Bench):
    def __init__(self, args):
        super().__init__(args)
        import numpy as np

        from oscar_paddle.models.packing import pack_rows
        from oscar_paddle.solvers.optimizer import ReferenceAdamW, clip_gradients, global_norm

        self.np, self.pack_rows, self.clip_gradients, self.global_norm = np, pack_rows, clip_gradients, global_norm
        self.optimizer = ReferenceAdamW(list(self.model.named_parameters()), weight_decay=0.05, epsilon=1e-8)
        self.parameters = [p for p in self.model.parameters() if not p.stop_gradient]

    def logits(self):
        ids, types, text_length, num_regions, image, features = self.rows
        shown = self.np.unique(image)  # each image's regions once
        counts = self.np.array([len(features[i]) for i in shown])
        start = (self.np.cumsum(counts) - counts)[self.np.searchsorted(shown, image)]
        regions = self.np.concatenate([features[i] for i in shown])
        return self.model(self.pack_rows(ids, types, text_length, num_regions, start, regions))

    def update(self):
        self.row_losses().mean().backward()
        self.clip_gradients(self.parameters, 1.0, float(self.global_norm(self.parameters)))
        self.optimizer.update(2e-5)
        self.optimizer.clear_grad(set_to_zero=False)


class Published(Bench):
    """The same weights, used as the published code does."""

    def __init__(self, args):
        super().__init__(args)
        import paddle

        from oscar_paddle.solvers.optimizer import decays

        named = dict(self.model.named_parameters())
        decayed = {parameter.name for name, parameter in named.items() if decays(name)}
        self.optimizer = paddle.optimizer.AdamW(
            2e-5,
            epsilon=1e-8,
            weight_decay=0.05,
            apply_decay_param_fun=lambda name: name in decayed,
            parameters=list(named.values()),
            grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
        )

    def logits(self):
        import numpy as np
        import paddle

        ids, types, text_length, num_regions, image, features = self.rows
        padded = np.zeros((len(ids), REGIONS, FEATURES), np.float32)
        for row, i in zip(padded, image, strict=True):
            row[: len(features[i])] = features[i]
        real_text = np.arange(TEXT) < text_length[:, None]
        mask = np.concatenate([real_text, np.arange(REGIONS) < num_regions[:, None]], axis=1)
        ids, types = paddle.to_tensor(ids * real_text), paddle.to_tensor(types * real_text)
        positions = paddle.arange(TEXT).expand_as(ids)
        bert = self.model.bert
        text = bert.embeddings(ids, types, positions)
        regions = bert.dropout(bert.LayerNorm(bert.img_embedding(paddle.to_tensor(padded))))
        hidden = paddle.concat([text, regions], axis=1)
        bias = paddle.to_tensor((1.0 - mask.astype(np.float32)) * -10000.0).reshape([len(padded), 1, 1, -1])
        for layer in bert.encoder.layer:
            hidden = self.layer(layer, hidden, bias)
        return self.model.classifier(self.model.dropout(bert.pooler(hidden[:, 0])))

    def layer(self, layer, hidden, bias):
        """[B, 140, H] -> [B, 140, H]."""
        import paddle
        import paddle.nn.functional as F

        own, output = layer.attention.self, layer.attention.output

        def heads(tensor):
            return tensor.reshape([0, 0, own.num_heads, own.head_width]).transpose([0, 2, 1, 3])

        query, key, value = heads(own.query(hidden)), heads(own.key(hidden)), heads(own.value(hidden))
        scores = paddle.matmul(query, key, transpose_y=True) / own.head_width**0.5 + bias
        context = paddle.matmul(own.dropout(F.softmax(scores, axis=-1)), value)
        context = context.transpose([0, 2, 1, 3]).reshape(hidden.shape)
        hidden = output.LayerNorm(output.dropout(output.dense(context)) + hidden)
        wide = F.gelu(layer.intermediate.dense(hidden))
        return layer.output.LayerNorm(layer.output.dropout(layer.output.dense(wide)) + hidden)

    def update(self):
        self.row_losses().mean().backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
