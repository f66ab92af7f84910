"""The stages of a quick start: commands that a person could type, each run once, with a diary of what is finished."""

import contextlib
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.config.loader import load_config

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_ROOT = "quickstart"  # as in configs/scenes_*.yaml
PATIENCE = 60  # seconds that an interrupted tool has to end by itself


class StageError(UserError):
    """A tool has failed; it has said why."""

    def __init__(self, message, exit_code):
        super().__init__(message)
        self.exit_code = exit_code


class Stages:
    """Runs stages below one folder; what an earlier run has finished from the same settings is used as it is.

    Args:
        root: folder for everything.
        diary: name of the diary's file there.
    """

    def __init__(self, root, diary="stages.json"):
        self.root, self.diary = Path(root), Diary(Path(root) / diary)

    def already(self, name, key, result):
        """Whether a stage was finished by an earlier run, from the same settings; says so."""
        known = result.exists() and self.diary.has_finished(name, key)
        if known:
            print(f"finished earlier, in {duration(self.diary.seconds(name))}; used as it is", flush=True)
        return known

    def tool(self, name, key, result, words):
        """Run a tool of this project as a command, unless it has already made `result` from the same settings.

        Args:
            name: of the stage, for the diary and for messages.
            key: str, what the result depends on.
            result: path that the tool leaves.
            words: the command behind `python`; the first is a path.
        Raises:
            StageError: it ends with an error, or without the result.
        """
        if self.already(name, key, result):
            return
        command = [shown(words[0]), *map(str, words[1:])]
        print(f"$ python {shlex.join(command)}", flush=True)
        with self.diary.stage(name, key):
            code = _run([sys.executable, *command])
            if code != 0 or not result.exists():
                again = f"the same command goes on from here; to start afresh, delete {self.root}"
                reason = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}, see above"
                raise StageError(f"{name} {reason} ({again})", code if code > 0 else 1)


class Diary:
    """How long every stage took, over all runs, and which are finished: a small JSON file.

    Args:
        path: of the file; one that is missing or damaged counts as empty.
    """

    def __init__(self, path):
        self.path = path
        try:
            self.stages = json.loads(path.read_text(encoding="utf-8"))
            assert all({"key", "seconds", "finished"} <= stage.keys() for stage in self.stages.values())
        except (OSError, ValueError, AttributeError, AssertionError):
            self.stages = {}

    def has_finished(self, name, key):
        stage = self.stages.get(name, {})
        return stage.get("finished", False) and stage["key"] == key

    def seconds(self, name):
        return self.stages.get(name, {}).get("seconds", 0.0)

    @contextlib.contextmanager
    def stage(self, name, key=""):
        """Context in which a stage runs; its time adds to that of earlier runs that were stopped."""
        before = self.stages.get(name, {})
        goes_on = before.get("key") == key and not before["finished"]
        earlier = before["seconds"] if goes_on else 0.0
        started, finished = time.monotonic(), False
        try:
            yield
            finished = True
        finally:
            seconds = earlier + time.monotonic() - started
            self.stages[name] = {"key": key, "seconds": round(seconds, 2), "finished": finished}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.stages, indent=1) + "\n", encoding="utf-8")

    def summary(self):
        parts = [f"{name} {duration(stage['seconds'])}" for name, stage in self.stages.items()]
        return f"{', '.join(parts)}; all together {self.total()}"

    def total(self):
        return duration(sum(stage["seconds"] for stage in self.stages.values()))


def duration(seconds):
    """Seconds as a person says them: 8 s, 4 min 5 s."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def moved_settings(cfg_file, root):
    """Settings that move a file's paths from the default root to another one."""
    opts = []
    for section, keys in load_config(cfg_file).items():
        for key, value in keys.items():
            if isinstance(value, str) and (value + "/").startswith(DEFAULT_ROOT + "/"):
                moved = str(root / Path(value).relative_to(DEFAULT_ROOT))
                opts += [f"{section}.{key}", moved] if moved != value else []
    return opts


def shown(path):
    """A path as a person would type it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _run(command):
    """Exit code of a command; it ends with us: Ctrl-C reaches it by itself, for anything else it is told."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
