"""The folder of a training run: log, metrics by step, checkpoints, and the names `last` and `best`."""

import json
import logging
import os
import re
import shutil
from pathlib import Path

from oscar_paddle.config.errors import TrainingError

log = logging.getLogger(__name__)

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class RunFolder:
    """Paths and small files of one run.

    Args:
        path: <OUTPUT.CHECKPOINT_DIR>/<OUTPUT.SAVE_NAME>; created when missing.
    Raises:
        TrainingError: the folder cannot be created or written.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot make the run folder: {error.strerror}") from None
        if not os.access(self.path, os.W_OK):
            raise TrainingError(f"{self.path}: the run folder cannot be written; see OUTPUT.CHECKPOINT_DIR")
        self.metrics_file = self.path / "metrics.jsonl"

    def checkpoints(self):
        """Whole checkpoint folders, oldest first (by step)."""
        found = [(int(m[1]), p) for p in self.path.iterdir() if (m := _CHECKPOINT.fullmatch(p.name)) and p.is_dir()]
        return [path for _, path in sorted(found)]

    def checkpoint(self, step):
        return self.path / f"checkpoint-{step}"

    def remove_leftovers(self):
        """Delete what a killed process left half-written."""
        for path in self.path.glob(".tmp-*"):
            log.info("removing %s, left half-written by an earlier run", path)
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def point(self, name, target):
        """Make the symbolic link `name` ("last" or "best") point to a checkpoint of this folder, atomically."""
        temporary = self.path / f".tmp-{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.name)
        os.replace(temporary, self.path / name)

    def target(self, name):
        """The checkpoint that `name` points to, or None."""
        link = self.path / name
        return link.resolve() if link.is_dir() else None

    def prune(self, keep):
        """Keep the `keep` newest checkpoints and `best`; 0 keeps all."""
        best = self.target("best")
        for path in self.checkpoints()[:-keep] if keep else []:
            if path.resolve() != best:
                shutil.rmtree(path)

    def keep_metrics_until(self, step):
        """Drop records of later steps, and a half-written last line, from metrics.jsonl: they will be made again."""
        if not self.metrics_file.exists():
            return
        kept = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["step"] <= step:
                kept.append(line + "\n")
        temporary = self.path / ".tmp-metrics"
        temporary.write_text("".join(kept), encoding="utf-8")
        os.replace(temporary, self.metrics_file)

    def append_metrics(self, record):
        """Add one JSON object to metrics.jsonl."""
        with open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_metrics(self):
        """All records of metrics.jsonl."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()]
