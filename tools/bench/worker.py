"""What the measuring tools share: every way of doing the work sits in a process of its own and works when it is asked.

Threads and maths path are chosen before Paddle loads, and peak memory is a process's: so processes. Ways that are to be
compared take turns, so that another program on the machine slows all of them alike.
Nothing heavy is imported here: the tool only asks, and the process sets its environment first.
"""

import importlib
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from oscar_paddle.config.errors import UserError
from oscar_paddle.solvers.machine import available_cores, cpu_vendor, load_paddle, prepare

_MATH_PATH = "MKL_DEBUG_CPU_TYPE"
OURS, OUR_MATH_PATH, AS_PADDLE_COMES = "all that prepare() does", "threads and maths path", "threads only"


class Worker:
    """A process that does the work in one way; a context manager, at whose end the process ends.

    Args:
        work: "module.Class" in this folder, made in the process as Class(name, args).
        name: the way of working. args: the tool's arguments.
        threads: CPU threads; 0 means all cores.
        machine: what of `solvers.machine.prepare` the process does: OURS, OUR_MATH_PATH or AS_PADDLE_COMES.
    Attributes:
        machine: what was chosen, for people.
    """

    def __init__(self, work, name, args, *, threads=0, machine=OURS):
        self.name = name
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.machine = self._call(_start, threads, machine, work, name, args)

    def ask(self, what, *arguments):
        """Call the method `what` of the work, in its process; UserError as there, or where the process was killed."""
        return self._call(_answer, what, *arguments)

    def _call(self, function, *arguments):
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise UserError(f"{self.name} stopped without a word; did the system run out of memory?") from None
        except UserError as error:
            raise UserError(f"{self.name} stopped: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self._pool.shutdown()


def peak_memory_gib():
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# ---- inside the process ----

_work = None


def _start(threads, machine, work, name, args):
    global _work
    os.dup2(2, 1)  # libraries print, too, and the tool's standard output is JSON
    settings = prepare(threads) if machine == OURS else _published(threads or available_cores(), machine)
    module, kind = work.split(".")
    _work = getattr(importlib.import_module(f"oscar_paddle.tools.bench.{module}"), kind)(name, args)
    return settings


def _published(threads, machine):
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    if machine == AS_PADDLE_COMES:
        os.environ.pop(_MATH_PATH, None)
    elif cpu_vendor() == "AuthenticAMD":
        os.environ.setdefault(_MATH_PATH, "5")
    load_paddle()
    path = f"{_MATH_PATH}={os.environ[_MATH_PATH]}" if _MATH_PATH in os.environ else "default maths path"
    return f"{threads} CPU threads, {path}"


def _answer(what, *arguments):
    return getattr(_work, what)(*arguments)
