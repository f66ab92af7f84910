#!/usr/bin/env python
"""Draw scenes, train a small model from scratch, evaluate it on held-out scenes, and write a page with pictures.

The same tools and settings as for any other data; only the data set is made here. Run again, it goes on where it was
stopped, and what is finished is used as it is.
"""

import contextlib
import hashlib
import signal
import sys
import time
from pathlib import Path

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.tools.command_line import load_task_config, run_plain_tool
from oscar_paddle.tools.stages import DEFAULT_ROOT, REPOSITORY, Stages, duration, moved_settings, shown

TRAIN_FILE, TEST_FILE = (REPOSITORY / "configs" / f"scenes_{name}.yaml" for name in ("train", "test"))
WEIGHTS = "model.safetensors"  # of a checkpoint
EXAMPLE = "python tools/quickstart.py"

# What the full quick start makes, and how long that takes on 2 CPU cores.
SIZES = {"train": 3000, "dev": 100, "test": 200}
MODEL = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "dropout": 0.0,
    "initializer_range": 0.1,
}
SEED = 1  # of the scenes
TIMES = {"scenes": "about a minute", "training": "about 3 minutes", "evaluation": "about a minute"}

# --fast: only shows that everything works.
FAST_SIZES = {"train": 60, "dev": 10, "test": 12}
FAST_MODEL = {**MODEL, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}
FAST_OPTS = ["OPTIMIZATION.MAX_STEPS", "6", "OPTIMIZATION.BATCH_SIZE", "16", "OPTIMIZATION.WARMUP_STEPS", "2"]


def add_arguments(parser):
    parser.add_argument(
        "--root",
        metavar="DIR",
        help=f"folder for everything (default: {DEFAULT_ROOT}, with --fast {DEFAULT_ROOT}/fast)",
    )
    for split, size in SIZES.items():
        parser.add_argument(f"--{split}", type=int, metavar="N", help=f"{split} pictures (default: {size})")
    parser.add_argument("--fast", action="store_true", help="a run of seconds that learns nothing")


def main(args):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a running tool is ended, too
    root = args.root or (f"{DEFAULT_ROOT}/fast" if args.fast else DEFAULT_ROOT)
    sizes = dict(FAST_SIZES if args.fast else SIZES)
    for split, least in (("train", 2), ("dev", 4), ("test", 2)):
        asked = getattr(args, split)
        if asked is not None and asked < least:
            raise ConfigError(f"--{split} is {asked}; expected at least {least}")
        sizes[split] = sizes[split] if asked is None else asked
    model, opts = (FAST_MODEL, FAST_OPTS) if args.fast else (MODEL, [])
    try:
        QuickStart(Path(root), sizes, model, opts).run()
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise


