"""Writes pickles that name classes of libraries which are not installed here, such as PyTorch.

Python's own pickler imports every name it writes; this one takes names as text. What it writes needs only the plain
operations, so that restricted readers (ours, and torch.load with weights_only=True) accept it.
"""

import pickle
import struct
from typing import Any, NamedTuple

import numpy as np


class Name(NamedTuple):
    """A class or function, by name."""

    module: str
    name: str


class Call(NamedTuple):
    """What a call makes, optionally given a state (BUILD) or filled like a dictionary (SETITEMS)."""

    function: Name
    arguments: tuple
    state: Any = None
    items: dict | None = None


class Reference(NamedTuple):
    """A persistent id: data that stand outside the pickle."""

    to: tuple


def write_pickle(file, value, protocol):
    """Write one pickle of protocol 2, 3 or 4 to a binary file.

    Args:
        value: None, bool, int, float, str, bytes (protocol 3 and later), tuple, list, dict, Name, Call, Reference and
            NumPy arrays (protocol 3 and later), nested. Nothing is shared: what occurs twice is written twice.
    Raises:
        TypeError: any other value.
    """
    file.write(b"\x80" + bytes([protocol]))
    _put(file.write, value)
    file.write(b".")


def _put(write, value):
    kind = type(value)
    if kind in (bool, float, type(None)):
        write(pickle.dumps(value, 2)[2:-1])  # without header and stop
    elif kind is int:
        write(_integer(value))
    elif kind is str:
        text = value.encode("utf-8", "surrogatepass")
        write(b"X" + struct.pack("<I", len(text)) + text)
    elif kind in (bytes, memoryview):
        write(b"B" + struct.pack("<I", len(value)) if len(value) < 1 << 32 else b"\x8e" + struct.pack("<Q", len(value)))
        write(value)
    elif kind is tuple:
        _put_all(write, b"(", value, b"t")
    elif kind is list:
        _put_all(write, b"](", value, b"e")
    elif kind is dict:
        _put_items(write, b"}(", value)
    elif kind is Name:
        write(f"c{value.module}\n{value.name}\n".encode())
    elif kind is Reference:
        _put_all(write, b"", (value.to,), b"Q")
    elif kind in (Call, np.ndarray):
        _put_call(write, value if kind is Call else _array(value))
    else:
        raise TypeError(f"cannot write a {kind.__name__}")


def _put_all(write, start, values, end):
    write(start)
    for value in values:
        _put(write, value)
    write(end)


def _put_items(write, start, items):
    _put_all(write, start, [part for item in items.items() for part in item], b"u")


def _put_call(write, call):
    _put_all(write, b"", (call.function, tuple(call.arguments)), b"R")
    if call.items is not None:
        _put_items(write, b"(", call.items)
    if call.state is not None:
        _put_all(write, b"", (call.state,), b"b")


def _integer(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _array(array):
    """As NumPy 1 writes arrays: its module names are known to every version, those of NumPy 2 are not."""
    shape = array.shape
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    code = array.dtype.str
    dtype = Call(Name("numpy", "dtype"), (code[1:], False, True), (3, code[0], None, None, None, -1, -1, 0))
    empty = Call(Name("numpy.core.multiarray", "_reconstruct"), (Name("numpy", "ndarray"), (0,), b"b"))
    data = memoryview(array.reshape(-1).view(np.uint8)) if array.size else b""
    return empty._replace(state=(1, shape, dtype, False, data))
