#!/usr/bin/env python
"""Score and rank a large made-up split end to end with a tiny model: time and peak memory, and how both grow.

Each size runs in a process of its own, through the code that tools/eval_retrieval.py runs. Prints JSON."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import run_plain_tool

EXAMPLE = """\
python tools/bench_scale.py --sizes 1000x5000,5000x25000
python tools/bench_scale.py --sizes 100x500,200x1000 --hidden 32"""


def add_arguments(parser):
    parser.add_argument("--sizes", default="1000x5000,5000x25000", help="images x captions of each run")
    parser.add_argument("--hidden", type=int, default=32, help="width of the model (default 32)")
    parser.add_argument("--layers", type=int, default=1, help="layers of the model (default 1)")
    parser.add_argument("--batch_tokens", type=int, default=16384, help="EVAL.BATCH_TOKENS (default 16384)")
    parser.add_argument("--out", default="", metavar="DIR", help="keep the evaluation folders here (default: nowhere)")
    parser.add_argument("--worker", default="", help="(internal) run this size and print what it took")


def main(args):
    if args.worker:
        return print("bench:" + json.dumps(run(args)))
    with tempfile.TemporaryDirectory() as temporary:
        args.out = args.out or temporary
        results = [measure(size, args) for size in args.sizes.split(",")]
    first = results[0]
    for result in results[1:]:
        result["growth"] = {
            key: result[key] / first[key] for key in ("pairs", "seconds", "ranking_seconds", "peak_memory_gib")
        }
    print(json.dumps(results, indent=1))


def measure(size, args):
    """One size in a process of its own, as its peak memory is the process's."""
    command = [sys.executable, __file__, "--worker", size]
    for key in ("hidden", "layers", "batch_tokens", "out"):
        command += [f"--{key}", str(getattr(args, key))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("bench:"):
            return json.loads(line.removeprefix("bench:"))
    raise UserError(f"{size}: stopped with exit code {done.returncode}")


def run(args):
    """Generate, score and rank one size.

    Returns:
        dict: pairs, seconds of all, of generating and of ranking; peak_memory_gib, anonymous_memory_gib (without file
        pages, which the system takes back when it needs them), metrics.
    """
    prepare()
    from oscar_paddle.config.default import get_cfg_defaults
    from oscar_paddle.models.checkpoints.weights import write_model
    from oscar_paddle.models.config import BertConfig
    from oscar_paddle.models.oscar import OscarForClassification
    from oscar_paddle.solvers.ranks import Ranks
    from oscar_paddle.solvers.runtime import set_up_logging
    from oscar_paddle.solvers.scoring import evaluation
    from oscar_paddle.solvers.scoring.exported import build_backend
    from oscar_paddle.tools.bench.made_up import Lengths, made_up_data

    set_up_logging()
    try:
        images, captions = (int(number) for number in args.worker.split("x"))
    except ValueError:
        raise UserError(f"--sizes: {args.worker!r} is not a size such as 1000x5000") from None
    folder = Path(args.out) / args.worker
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    lengths = Lengths(
        caption=(6, 2, 2, 12),
        tags=(2, 1, 1, 4),
        regions=(3, 1, 1, 6),
        max_text=16,
        max_region=6,
        feature_dim=16,
        words=1000,
    )
    data = made_up_data(folder, images, captions, lengths)
    model = OscarForClassification(
        BertConfig(
            vocab_size=1000,
            hidden_size=args.hidden,
            num_hidden_layers=args.layers,
            num_attention_heads=2,
            intermediate_size=4 * args.hidden,
            img_feature_dim=16,
            max_position_embeddings=16,
        )
    )
    write_model(folder / "checkpoint", model)
    cfg = get_cfg_defaults()
    cfg.merge_from_list(
        ["EVAL.CHECKPOINT_DIR", str(folder / "checkpoint"), "EVAL.EVAL_CROSS_IMAGE", True, "INPUT.IMG_FEATURE_DIM", 16]
        + ["EVAL.BATCH_TOKENS", args.batch_tokens, "DATASET.NAME", "made up"]
    )
    made = time.perf_counter()
    ranks = Ranks()
    metrics = evaluation.evaluate(
        cfg,
        data,
        folder / "eval",
        ranks,
        lambda weights, precision: build_backend(model, "auto", precision, weights, folder / "programs", ranks),
    )
    scored = time.perf_counter()
    # Once more: the margins are there, so this is ranking alone.
    evaluation.evaluate(cfg, data, folder / "eval", ranks, None)
    ranked = time.perf_counter()
    return {
        "size": args.worker,
        "pairs": images * captions,
        "seconds": scored - started,
        "generating_seconds": made - started,
        "ranking_seconds": ranked - scored,
        "pairs_per_s": images * captions / (scored - made),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "anonymous_memory_gib": _anonymous_memory(),
        "load_average": os.getloadavg()[0],
        "rsum": metrics["rsum"],
    }


def _anonymous_memory():
    """GiB of this process now that belong to no file; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon")), None)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
