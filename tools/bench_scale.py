#!/usr/bin/env python
"""Score and rank a large made-up split end to end with a tiny model: time and peak memory, and how both grow.

Each size runs in a process of its own, through the code that tools/eval_retrieval.py runs. Prints JSON."""

import json
import re
import sys
import tempfile
from contextlib import ExitStack

from oscar_paddle.config.errors import UserError
from oscar_paddle.tools.bench.worker import Worker
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_scale.py --sizes 1000x5000,5000x25000
python tools/bench_scale.py --sizes 100x500,200x1000 --hidden 32"""


def add_arguments(parser):
    parser.add_argument("--sizes", default="1000x5000,5000x25000", help="images x captions of each run")
    parser.add_argument("--hidden", type=int, default=32, help="width of the model (default 32)")
    parser.add_argument("--layers", type=int, default=1, help="layers of the model (default 1)")
    parser.add_argument("--batch_tokens", type=int, default=16384, help="EVAL.BATCH_TOKENS (default 16384)")
    parser.add_argument("--out", default="", metavar="DIR", help="keep the evaluation folders here (default: nowhere)")


def main(args):
    sizes = args.sizes.split(",")
    for size in sizes:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", size):
            raise UserError(f"--sizes: {size!r} is not a size such as 1000x5000")
    results = []
    with ExitStack() as stack:
        args.out = args.out or stack.enter_context(tempfile.TemporaryDirectory())
        for size in sizes:
            with Worker("scale.Scale", size, args) as worker:
                results.append(worker.ask("run"))
    for result in results[1:]:
        compared = ("pairs", "seconds", "ranking_seconds", "peak_memory_gib")
        result["growth"] = {key: result[key] / results[0][key] for key in compared}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
