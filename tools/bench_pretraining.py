#!/usr/bin/env python
"""Pre-training speed: the published way against ours, on BERT-base with random weights. Prints JSON.

Rows have 33 text positions and 37 regions. Two processes with the same weights and the same maths path take turns, one
update each at a time; the fastest of each counts, so that other work on the machine disturbs least, and CPU seconds of
all threads are told besides:
  published  every row padded to 35 text positions and 50 regions, every position computed in every layer, the scores of
             all words at all 85, Paddle's own layers, AdamW and clipping
  ours       the task's batch and losses, and the update of solvers/trainer.py
Both read the same corpus from its files and take 64 rows an update, in micro-batches. Afterwards ours trains for some
updates in a row, with data prepared ahead as in a run, and the time that each update waits for its data is told."""

import json
import sys
import tempfile
from contextlib import ExitStack

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.machine import available_cores, cpu_vendor
from oscar_paddle.tools.bench.worker import OUR_MATH_PATH, OURS, Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_pretraining.py
python tools/bench_pretraining.py --layers 2 --width 128 --rows 8 --parts 2 --rounds 1"""

MODES = {"published": ("pretraining.Published", OUR_MATH_PATH), "ours": ("pretraining.Ours", OURS)}
PASSES = 6  # updates' worth of rows that the corpus has


def add_arguments(parser):
    parser.add_argument("--rows", type=int, default=64, help="rows an update (default %(default)s)")
    parser.add_argument("--parts", type=int, default=2, help="micro-batches an update (default %(default)s)")
    measured = "measured updates of each, after one to warm up (default %(default)s)"
    parser.add_argument("--rounds", type=int, default=2, help=measured)
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default %(default)s, BERT-base)")
    parser.add_argument("--width", type=int, default=768, help="its width, a multiple of 64 (default %(default)s)")


def main(args):
    if args.parts < 1 or args.rows % args.parts:
        raise ConfigError(f"--parts {args.parts}: {args.rows} rows cannot be divided into so many micro-batches")
    with ExitStack() as stack:
        args.work_dir = stack.enter_context(tempfile.TemporaryDirectory())
        writer = stack.enter_context(Worker("pretraining.Corpus", "corpus", args))
        writer.ask("write", PASSES * args.rows)
        workers = {
            mode: stack.enter_context(Worker(work, mode, args, machine=machine))
            for mode, (work, machine) in MODES.items()
        }
        losses = {mode: worker.ask("loss") for mode, worker in workers.items()}
        seconds = {mode: [] for mode in MODES}
        for number in range(args.rounds + 1):
            for mode, worker in workers.items():
                taken = worker.ask("step")
                words = f"{taken[0]:.2f} s, {taken[1]:.2f} s of the CPU"
                print(f"round {number} of {args.rounds}, {mode}: {words}", file=sys.stderr, flush=True)
                if number > 0:  # the first one prepares what the others use
                    seconds[mode].append(taken)
        machine = {mode: worker.machine for mode, worker in workers.items()}
        waiting = workers["ours"].ask("waiting", args.rounds + 1)
    step, of_cpu = ({mode: min(t[k] for t in times) for mode, times in seconds.items()} for k in range(2))
    result = {
        "processor": cpu_vendor(),
        "cores": available_cores(),
        "settings": machine,
        "model": {"layers": args.layers, "width": args.width},
        "rows_per_update": args.rows,
        "micro_batches": args.parts,
        "rounds": args.rounds,
        "seconds_per_update": step,
        "rows_per_second": {mode: args.rows / taken for mode, taken in step.items()},
        "ratio": step["published"] / step["ours"],
        "cpu_seconds_per_update": of_cpu,
        "ratio_of_cpu_seconds": of_cpu["published"] / of_cpu["ours"],
        "loss": losses["ours"],
        "loss_difference": abs(losses["published"] - losses["ours"]),
        "updates_in_a_row": [{"seconds": taken, "waited_for_data": waited} for taken, waited in waiting],
        "share_of_time_waiting_after_the_first": sum(w for _, w in waiting[1:]) / sum(t for t, _ in waiting[1:]),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
