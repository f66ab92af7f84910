"""The processes of one run: a thin layer over paddle.distributed that is a no-op for a single process."""

import ctypes
import os
import signal

import numpy as np
import paddle
import paddle.distributed as dist

from oscar_paddle.config.errors import UserError

_BUCKET = 32 * 1024 * 1024  # values all-reduced at once (128 MiB of float32)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Ranks:
    """Rank and number of processes, and what they say to each other.

    Attributes:
        rank: this process, from 0.
        world_size: number of processes.
    """

    def __init__(self):
        self.world_size = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID") or 0)
        if self.world_size > 1:
            _die_with_the_launcher()
            dist.init_parallel_env()

    @property
    def is_main(self):
        return self.rank == 0

    def gather(self, value):
        """Any picklable value of each rank -> list of all of them, on every rank."""
        if self.world_size == 1:
            return [value]
        values = []
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
        for tensor in tensors if self.world_size > 1 else ():
            dist.broadcast(tensor, src=0)

    @paddle.no_grad()
    def sum_gradients(self, parameters):
        """Add up the gradients of all ranks, in place; a rank that had no example counts as zeros."""
        if self.world_size == 1:
            return
        bucket, size = [], 0
        for parameter in [*parameters, None]:
            if parameter is None or size + parameter.size > _BUCKET:
                self._sum_bucket(bucket)
                bucket, size = [], 0
            if parameter is not None:
                bucket.append(parameter)
                size += parameter.size

    def _sum_bucket(self, parameters):
        if not parameters:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = paddle.zeros_like(parameter)
        flat = paddle.concat([p.grad.reshape([-1]) for p in parameters])
        dist.all_reduce(flat)
        for parameter, piece in zip(parameters, paddle.split(flat, [p.size for p in parameters]), strict=True):
            paddle.assign(piece.reshape(parameter.shape), output=parameter.grad)


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
