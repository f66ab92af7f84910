#!/usr/bin/env python
"""Measure how fast captions are written on this machine: the published way, and every backend here. Prints JSON.

Made-up images with 30 positions of tags and 50 regions, and a model of BERT-base size with random weights, whose
captions all have the full length. Every variant runs in a process of its own and, but for the published one, several
times around the others, so that another program on the machine slows all of them alike. The published way (every step
encodes all of caption, tags and regions of every beam anew) is measured on fewer images, as its time goes with them:
as Paddle comes, and with the maths path that the others use.

Then steps of self-critical training, see tools/bench/self_critical.py."""

import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import available_cores
from oscar_paddle.tools.bench.self_critical import add_self_critical_arguments, self_critical_speed
from oscar_paddle.tools.bench.worker import AS_PADDLE_COMES, OUR_MATH_PATH, OURS, Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_captioning.py
python tools/bench_captioning.py --images 44 --variants published,inference-float32,inference-bfloat16"""

PUBLISHED, PUBLISHED_MATHS, OURS_FLOAT32 = "published", "published-our-maths-path", "inference-float32"
VARIANTS = (PUBLISHED, PUBLISHED_MATHS, "eager-float32", OURS_FLOAT32, "inference-bfloat16")


def add_arguments(parser):
    parser.add_argument("--images", type=int, default=22, help="images of a run (default 22: one batch)")
    parser.add_argument("--published_images", type=int, default=1, help="of these, for the published way (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of every other variant (default 3)")
    parser.add_argument("--variants", default=",".join(VARIANTS), metavar="A,B", help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--batch_tokens", type=int, default=4096, help="EVAL.BATCH_TOKENS (default 4096)")
    parser.add_argument("--beams", type=int, default=5, help="beams (default 5)")
    parser.add_argument("--max_length", type=int, default=20, help="positions of a caption (default 20)")
    parser.add_argument("--hidden", type=int, default=768, help="width of the model (default 768: BERT-base)")
    parser.add_argument("--layers", type=int, default=12, help="layers of the model (default 12)")
    parser.add_argument("--work_dir", default="", metavar="DIR", help="keep the programs here (default: nowhere)")
    add_self_critical_arguments(parser)


def main(args):
    names = args.variants.split(",")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise UserError(f"--variants: {unknown[0]!r} is unknown; expected some of {', '.join(VARIANTS)}")
    if not 1 <= args.published_images <= args.images:
        raise UserError(f"--published_images is {args.published_images}, expected 1 to {args.images} (--images)")
    args.threads = args.threads or available_cores()
    missing = {}
    with ExitStack() as stack:
        args.work_dir = args.work_dir or stack.enter_context(tempfile.TemporaryDirectory())
        workers = {}
        for name in names:
            say(f"starting {name}")
            machine = {PUBLISHED: AS_PADDLE_COMES, PUBLISHED_MATHS: OUR_MATH_PATH}.get(name, OURS)
            try:
                worker = Worker("captioning.Writing", name, args, threads=args.threads, machine=machine)
            except UserError as error:  # no bfloat16 here
                missing[name] = {"not_measured": str(error)}
                continue
            workers[name] = stack.enter_context(worker)
        for turn in range(args.rounds):
            for name, worker in workers.items():
                if not name.startswith(PUBLISHED) or turn == args.rounds // 2:
                    say(f"round {turn + 1} of {args.rounds}: {name}")
                    worker.ask("run")
        results = {name: {"machine": worker.machine, **worker.ask("report")} for name, worker in workers.items()}
    report = summary(results, args) | {"missing": missing}
    if args.scst_images:
        report["self_critical_training"] = self_critical_speed(args)
    print(json.dumps(report, indent=1))


def summary(results, args):
    """What the variants found, with ratios and whether the captions are the same, for JSON."""
    report = {
        "threads": args.threads,
        "model": {"hidden": args.hidden, "layers": args.layers},
        "beams": args.beams,
        "max_length": args.max_length,
        "batch_tokens": args.batch_tokens,
        "load_average": os.getloadavg()[0],
        "variants": {},
    }
    for name, found in results.items():
        entry = {key: value for key, value in found.items() if key not in ("ids", "scores")}
        # Each variant measures the matrix product around its own runs, so that the share compares like with like.
        entry["useful_share_of_matrix_product"] = found["useful_gflops"] / found["matrix_product_gflops"]
        for base in (PUBLISHED, PUBLISHED_MATHS, OURS_FLOAT32):
            if base in results and base != name:
                entry[f"to_{base}"] = comparison(found, results[base])
        report["variants"][name] = entry
    return report


def comparison(found, base):
    """How much faster, and how equal the captions are."""
    both = min(found["images"], base["images"])
    pairs = list(zip(found["ids"][:both], base["ids"][:both], strict=True))
    words = [mine == theirs for one, other in pairs for mine, theirs in zip(one, other, strict=True)]
    return {
        "times_as_fast": base["seconds_an_image"] / found["seconds_an_image"],
        "compared_images": both,
        "same_captions": all(one == other for one, other in pairs),
        "token_agreement": sum(words) / len(words),
        "largest_score_difference": max(
            abs(mine - theirs) for mine, theirs in zip(found["scores"][:both], base["scores"][:both], strict=True)
        ),
    }


def say(what):
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
