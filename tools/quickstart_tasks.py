#!/usr/bin/env python
"""Teach the quick start's model to answer questions about scenes: VQA, GQA or NLVR2, with a page of pictures.

Starts from what `make quickstart` has trained. The same tools and settings as for any other data; only the questions
are made here. Run again, it goes on where it was stopped, and what is finished is used as it is.
"""

import hashlib
import signal
import sys
import time
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.command_line import load_task_config, run_plain_tool
from oscar_paddle.tools.stages import DEFAULT_ROOT, REPOSITORY, Stages, duration, moved_settings, shown

EXAMPLE = "python tools/quickstart_tasks.py vqa"
WEIGHTS = "model.safetensors"  # of a checkpoint
TITLES = {
    "vqa": "Quick start, VQA: questions about scenes",
    "gqa": "Quick start, GQA: questions that take two steps",
    "nlvr2": "Quick start, NLVR2: statements about two scenes",
}
FAST_OPTS = ["OPTIMIZATION.MAX_STEPS", "4", "OPTIMIZATION.BATCH_SIZE", "8", "OPTIMIZATION.WARMUP_STEPS", "1"]


def add_arguments(parser):
    parser.add_argument("task", choices=sorted(TITLES), help="what to learn")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help=f"folder of the quick start (default: {DEFAULT_ROOT}, with --fast {DEFAULT_ROOT}/fast)",
    )
    parser.add_argument("--fast", action="store_true", help="a run of seconds that learns nothing")


def main(args):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a running tool is ended, too
    root = Path(args.root or (f"{DEFAULT_ROOT}/fast" if args.fast else DEFAULT_ROOT))
    try:
        TaskQuickStart(root, args.task, FAST_OPTS if args.fast else []).run()
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise


class TaskQuickStart(Stages):
    """The stages, one after the other; training and evaluation are commands that a person could type.

    Args:
        root: folder of the quick start.
        task: "vqa", "gqa" or "nlvr2".
        opts: settings that override those of configs/scenes_<task>_train.yaml.
    Raises:
        DataError: the quick start has not been run there.
    """

    def __init__(self, root, task, opts):
        super().__init__(root, f"stages_{task}.json")
        self.task = task
        files = [REPOSITORY / "configs" / f"scenes_{task}_{part}.yaml" for part in ("train", "test")]
        self.files = {file: own + moved_settings(file, root) for file, own in zip(files, (opts, []), strict=True)}
        self.train, self.test = (
            load_task_config(file, own, f"{action}_{task}")
            for action, (file, own) in zip(("train", "eval"), self.files.items(), strict=True)
        )
        self.trunk = Path(self.train.PRETRAINED.DIR) / WEIGHTS
        if not self.trunk.is_file():
            raise DataError(f"{self.trunk}: no such file; `make quickstart` trains it (tools/quickstart.py)")

    def run(self):
        started = time.monotonic()
        print("\n== 1 of 4: asking questions", flush=True)
        with self.diary.stage("questions"):
            self.write_questions()
        print("\n== 2 of 4: training, from the quick start's model", flush=True)
        checkpoint = Path(self.test.EVAL.CHECKPOINT_DIR) / WEIGHTS
        self.stage("training", checkpoint, str(self.train), self.trunk)
        print("\n== 3 of 4: answering new questions", flush=True)
        output = self.root / f"{self.task}_eval"
        self.stage("evaluation", output / "metrics.json", str(self.test), checkpoint, ["--output_dir", str(output)])
        print("\n== 4 of 4: writing the report page", flush=True)
        with self.diary.stage("report"):
            page, table = self.report(output)
        print(f"\n{table}\n\ntime: {self.diary.summary()}; this run: {duration(time.monotonic() - started)}")
        print(f"report with pictures (open it in a browser): {page.resolve()}", flush=True)

    def write_questions(self):
        from oscar_paddle.datasets.scenes.tasks import write_task

        write_task(self.root / "scenes", self.task)  # keeps what is there

    def stage(self, name, result, settings, weights, arguments=()):
        """Run the tool of a stage, unless `result` is there from the same settings, weights and questions."""
        tool, file = {"training": "train", "evaluation": "eval"}[name], list(self.files)[name == "evaluation"]
        questions = (self.root / "scenes" / self.task / "task.json").read_text()
        parts = (settings, str(weights.stat().st_mtime_ns), questions)
        key = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
        words = [REPOSITORY / "tools" / f"{tool}_{self.task}.py", "--cfg_file", shown(file), *arguments]
        if self.files[file]:
            words += ["--opts", *self.files[file]]
        self.tool(name, key, result, words)

    def report(self, output):
        """(path of the page, table of the results as text)."""
        from oscar_paddle.tools.pages.answers import Answers, question_file, read_guessing, write_answers

        questions = self.root / "scenes" / self.task
        facts = [("Checkpoint", self.test.EVAL.CHECKPOINT_DIR), ("Starts from", self.train.PRETRAINED.DIR)]
        facts += [(f"Time of {name}", duration(self.diary.seconds(name))) for name in ("training", "evaluation")]
        page = write_answers(
            output,
            self.root / "scenes" / "images",
            self.root / f"{self.task}.html",
            features=self.train.DATASET.FEAT_FILE,
            run_folder=Path(self.train.OUTPUT.CHECKPOINT_DIR) / self.train.OUTPUT.SAVE_NAME,
            guessing=questions,
            title=TITLES[self.task],
            facts=facts,
        )
        answers, guessing = Answers(output), read_guessing(questions, question_file(output))
        return page, score_table(answers, guessing)


def score_table(answers, guessing):
    """Scores in percent, over all and for each kind of question, beside what guessing reaches."""
    from oscar_paddle.tools.pages.answers import score_rows

    lines = [f"{'':24}{'model':>9}{'guessing':>12}{'questions':>12}"]
    for name, count, score, guess in score_rows(answers, guessing):
        lines.append(f"{name:24}{100 * score:7.1f} %{100 * guess:10.1f} %{count:12,}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
