"""Runs tools/train_retrieval.py many times without loading Paddle each time, and kills it at chosen moments.

Reads one JSON object a line from stdin: {"argv": [...], "log": path}, optionally with "kill_at": n, "kill_in":
[place, n] or "limit": bytes. Each is run in a forked process, whose stderr goes to `log`; its process id and then its
exit code (-9 when it was killed) are printed. `kill_at` sends SIGKILL to the process just before its n-th operation on
a file of the run folder (opens, renames, links, removals, ...), `kill_in` when one of PLACES is reached for the n-th
time; `limit` bounds the size of files, as a full disk would. The number of operations is appended to the log as
"operations: n".
"""

import contextlib
import importlib
import json
import os
import resource
import runpy
import signal
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train_retrieval.py"
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "shutil.rmtree", "os.chmod"}

PLACES = {  # name -> module, what to replace there by a function that kills, called with what was there
    "training_step": ("oscar_paddle.solvers.trainer", "global_norm"),  # gradients are there, weights not yet changed
    "scoring_batch": ("oscar_paddle.solvers.tasks.retrieval", "recall_lines"),  # dev is scored, nothing written yet
    "inside_tensor_file": ("oscar_paddle.solvers.checkpoint", "save_file"),
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def watch_place(place, kill_at):
    """Die when a place is reached for the n-th time."""
    module, name = PLACES[place]
    module = importlib.import_module(module)
    function, count = getattr(module, name), 0

    def replacement(*args, **options):
        nonlocal count
        count += 1
        if count == kill_at and place == "inside_tensor_file":  # at half of the file
            size = sum(array.nbytes for array in args[0].values()) // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            signal.signal(signal.SIGXFSZ, lambda *_: None)
            with contextlib.suppress(Exception):
                function(*args, **options)
        if count == kill_at:
            die()
        return function(*args, **options)

    setattr(module, name, replacement)


def watch(folder, kill_at):
    """Count operations below `folder`, and die at the chosen one."""
    count = 0

    def hook(event, args):
        nonlocal count
        if event in EVENTS and isinstance(args[0], str | os.PathLike) and os.fspath(args[0]).startswith(folder):
            count += 1
            if count == kill_at:
                die()

    sys.addaudithook(hook)
    return lambda: count


def run(request):
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if request.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    argv = request["argv"]
    folder = argv[argv.index("OUTPUT.CHECKPOINT_DIR") + 1]
    count = watch(folder, request.get("kill_at"))
    if request.get("kill_in"):
        watch_place(*request["kill_in"])
    sys.argv = [str(TOOL), *argv]
    code = 0
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    print(f"operations: {count()}", file=sys.stderr, flush=True)
    os._exit(code)


def main():
    # What the tool imports when it runs; no operator may run before the fork.
    import matplotlib.pyplot  # noqa: F401

    import oscar_paddle.datasets.retrieval_dataset
    import oscar_paddle.solvers.build
    import oscar_paddle.solvers.tasks.retrieval
    import oscar_paddle.solvers.trainer  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(request)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
