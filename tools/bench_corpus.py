#!/usr/bin/env python
"""Generate a pre-training corpus of any size, open it for the first time with kills, open it again, and use it.

Prints JSON: seconds and rates of the first start, which is killed (kill -9) and goes on, seconds of the second, and the
memory that the corpus adds, per process and shared. The full size takes some 7 GB of disk; what is generated is deleted
afterwards unless --folder names a place for it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_corpus.py --rows 100000 --kill_after 2
python tools/bench_corpus.py --rows 8851000 --kill_after 60,60"""


def add_arguments(parser):
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the corpus (default 100000)")
    parser.add_argument(
        "--kill_after", default="", help="seconds after which the first start is killed, one or several"
    )
    parser.add_argument("--folder", default="", metavar="DIR", help="where to generate, and leave, the corpus")


def main(args):
    from oscar_paddle.tools.bench.corpus import FULL, SIZES, generate

    if args.rows < FULL // 1000 // len(SIZES):
        raise UserError(f"--rows is {args.rows}; expected at least {FULL // 1000 // len(SIZES)}")
    try:
        kills = [float(word) for word in args.kill_after.split(",") if word]
    except ValueError:
        raise UserError(f"--kill_after is {args.kill_after!r}; expected seconds such as 60 or 20,40") from None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary).absolute()
        began = time.perf_counter()
        images = generate(folder, args.rows)
        report = {"rows": args.rows, "images": images, "generating_seconds": time.perf_counter() - began}
        report["disk_gib"] = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) / 2**30
        report["killed_after"] = [_killed(folder, seconds) for seconds in kills]
        report["first_start"] = _start(folder, "first")
        report["second_start"] = _start(folder, "second")
        report["kept_gib"] = sum(each.stat().st_size for each in (folder / ".oscar_cache").rglob("*.npy")) / 2**30
        report["load_average"] = os.getloadavg()[0]
    print(json.dumps(report, indent=1))


def _command(folder, which):
    return [sys.executable, "-m", "oscar_paddle.tools.bench.corpus", str(folder), which]


def _killed(folder, seconds):
    """Start, and kill after so many seconds: {seconds, blocks of text that are kept for the next start}."""
    process = subprocess.Popen(_command(folder, "first"), stdout=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return {"seconds": seconds, "blocks_kept": len(list((folder / ".oscar_cache").rglob("*.npz")))}


def _start(folder, which):
    done = subprocess.run(_command(folder, which), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"the {which} start failed (see above); the corpus is in {folder}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
