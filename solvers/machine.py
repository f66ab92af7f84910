"""Threads and maths path of this process, which must be set before Paddle loads, and its loading."""

import contextlib
import ctypes
import os
import sys
import warnings
from pathlib import Path

from oscar_paddle.config.errors import UserError
from oscar_paddle.config.signals import keeping_sigterm

# malloc.h of glibc: mallopt(parameter, value)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def available_cores():
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_vendor():
    """ "AuthenticAMD", "GenuineIntel", ... or "" when the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


def local_ranks():
    """Processes that share this machine under paddle.distributed.launch; 1 otherwise."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE") or os.environ.get("PADDLE_TRAINERS_NUM") or 1)


def keep_freed_memory():
    """Have malloc reuse large blocks instead of returning each to the system and asking for it again.

    Every operator allocates its result; fresh pages from the system cost more than many operators themselves (GELU
    takes half the time without them). The process then stays as large as it ever was. Does nothing without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def prepare(num_threads=0):
    """Choose the number of CPU threads, the maths path, and how memory is reused; then load Paddle.

    Paddle runs on one thread unless told otherwise, and the MKL it bundles takes a slow path on AMD processors unless
    MKL_DEBUG_CPU_TYPE is 5; on Intel that variable must stay unset. Variables that the user has set are left alone,
    but under paddle.distributed.launch one thread is asked for with MISC.NUM_THREADS.

    Args:
        num_threads: 0 means the cores this process may use, divided among the ranks on this machine.
    Returns:
        str, what was chosen, for the log.
    """
    keep_freed_memory()
    threads = str(num_threads or max(1, available_cores() // local_ranks()))
    launched = "PADDLE_TRAINERS_NUM" in os.environ
    if launched and os.environ.get("OMP_NUM_THREADS") == "1":
        del os.environ["OMP_NUM_THREADS"]  # the launcher, having loaded Paddle, leaves 1 to its workers unasked
    if num_threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = threads
    else:
        os.environ.setdefault("OMP_NUM_THREADS", threads)
        os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    vendor = cpu_vendor()
    if vendor == "AuthenticAMD":
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    load_paddle()
    path = "MKL_DEBUG_CPU_TYPE=" + os.environ["MKL_DEBUG_CPU_TYPE"] if "MKL_DEBUG_CPU_TYPE" in os.environ else "default"
    return f"{os.environ['OMP_NUM_THREADS']} CPU threads, maths path {path} ({vendor or 'unknown processor'})"


def load_paddle():
    """Import Paddle without what it remarks at every start and nobody can act on.

    These are that no compiler cache is installed, and that OMP_NUM_THREADS, which `prepare` sets, is not 1. Whatever
    else it says is shown.
    """
    with keeping_sigterm(), warnings.catch_warnings(), contextlib.redirect_stderr(_WithoutRemarks(sys.stderr)):
        warnings.filterwarnings("ignore", message="No ccache found")
        try:
            import paddle  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name != "paddle":
                raise
            raise UserError(
                "Paddle is not installed: pip install 'oscar-paddle[cpu]', or for NVIDIA GPUs paddlepaddle-gpu from "
                "Paddle's own package index (requirements-gpu.txt says how)"
            ) from None


class _WithoutRemarks:
    """A text stream that leaves two lines out. Loggers made meanwhile keep it, so it passes everything else on."""

    _REMARKS = ("WARNING: OMP_NUM_THREADS set to", "PLEASE USE OMP_NUM_THREADS WISELY")

    def __init__(self, stream):
        self._stream, self._dropped = stream, False

    def write(self, text):
        if text.startswith(self._REMARKS) or (self._dropped and text == "\n"):  # print writes the line end by itself
            self._dropped = not text.endswith("\n")
            return len(text)
        self._dropped = False
        return self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)
