#!/usr/bin/env python
"""How long commands take to start: this code and an older one, by turns, on tiny data. Prints JSON with seconds.

The older code is a second working tree, with the same Python and packages:
  git worktree add ../old COMMIT
Every start is a new process from command to exit, the fastest of all rounds counts, and `import paddle` alone is the
floor. The data are those of tests/golden/retrieval; "first" is without what an earlier start keeps beside them (token
ids, the exported program), "again" with it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.tools.shell.command_line import run_plain_tool

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE = "python tools/bench_start.py --old ../old --rounds 5"
SETTINGS = """
INPUT: {MAX_SEQ_LEN: 40, MAX_REGION: 12}
DATASET: {DATA_DIR: data/coco_ir}
EVAL: {CHECKPOINT_DIR: data/checkpoint, EVAL_CROSS_IMAGE: true, EVAL_IMG_KEYS_FILE: test_img_keys.tsv}
MISC: {DEVICE: cpu}
"""
EVALUATION = ["eval_retrieval", "--cfg_file", "eval.yaml", "--output_dir", "out"]
STARTS = {
    "help": ["eval_retrieval", "--help"],
    "score_pairs": ["score_pairs", "--checkpoint", "data/checkpoint", "--features", "image.npz", "--caption", "dog"],
    "eval_retrieval, first": EVALUATION,
    "eval_retrieval, again": EVALUATION,
}


def add_arguments(parser):
    parser.add_argument("--old", required=True, metavar="DIR", help="working tree of the older code")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="starts of each (default: %(default)s)")


def main(args):
    trees = {"old": Path(args.old).resolve(), "new": REPOSITORY}
    if missing := [tree for tree in trees.values() if not (tree / "tests" / "golden" / "retrieval").is_dir()]:
        raise UserError(f"{missing[0]}: no working tree of this project with its tests")
    best = {}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(args.rounds):
            for code, tree in trees.items():
                _prepare(Path(place) / code, tree)
            for name, (tool, *words) in STARTS.items():
                for code, tree in trees.items():
                    shutil.rmtree(Path(place) / code / "out", ignore_errors=True)
                    taken = _seconds(Path(place) / code, [tree / "tools" / f"{tool}.py", *words])
                    best[name, code] = min(taken, best.get((name, code), taken))
            taken = _seconds(Path(place) / "new", ["-c", "import paddle"])
            best["import paddle"] = min(taken, best.get("import paddle", taken))
    report = {name: {"old": best[name, "old"], "new": best[name, "new"]} for name in STARTS}
    for seconds in report.values():
        seconds["ratio"] = seconds["new"] / seconds["old"]
    print(json.dumps({**report, "import paddle": best["import paddle"]}, indent=1))


def _prepare(folder, tree):
    """Lay tiny data, and a folder on which `oscar_paddle` is this working tree."""
    import numpy as np

    from oscar_paddle.datasets.regions.vinvl import RegionFeatures

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(REPOSITORY / "tests" / "golden" / "retrieval", folder / "data")
    (folder / "code").mkdir()
    (folder / "code" / "oscar_paddle").symlink_to(tree)
    (folder / "eval.yaml").write_text(SETTINGS)
    regions = RegionFeatures(folder / "data" / "model_0060000" / "features.tsv")
    np.savez(folder / "image.npz", features=regions[regions.ids[0]], tags="dog")


def _seconds(folder, words):
    """Wall time of one process in the folder."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(folder / "code")}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{folder}: {words}: {done.stderr}")
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
