"""The folder of a training run: log, metrics by step, checkpoints, and the names `last` and `best`."""

import contextlib
import errno
import json
import logging
import os
import shutil
from pathlib import Path

import filelock
import yaml

from oscar_paddle.config.errors import TrainingError, UserError
from oscar_paddle.config.places import checkpoints_in
from oscar_paddle.datasets.formats.whole_files import flush, whole_file

log = logging.getLogger(__name__)

_TEMPORARY = ".tmp-"  # names of what is being written or deleted; never read
_LOCK_SECONDS = 20  # the processes of a killed run may take a moment to die


class RunFolder:
    """Paths and small files of one run; `path` is created when missing. What cannot be written is a TrainingError."""

    def __init__(self, path):
        self.path, self._lock = Path(path), None
        self.metrics_file = self.path / "metrics.jsonl"
        with writing(self.path, "cannot make the run folder (OUTPUT.CHECKPOINT_DIR/OUTPUT.SAVE_NAME)"):
            self.path.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK):
            raise TrainingError(f"{self.path}: the run folder cannot be written; see OUTPUT.CHECKPOINT_DIR")

    def claim(self):
        """Lock the folder until `unlock` or the end of this process; delete what a killed one left half-written."""
        taken = f"{self.path}: another process is training in this run folder"
        with writing(self.path / ".lock"):
            self._lock = lock_folder(self.path, taken, _LOCK_SECONDS, TrainingError)
        for path in self.path.glob(f"{_TEMPORARY}*"):
            log.info("removing %s, left half-written by an earlier process", path)
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def unlock(self):
        """Let another run of this process, or of another one, have the folder."""
        if self._lock is not None:
            self._lock.release()

    def checkpoints(self):
        """Checkpoint folders as {step: path}, oldest first."""
        return checkpoints_in(self.path)

    def checkpoint(self, step):
        return self.path / f"checkpoint-{step}"

    def point(self, name, step):
        """Make the symbolic link `name` ("last" or "best") point to the checkpoint of a step, atomically."""
        temporary = self.path / f"{_TEMPORARY}{name}"
        with writing(self.path / name):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.checkpoint(step).name)
            os.replace(temporary, self.path / name)
            flush(self.path)

    def prune(self, keep, best_step):
        """Keep the `keep` newest checkpoints and the best one; 0 keeps all."""
        for step, path in list(self.checkpoints().items())[:-keep] if keep else []:
            if step != best_step:
                with writing(path, "cannot remove this old checkpoint (OUTPUT.KEEP)"):
                    doomed = path.rename(path.with_name(f"{_TEMPORARY}pruned-{path.name}"))  # never seen half-deleted
                    shutil.rmtree(doomed)

    def return_to(self, step, best_step):
        """Bring the folder back to how it was after a step (0: a fresh start): what came later will be made again.

        `last` and `best` point to the checkpoints of `step` and `best_step`, or to nothing where these are not here;
        later checkpoints are renamed set-aside-checkpoint-<step> (they are damaged, or of a run that was left), and
        later records leave metrics.jsonl, as does a half-written last line.
        """
        for name, target in (("last", step), ("best", best_step)):
            if self.checkpoint(target).is_dir():
                self.point(name, target)
            else:
                with writing(self.path / name):
                    (self.path / name).unlink(missing_ok=True)
        for path in [path for later, path in self.checkpoints().items() if later > step]:
            aside = path.with_name(f"set-aside-{path.name}")
            log.warning("%s is not continued from; renaming it to %s", path, aside.name)
            with writing(aside):
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        kept = [json.dumps(record) + "\n" for record in self.read_metrics() if record["step"] <= step]
        with writing(self.metrics_file), whole_file(self.metrics_file) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    def append_metrics(self, record):
        """Add one JSON object to metrics.jsonl."""
        with writing(self.metrics_file), open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def flush_metrics(self):
        """Have the records so far survive a power cut: a checkpoint must not be ahead of them."""
        with writing(self.metrics_file):
            if self.metrics_file.exists():
                flush(self.metrics_file)

    def read_metrics(self):
        """All whole records of metrics.jsonl."""
        records = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # a line that a killed process left half-written
                    records.append(json.loads(line))
        return records


def dump_config(cfg, path):
    """Write a CfgNode as YAML that `load_config` reads back to the same values, whole or not at all."""
    sections = {section: dict(keys) for section, keys in cfg.items()}
    breaks = {"\x85", "\u2028", "\u2029"}  # line ends to YAML: unescaped, it reads them back as blanks
    readable = not any(breaks & set(str(value)) for keys in sections.values() for value in keys.values())
    with writing(path, "cannot write the configuration"), whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(sections, sort_keys=False, allow_unicode=readable), encoding="utf-8")


@contextlib.contextmanager
def writing(path, what="cannot be written"):
    """Turn an OSError inside into a TrainingError that names the path."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}: {what}: {error.strerror or error}") from None


def lock_folder(folder, taken, seconds=0, error=UserError):
    """Hold `.lock` in a folder until `release` of the FileLock, or until this process ends.

    Where another process holds it for longer than `seconds`, an `error` says `taken`.
    """
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=seconds, poll_interval=0.2)
    except filelock.Timeout:
        raise error(taken) from None
    except (NotImplementedError, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        log.info("%s: its file system has no locks; do not start a second run here", folder)
    return lock
