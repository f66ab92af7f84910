#!/usr/bin/env python
"""Referring expressions: the published way against ours, at ViLBERT's size with random weights. Prints JSON.

Processes with the same weights take turns, one batch each at a time; the fastest turn of each counts, so that other
work on the machine disturbs least:
  published_default  every expression in 20 text and 100 region slots, its image's regions embedded anew, all layers and
                     heads computed, eager Paddle, Paddle's own AdamW, Paddle's default maths path, all cores
  published          the same on the maths path that we choose (on Intel processors the two are one)
  ours               no padding, an image embedded once for its six expressions, nothing computed that scores of regions
                     do not need; an exported program for scores, the trunk's optimizer for training
Scores are compared in the same run. Word pieces do not count [CLS] and [SEP], rows count the global region."""

import json
import math
import sys
import tempfile
from contextlib import ExitStack

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import available_cores, cpu_vendor
from oscar_paddle.tools.bench.worker import AS_PADDLE_COMES, OUR_MATH_PATH, OURS, Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_refer.py
python tools/bench_refer.py --expressions 48 --rounds 5 --no_training
python tools/bench_refer.py --width 96 --layers 1 --expressions 6 --rounds 1"""

MODES = {
    "published_default": ("refer.Published", AS_PADDLE_COMES),
    "published": ("refer.Published", OUR_MATH_PATH),
    "ours": ("refer.Ours", OURS),
}


def add_arguments(parser):
    of_six = "a batch or step, a multiple of 6 (default 24)"
    parser.add_argument("--expressions", type=int, default=24, help=f"expressions of {of_six}")
    parser.add_argument("--rounds", type=int, default=3, help="measured turns, after one to warm up (default 3)")
    parser.add_argument("--pieces", type=int, default=6, help="word pieces of an expression (default 6)")
    parser.add_argument("--rows", default="11,37", metavar="N,N", help="region rows of an image (default 11,37)")
    parser.add_argument("--layers", type=int, default=6, help="co-attention blocks; text has twice as many layers")
    wide = "width of text, a multiple of 96; regions are 4/3 of it (default 768)"
    parser.add_argument("--width", type=int, default=768, help=wide)
    parser.add_argument("--backend", default="inference", choices=("inference", "eager"), help="what scores for us")
    parser.add_argument("--no_training", action="store_true", help="measure scoring only")


def main(args):
    sizes = [(args.pieces, rows) for rows in _row_counts(args)]
    measured = [("scoring", *size) for size in sizes]
    measured += [] if args.no_training else [("training", *sizes[0])]
    with ExitStack() as stack:
        args.work_dir = stack.enter_context(tempfile.TemporaryDirectory())
        workers = {
            mode: stack.enter_context(Worker(work, mode, args, machine=machine))
            for mode, (work, machine) in MODES.items()
        }
        scores = {size: {mode: worker.ask("scores", *size) for mode, worker in workers.items()} for size in sizes}
        seconds = {what: dict.fromkeys(workers, math.inf) for what in measured}
        for number in range(args.rounds + 1):
            for what, best in seconds.items():
                for mode, worker in workers.items():
                    taken = worker.ask(*what)
                    text = f"round {number} of {args.rounds}, {' '.join(map(str, what))}, {mode}: {taken:.2f} s"
                    print(text, file=sys.stderr, flush=True)
                    if number > 0:  # the first one prepares what the others use
                        best[mode] = min(taken, best[mode])
        machine = {mode: worker.machine for mode, worker in workers.items()}
    print(json.dumps(summary(args, machine, scores, seconds), indent=2))


def _row_counts(args):
    try:
        rows = [int(number) for number in args.rows.split(",")]
    except ValueError:
        rows = []
    if not rows or not all(1 <= number <= 100 for number in rows):
        raise UserError(f"--rows: {args.rows!r}, expected numbers from 1 to 100 with commas between them")
    if args.expressions < 6 or args.expressions % 6:
        raise UserError(f"--expressions: {args.expressions}, expected a multiple of 6, the expressions of an image")
    if args.width < 96 or args.width % 96:
        raise UserError(f"--width: {args.width}, expected a multiple of 96")
    if not 1 <= args.pieces <= 18:
        raise UserError(f"--pieces: {args.pieces}, expected 1 to 18: the published way has 20 slots, with two special")
    return rows


def summary(args, machine, scores, seconds):
    """What was found, for JSON."""
    results = []
    for (what, pieces, rows), taken in seconds.items():
        found = {"what": what, "word_pieces": pieces, "region_rows": rows}
        found["expressions_per_second"] = {mode: args.expressions / time for mode, time in taken.items()}
        found["ratio_same_maths_path"] = taken["published"] / taken["ours"]
        found["ratio_default"] = taken["published_default"] / taken["ours"]
        if what == "scoring":
            ours, others = (
                scores[pieces, rows]["ours"],
                [scores[pieces, rows][mode] for mode in MODES if mode != "ours"],
            )
            pairs = [pair for other in others for pair in zip(ours, other, strict=True)]
            found["largest_score_difference"] = max(abs(mine - theirs) for mine, theirs in pairs)
        results.append(found)
    return {
        "processor": cpu_vendor(),
        "cores": available_cores(),
        "settings": machine,
        "model": {"co_attention_blocks": args.layers, "width": args.width},
        "expressions": args.expressions,
        "rounds": args.rounds,
        "results": results,
    }


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
