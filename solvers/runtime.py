"""What a run needs of its machine: the device, the precision it can compute in, and where log lines go."""

import logging
import os
import sys
from pathlib import Path

import paddle
from tqdm import tqdm

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.machine import cpu_model, tf32


def set_device(cfg):
    """Run where MISC.DEVICE says; "auto" takes a GPU when this Paddle can use one.

    Raises:
        ConfigError: a GPU was asked for that is not to be had.
    """
    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if cfg.MISC.DEVICE == "gpu" and not has_gpu:
        raise ConfigError("MISC.DEVICE is 'gpu', but this Paddle finds none (see requirements-gpu.txt)")
    use_gpu = has_gpu and cfg.MISC.DEVICE != "cpu"
    paddle.set_device("gpu" if use_gpu else "cpu")
    if not use_gpu:
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # else Ranks of a Paddle with CUDA would move to GPUs
        set_up_cpu_kernels()


def on_gpu():
    return paddle.get_device().startswith("gpu")


def device_name():
    """Kind and name of what computes, such as "cpu (AMD EPYC 7B13)" or "gpu (NVIDIA A100-SXM4-40GB)"."""
    return f"gpu ({paddle.device.cuda.get_device_name()})" if on_gpu() else f"cpu ({cpu_model()})"


def float32_name():
    """What "float32" means here: on Ampere and later cards, matrix products may round their operands to TF32."""
    return f"float32 {'with' if tf32() else 'without'} TF32" if on_gpu() else "float32"


def batch_tokens(cfg):
    """EVAL.BATCH_TOKENS, or what keeps this kind of device busy."""
    return cfg.EVAL.BATCH_TOKENS or (16384 if on_gpu() else 4096)


def set_up_cpu_kernels():
    """Transpose tensors for good rather than as views: on the CPU, operators read such a view far more slowly."""
    paddle.set_flags({"FLAGS_use_stride_kernel": False})


def check_training_precision(cfg):
    """Refuse what Paddle would only warn about: on the CPU its automatic mixed precision does nothing.

    Raises:
        ConfigError: OPTIMIZATION.AMP is not to be had on the device in use.
    """
    amp = cfg.OPTIMIZATION.AMP
    if amp != "off" and not on_gpu():
        raise ConfigError(f"OPTIMIZATION.AMP is {amp!r}, but Paddle's mixed precision needs a GPU: set 'off'")
    if amp == "bf16" and not paddle.amp.is_bfloat16_supported():
        raise ConfigError("OPTIMIZATION.AMP is 'bf16', which this GPU does not have: set 'fp16' or 'off'")


def set_up_logging(path=None, rank=0, world_size=1):
    """Messages of rank 0 to stderr and, when a folder is given, of every rank to its own log file there.

    Returns:
        the logger; a record with extra={"file_only": True} is kept from stderr, where the tool says it in one line.
    """
    handlers = []
    if rank == 0:
        handlers.append(_BesideProgressBars(sys.stderr))
    if path is not None:
        name = "log.txt" if rank == 0 else f"log-rank{rank}.txt"
        handlers.append(logging.FileHandler(Path(path) / name, encoding="utf-8"))
    logging.raiseExceptions = False  # a log line that a full disk swallows is not worth a traceback
    prefix = f"rank {rank} " if world_size > 1 else ""
    logging.basicConfig(
        level=logging.INFO,
        handlers=handlers or [logging.NullHandler()],
        force=True,
        format=f"%(asctime)s {prefix}%(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    return logging.getLogger("oscar_paddle")


class _BesideProgressBars(logging.StreamHandler):
    """Log lines that go above a progress bar rather than through it."""

    def emit(self, record):
        if getattr(record, "file_only", False):
            return
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception:  # as every handler of logging: a line that cannot be shown stops no run
            self.handleError(record)
