#!/usr/bin/env python
"""Training speed: the published way against ours, on BERT-base with random weights and VinVL's lengths. Prints JSON.

Three processes with the same weights take turns, one training step each at a time; the fastest step of each counts, so
that other work on the machine disturbs least:
  published_default  every row padded to 70 text positions and 70 regions, every position computed in every layer, each
                     pair's regions embedded anew, Paddle's own AdamW and clipping, Paddle's default maths path, all
                     cores
  published          the same on the maths path that we choose (on Intel processors the two are one)
  ours               the retrieval task's batch and loss, and the update of solvers/trainer.py
A step has as many negatives as positives. The default of 8 positives keeps the whole to a few minutes on two cores;
the ratios hardly change with the batch."""

import json
import sys
import tempfile
from contextlib import ExitStack

from oscar_paddle.solvers.machine import available_cores, cpu_vendor
from oscar_paddle.tools.bench.worker import AS_PADDLE_COMES, OUR_MATH_PATH, OURS, Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_train.py
python tools/bench_train.py --positives 32 --rounds 5
python tools/bench_train.py --layers 2 --width 128 --positives 4 --rounds 1"""

MODES = {
    "published_default": ("training.Published", AS_PADDLE_COMES),
    "published": ("training.Published", OUR_MATH_PATH),
    "ours": ("training.Ours", OURS),
}


def add_arguments(parser):
    parser.add_argument("--positives", type=int, default=8, help="positive pairs a step (default 8; published 128)")
    measured = "measured steps of each, after one to warm up (default 3)"
    parser.add_argument("--rounds", type=int, default=3, help=measured)
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default 12, BERT-base)")
    parser.add_argument("--width", type=int, default=768, help="width of the model, a multiple of 64 (default 768)")


def main(args):
    with ExitStack() as stack:
        args.work_dir = stack.enter_context(tempfile.TemporaryDirectory())
        workers = {
            mode: stack.enter_context(Worker(work, mode, args, machine=machine))
            for mode, (work, machine) in MODES.items()
        }
        losses = {mode: worker.ask("loss") for mode, worker in workers.items()}
        seconds = {mode: [] for mode in MODES}
        for number in range(args.rounds + 1):
            for mode, worker in workers.items():
                taken = worker.ask("step")
                print(f"round {number} of {args.rounds}, {mode}: {taken:.2f} s", file=sys.stderr, flush=True)
                if number > 0:  # the first one prepares what the others use
                    seconds[mode].append(taken)
        share = workers["ours"].ask("matmul_share")
        machine = {mode: worker.machine for mode, worker in workers.items()}
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


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
