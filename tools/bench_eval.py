#!/usr/bin/env python
"""Measure how fast pairs are scored on this machine: the published way, and every backend here. Prints JSON.

Made-up data with VinVL's lengths (regions: mean 37, 10 to 90, cut at 70; text with tags about 65 of 70) and a model
of BERT-base size with random weights. Every variant runs in a process of its own, and they take turns, so that
another program on the machine slows all of them alike."""

import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import available_cores
from oscar_paddle.tools.bench.worker import AS_PADDLE_COMES, OURS, Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_eval.py
python tools/bench_eval.py --seconds 60 --variants published,inference-float32,inference-bfloat16"""

PUBLISHED, ONE_THREAD = "published", "published-1-thread"
VARIANTS = (PUBLISHED, ONE_THREAD, "eager-float32", "inference-float32", "inference-bfloat16")
ROUNDS = 4


def add_arguments(parser):
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure each variant (default 20)")
    parser.add_argument("--variants", default=",".join(VARIANTS), metavar="A,B", help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--batch_tokens", type=int, default=4096, help="EVAL.BATCH_TOKENS (default 4096)")
    parser.add_argument("--hidden", type=int, default=768, help="width of the model (default 768: BERT-base)")
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default 12)")
    parser.add_argument("--work_dir", default="", metavar="DIR", help="keep the data here (default: nowhere)")


def main(args):
    names = args.variants.split(",")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise UserError(f"--variants: {unknown[0]!r} is unknown; expected some of {', '.join(VARIANTS)}")
    args.threads = args.threads or available_cores()
    threads = {name: 1 if name == ONE_THREAD else args.threads for name in names}
    with ExitStack() as stack:
        args.work_dir = args.work_dir or stack.enter_context(tempfile.TemporaryDirectory())
        workers = {}
        for name in names:  # one after the other: the first one writes the data
            say(f"starting {name}")
            machine = AS_PADDLE_COMES if name.startswith(PUBLISHED) else OURS
            worker = Worker("scoring.Scoring", name, args, threads=threads[name], machine=machine)
            workers[name] = stack.enter_context(worker)
        for turn in range(ROUNDS):
            for name, worker in workers.items():
                say(f"round {turn + 1} of {ROUNDS}: {name}")
                worker.ask("run", args.seconds / ROUNDS)
        results = {name: {"threads": threads[name], **worker.ask("report")} for name, worker in workers.items()}
    print(json.dumps(summary(results, args), indent=1))


def summary(results, args):
    """What the variants found, with ratios and the largest difference of margins to the published way, for JSON."""
    rates = {kind: max(found[f"{kind}_gflops"] for found in results.values()) for kind in ("numpy", "paddle")}
    report = {
        "threads": args.threads,
        "model": {"hidden": args.hidden, "layers": args.layers},
        "batch_tokens": args.batch_tokens,
        "load_average": os.getloadavg()[0],
        "matrix_product_gflops": rates,
        "variants": {},
    }
    for name, found in results.items():
        shown = ("threads", "pairs_per_s", "pairs", "padding", "peak_memory_gib", "useful_gflops")
        entry = {key: found[key] for key in shown}
        # Each variant measures the matrix product in its own turns, so that the share compares like with like.
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


def say(what):
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
