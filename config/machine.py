"""Threads and maths path of this process, to be set before Paddle loads (nothing here imports it), and caches."""

import ctypes
import hashlib
import os
from pathlib import Path

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
    """Choose the number of CPU threads, the maths path, and how memory is reused.

    Paddle runs on one thread unless told otherwise, and the MKL it bundles takes a slow path on AMD processors unless
    MKL_DEBUG_CPU_TYPE is 5; on Intel that variable must stay unset. Variables that the user has set are left alone.

    Args:
        num_threads: 0 means the cores this process may use, divided among the ranks on this machine.
    Returns:
        str, what was chosen, for the log.
    """
    keep_freed_memory()
    threads = str(num_threads or max(1, available_cores() // local_ranks()))
    if num_threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = threads
    else:
        os.environ.setdefault("OMP_NUM_THREADS", threads)
        os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    vendor = cpu_vendor()
    if vendor == "AuthenticAMD":
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    path = "MKL_DEBUG_CPU_TYPE=" + os.environ["MKL_DEBUG_CPU_TYPE"] if "MKL_DEBUG_CPU_TYPE" in os.environ else "default"
    return f"{os.environ['OMP_NUM_THREADS']} CPU threads, maths path {path} ({vendor or 'unknown processor'})"


def user_cache(kind, folder):
    """The user's own place for what belongs into `folder` but cannot be written there.

    Args:
        kind: what is kept, such as "tokens".
        folder: the folder it stands in for; each has a place of its own.
    Returns:
        Path below $XDG_CACHE_HOME, or ~/.cache.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    place = hashlib.blake2b(os.fsencode(os.path.abspath(folder)), digest_size=8).hexdigest()
    return Path(base) / "oscar_paddle" / kind / place
