"""The processes of one run: a thin layer over paddle.distributed that is a no-op for a single process."""

import contextlib
import ctypes
import os
import signal
import socket
import time

import numpy as np
import paddle
import paddle.distributed as dist

from oscar_paddle.config.errors import UserError

_BUCKET = 32 * 1024 * 1024  # values all-reduced at once (128 MiB of float32)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
LAUNCHER_SECONDS = 10  # in which it sees that a process has ended, and ends the others


class Ranks:
    """Rank and number of processes, and what they say to each other.

    Attributes:
        rank: this process, from 0.
        world_size: number of processes.
    Raises:
        UserError: the processes do not find each other, or not on the device that was chosen.
    """

    def __init__(self):
        self.world_size = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID") or 0)
        if self.world_size > 1:
            _die_with_the_launcher()
            if self.is_main:
                _check_port(os.environ.get("PADDLE_MASTER", ""))
            self._connect()

    def _connect(self):
        """Make the communicators now, so that trouble with cards, network or ports shows before the data are read."""
        chosen = paddle.get_device()
        with _talking():
            dist.init_parallel_env()  # moves to the GPU where it takes NCCL, see `runtime.set_device`
            if paddle.get_device().split(":")[0] != chosen.split(":")[0]:
                raise UserError(
                    f"MISC.DEVICE chose {chosen}, but paddle.distributed computes on {paddle.get_device()}: unset "
                    "PADDLE_DISTRI_BACKEND, or set it to gloo for the CPU and to nccl for GPUs"
                )
            ones = paddle.ones([1])
            dist.all_reduce(ones)
        if ones.item() != self.world_size:
            raise UserError(f"{self.world_size} processes add up to {ones.item():.0f}; are two launches on one port?")

    @property
    def is_main(self):
        return self.rank == 0

    def gather(self, value):
        """Any picklable value of each rank -> list of all of them, on every rank."""
        if self.world_size == 1:
            return [value]
        values = []
        with _talking():
            dist.all_gather_object(values, value)
        return values

    def on_main(self, function):
        """Call `function` on the main rank while the others wait; its result, or its UserError, reaches all."""
        result = error = None
        if self.is_main:
            try:
                result = function()
            except UserError as raised:
                error = raised
        result, error = self.gather((result, error))[0]
        if error is not None:
            raise error
        return result

    def sum(self, values):
        """List of floats, added up over ranks in double precision, always in the order of the ranks."""
        if self.world_size == 1:
            return list(values)
        return np.sum(self.gather(list(values)), axis=0).tolist()

    @paddle.no_grad()
    def copy_from_main(self, tensors):
        """Overwrite tensors, in place, with those of the main rank."""
        with _talking():
            for tensor in tensors if self.world_size > 1 else ():
                dist.broadcast(tensor, src=0)

    @paddle.no_grad()
    def sum_gradients(self, parameters, passengers):
        """Add up the gradients of all ranks, in place; a rank that had no example counts as zeros.

        Args:
            passengers: float32 tensor that travels with the gradients, and is added up, too.
        """
        if self.world_size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = paddle.zeros_like(parameter)
        bucket, size = [passengers], passengers.size
        for gradient in [p.grad for p in parameters]:
            if size + gradient.size > _BUCKET:
                _sum_bucket(bucket)
                bucket, size = [], 0
            bucket.append(gradient)
            size += gradient.size
        _sum_bucket(bucket)


def _sum_bucket(tensors):
    flat = paddle.concat([tensor.reshape([-1]) for tensor in tensors])
    with _talking():
        dist.all_reduce(flat)
    for tensor, piece in zip(tensors, paddle.split(flat, [tensor.size for tensor in tensors]), strict=True):
        paddle.assign(piece.reshape(tensor.shape), output=tensor)


@contextlib.contextmanager
def _talking():
    """Turn a failed exchange into a UserError, late: the launcher shows the first error, and that is another rank's."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        time.sleep(LAUNCHER_SECONDS)
        said = [line for line in str(error).splitlines() if line.strip(" -")] or [type(error).__name__]
        raise UserError(f"another process has ended, or cannot be reached; its log says why ({said[-1]})") from None


def _check_port(address):
    """Refuse a rendezvous port that is taken: Paddle would abort, and the ranks might join those of another launch."""
    port = address.rpartition(":")[2]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port or 0)))
        except OSError as error:
            raise UserError(
                f"port {port}, on which the processes were to meet, has been taken since the launcher chose it "
                f"({error.strerror}): start again; the variable PORT_RANGE=20000:30000 chooses among other ports"
            ) from None


def together(ranks, function):
    """Call a function on every rank; when it fails on one, every rank raises that error.

    Raises:
        UserError: the error of the first rank that had one, or this rank's own error.
    """
    result = error = None
    try:
        result = function()
    except Exception as raised:
        error = raised
    messages = ranks.gather(None if error is None else str(error))
    if error is not None:
        raise error
    for rank, message in enumerate(messages):
        if message is not None:
            raise UserError(f"rank {rank}: {message}")
    return result


def _die_with_the_launcher():
    """Have the kernel kill this process when its parent dies.

    Otherwise a launcher that is killed with -9 leaves its workers behind, writing into the run folder of their
    successors. Linux only; elsewhere nothing happens.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