class QuickStart(Stages):
    """The stages, one after the other; training and evaluation are commands that a person could type.

    Args:
        root: folder for everything.
        sizes: pictures of each split: train, dev, test.
        model: size of the model, see `files.write_init_folder`.
        opts: settings that override those of configs/scenes_train.yaml.
    """

    def __init__(self, root, sizes, model, opts):
        super().__init__(root)
        self.sizes, self.model = sizes, model
        self.opts = {TRAIN_FILE: opts + moved_settings(TRAIN_FILE, root), TEST_FILE: moved_settings(TEST_FILE, root)}
        self.train = load_task_config(TRAIN_FILE, self.opts[TRAIN_FILE], "train")
        self.test = load_task_config(TEST_FILE, self.opts[TEST_FILE], "eval")

    def run(self):
        started = time.monotonic()
        test, train, dev = (self.sizes[split] for split in ("test", "train", "dev"))
        self.say("scenes", f"1 of 4: drawing {train:,} scenes to train on, {dev:,} to watch, {test:,} to test")
        self.draw_scenes()
        self.say("training", "2 of 4: training a small model from scratch")
        self.stage("training", TRAIN_FILE, Path(self.test.EVAL.CHECKPOINT_DIR) / WEIGHTS)
        self.say("evaluation", f"3 of 4: comparing {test:,} new scenes with {5 * test:,} captions")
        output = self.root / "eval"
        self.stage("evaluation", TEST_FILE, output / "metrics.json", ["--output_dir", str(output)])
        self.say("report", "4 of 4: writing the report page")
        with self.diary.stage("report"):
            table, page = self.report()
        print(f"\n{table}\n\ntime: {self.diary.summary()}; this run: {duration(time.monotonic() - started)}")
        print(f"report with pictures (open it in a browser): {page.resolve()}", flush=True)

    def say(self, stage, words):
        """Announce a stage, and how long it takes where that is known."""
        known = f" ({TIMES[stage]} on 2 cores)" if self.sizes == SIZES and stage in TIMES else ""
        print(f"\n== {words}{known}", flush=True)

    def draw_scenes(self):
        from oscar_paddle.datasets.scenes.build import write_scenes

        folder = self.root / "scenes"
        sizes = {f"num_{split}": size for split, size in self.sizes.items()}
        key = str((sizes, SEED))
        known = self.already("scenes", key, folder / "scenes.json")
        try:
            with contextlib.nullcontext() if known else self.diary.stage("scenes", key):
                write_scenes(folder, seed=SEED, model=self.model, **sizes)  # keeps what is there; writes init/
        except DataError as error:
            raise DataError(f"{error} (here: --root DIR, or delete {folder})") from None

    def stage(self, name, cfg_file, result, arguments=()):
        """Run the tool of a YAML file, unless it has already made `result` from the same settings and scenes."""
        tool = {"training": "train_retrieval.py", "evaluation": "eval_retrieval.py"}[name]
        words = [REPOSITORY / "tools" / tool, "--cfg_file", shown(cfg_file), *arguments]
        if self.opts[cfg_file]:
            words += ["--opts", *self.opts[cfg_file]]
        self.tool(name, self.key(name), result, words)

    def key(self, name):
        """What the result of a stage depends on."""
        parts = [(self.root / "scenes" / file).read_text() for file in ("scenes.json", "init/config.json")]
        parts.append(str(self.train))
        if name == "evaluation":
            parts += [str(self.test), str((Path(self.test.EVAL.CHECKPOINT_DIR) / WEIGHTS).stat().st_mtime_ns)]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def report(self):
        """(table of the results as text, path of the page)."""
        from oscar_paddle.tools.pages.retrieval import RetrievalResults, write_report

        facts = [("Checkpoint", self.test.EVAL.CHECKPOINT_DIR)]
        for name in ("training", "evaluation"):
            facts.append((f"Time of {name}", duration(self.diary.seconds(name))))
        facts.append(("Time in all", self.diary.total()))
        shape = f"{self.model['num_hidden_layers']} layers of width {self.model['hidden_size']}, from scratch"
        page = write_report(
            self.root / "eval",
            self.root / "scenes" / "images",
            self.root / "report.html",
            features=self.train.DATASET.FEAT_FILE,
            run_folder=Path(self.train.OUTPUT.CHECKPOINT_DIR) / self.train.OUTPUT.SAVE_NAME,
            title="Quick start: finding scenes by captions, and captions by scenes",
            facts=[("Model", shape), *facts],
        )
        results = RetrievalResults(self.root / "eval")
        return recall_table(results.metrics, results.chance()), page


def recall_table(metrics, chance):
    """Recalls of both directions in percent, each above what a random order would reach."""
    names = {
        "i2t_retrieval": "text retrieval (a picture finds captions)",
        "t2i_retrieval": "image retrieval (a caption finds pictures)",
    }
    columns = list(chance["i2t_retrieval"])
    lines = ["".join([" " * 44, *(f"{column:>9}" for column in columns)])]
    for key, name in names.items():
        for label, recalls in ((name, metrics[key]), ("  by chance", chance[key])):
            lines.append(f"{label:44}" + "".join(f"{100 * recalls[column]:7.1f} %" for column in columns))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
