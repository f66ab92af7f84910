#!/usr/bin/env python
"""Measure how fast pairs are scored on this machine: the published way, and every backend here. Prints JSON.

Made-up data with VinVL's lengths (regions: mean 37, 10 to 90, cut at 70; text with tags about 65 of 70) and a model
of BERT-base size with random weights. Every variant runs in a process of its own, and they take turns, so that
another program on the machine slows all of them alike."""

import json
import os
import subprocess
import sys
import tempfile
import time

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import available_cores, prepare
from oscar_paddle.tools.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_eval.py
python tools/bench_eval.py --seconds 60 --variants published,inference-float32,inference-bfloat16"""

PUBLISHED, ONE_THREAD = "published", "published-1-thread"
OURS = ("eager-float32", "inference-float32", "inference-bfloat16")
VARIANTS = (PUBLISHED, ONE_THREAD, *OURS)
ROUNDS = 4
MATH_PATH = "MKL_DEBUG_CPU_TYPE"


def add_arguments(parser):
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure each variant (default 20)")
    parser.add_argument("--variants", default=",".join(VARIANTS), metavar="A,B", help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--batch_tokens", type=int, default=4096, help="EVAL.BATCH_TOKENS (default 4096)")
    parser.add_argument("--hidden", type=int, default=768, help="width of the model (default 768: BERT-base)")
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default 12)")
    parser.add_argument("--work_dir", default="", metavar="DIR", help="keep the data here (default: nowhere)")
    parser.add_argument("--worker", default="", help="(internal) run one variant, told what to do on standard input")


def main(args):
    if args.worker:
        if args.worker not in (PUBLISHED, ONE_THREAD):  # those run as Paddle comes
            prepare(args.threads)
        from oscar_paddle.tools.bench.worker import serve

        return serve(args)
    unknown = [name for name in args.variants.split(",") if name not in VARIANTS]
    if unknown:
        raise UserError(f"--variants: {unknown[0]!r} is unknown; expected some of {', '.join(VARIANTS)}")
    args.threads = args.threads or available_cores()
    with tempfile.TemporaryDirectory() as temporary:
        args.work_dir = args.work_dir or temporary
        print(json.dumps(measure(args), indent=1))


def measure(args):
    """All variants in turns.

    Returns:
        dict for JSON: the machine, the matrix-product rate, and for every variant pairs/s, its ratio to the published
        way, the largest difference of margins to it, the share of padding and useful GFLOP/s.
    """
    workers = {}
    try:
        for name in args.variants.split(","):  # one after the other: the first one writes the data
            say(f"starting {name}")
            workers[name] = Worker(name, args)
        for turn in range(ROUNDS):
            for name, worker in workers.items():
                say(f"round {turn + 1} of {ROUNDS}: {name}")
                worker.ask("run", args.seconds / ROUNDS)
        results = {name: worker.ask("report", 0) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.stop()
    return summary(results, args)


def summary(results, args):
    """What the workers found, with ratios."""
    numpy_rate = max(found["numpy_gflops"] for found in results.values())
    report = {
        "threads": args.threads,
        "model": {"hidden": args.hidden, "layers": args.layers},
        "batch_tokens": args.batch_tokens,
        "load_average": os.getloadavg()[0],
        "matrix_product_gflops": {
            "numpy": numpy_rate,
            "paddle": max(found["paddle_gflops"] for found in results.values()),
        },
        "variants": {},
    }
    for name, found in results.items():
        entry = {key: found[key] for key in ("threads", "pairs_per_s", "pairs", "padding", "peak_memory_gib")}
        entry["useful_gflops"] = found["useful_gflops"]
        # Each worker measures the matrix product in its own turns, so that the share compares like with like.
        entry["useful_share_of_matrix_product"] = found["useful_gflops"] / found["numpy_gflops_median"]
        for key, base in (("ratio", PUBLISHED), ("ratio_to_1_thread", ONE_THREAD)):
            if base in results:
                entry[key] = found["pairs_per_s"] / results[base]["pairs_per_s"]
        base = results.get(PUBLISHED) or results.get(ONE_THREAD)
        if base:
            pairs = zip(found["margins"], base["margins"], strict=True)
            entry["largest_margin_difference"] = max(abs(mine - theirs) for mine, theirs in pairs)
        report["variants"][name] = entry
    return report


class Worker:
    """A process that runs one variant.

    Args:
        name: of VARIANTS. args: the tool's arguments.
    """

    def __init__(self, name, args):
        self.name = name
        threads = 1 if name == ONE_THREAD else args.threads
        environment = {key: value for key, value in os.environ.items() if key != MATH_PATH}
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment["OPENBLAS_NUM_THREADS"] = str(threads)
        command = [sys.executable, __file__, "--worker", name, "--threads", str(threads)]
        for key in ("batch_tokens", "hidden", "layers", "work_dir"):
            command += [f"--{key}", str(getattr(args, key))]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
        )
        self.answer()

    def ask(self, what, seconds):
        self.process.stdin.write(json.dumps([what, seconds]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        """The next line that is JSON with our mark; libraries print to standard output, too."""
        for line in self.process.stdout:
            if line.startswith("bench:"):
                return json.loads(line.removeprefix("bench:"))
        problem = (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{self.name} stopped: {problem}")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def say(what):
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
