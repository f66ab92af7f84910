"""The names a data pickle may use, and the harmless thing each of them stands for here."""

import argparse
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_MAX_KEY_PARTS = 32
_DTYPE_CODE = re.compile(r"[<|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,8})")


class Refused(ValueError):
    """What a pickle asks for is nothing a data file needs; the message continues '<file>: '."""


def shown(value):
    """A value for a message. Containers only by their type: one that holds another twice, over and over, never ends."""
    if isinstance(value, (str, bytes)):
        return repr(value[:40])
    return str(value) if isinstance(value, (int, float, type(None))) else f"an object of type {type(value).__name__}"


@dataclass(frozen=True)
class Constructor:
    """A known name that a pickle may call. Any other value in a table of names is inert."""

    call: Callable


@dataclass(frozen=True)
class Inert:
    """A known name that is only handed on to constructors, such as the class in `defaultdict(int)`."""

    name: str


def _encode(text, encoding="latin1"):
    """How Python 3 writes bytes into pickles of protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"encodes text as {shown(encoding)}")
    return text.encode("latin-1")


def made_of(value, kinds, what):
    """The value, if it is of one of these types; otherwise refuses to make `what` of it."""
    if not isinstance(value, kinds):
        raise Refused(f"makes {what} of an object of type {type(value).__name__}")
    return value


def _bytearray(data=b"", encoding="latin1"):
    return bytearray(_encode(data, encoding) if isinstance(data, str) else made_of(data, bytes, "bytes"))


def check_key(key):
    """A dictionary key or set member whose hash is quick: a scalar or a short, flat tuple of scalars."""
    if type(key) is str:
        return key
    if type(key) is tuple and len(key) > _MAX_KEY_PARTS:  # its hash is computed anew at every use
        raise Refused(f"uses a tuple of {len(key)} items as a key")
    for part in key if type(key) is tuple else (key,):
        if type(part) is int and not -(1 << 63) <= part < 1 << 63:
            raise Refused("uses an integer of more than 64 bits as a key")
        if type(part) not in (int, str, float, bool, bytes, type(None)) and not isinstance(part, np.generic):
            raise Refused(f"uses an object of type {type(part).__name__} as a key")
    return key


def _set_of(kind):
    return Constructor(lambda items=(): kind(map(check_key, made_of(items, (list, tuple), f"a {kind.__name__}"))))


def _ordered_dict(pairs=()):
    """Usually empty and filled afterwards; Python 2 passes its pairs."""
    pairs = made_of(pairs, (list, tuple), "an OrderedDict")
    return OrderedDict((check_key(key), value) for key, value in pairs)


# ---- NumPy ----


def _dtype(code, align=False, copy=True):
    """numpy.dtype of the plain kinds: bool, integers, floats, complex, fixed-length bytes and text."""
    if not isinstance(code, str) or not _DTYPE_CODE.fullmatch(code):
        raise Refused(f"holds NumPy data of type {shown(code)}; known are bool, numbers and fixed-length text")
    return np.dtype(code)


def check_dtype_state(state):
    """The state repeats what the code says, and adds the byte order (`<`, `|` or `=` here; `>` is big-endian)."""
    if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
        raise Refused("holds NumPy data of a structured type")
    if state[1] == ">":
        raise Refused("holds big-endian NumPy data; files written on little-endian machines are expected")


def array_state(state):
    """Checks numpy.ndarray's state (version, shape, dtype, column order?, bytes) before NumPy sees it."""
    version, shape, dtype, column_order, data = state
    if isinstance(data, str):  # Python 2
        data = data.encode("latin-1")
    if not isinstance(dtype, np.dtype) or not isinstance(data, (bytes, bytearray)):
        raise Refused("holds a NumPy array of Python objects")
    check_shape(shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise Refused(f"a NumPy array of shape {shape} and type {dtype} needs {expected} bytes, found {len(data)}")
    return 1, shape, dtype, bool(column_order), bytes(data)


def check_shape(shape):
    """A shape NumPy can take: a tuple of at most 32 sizes, each from 0 to 2^63-1."""
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(size) is int for size in shape):
        raise Refused("holds an array whose shape is no tuple of sizes")
    if not all(0 <= size < 1 << 63 for size in shape):
        raise Refused(f"holds an array of shape {str(shape)[:80]}")


def _reconstruct(kind, shape, typecode):
    """An array still without content; the BUILD operation brings it."""
    if kind != KNOWN_NAMES["numpy.ndarray"]:
        raise Refused("holds a NumPy object that is not a plain array")
    return np.empty(0, np.uint8)


def _from_buffer(data, dtype, shape, order="C"):
    state = array_state((1, shape, dtype, order == "F", data))
    return np.frombuffer(data, state[2]).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype, data):
    _, _, dtype, _, data = array_state((1, (), dtype, False, data))
    return np.frombuffer(data, dtype)[0]


def _both_names(module, name, value):
    """NumPy 2 renamed numpy.core to numpy._core; files of both kinds exist."""
    return {f"numpy.core.{module}.{name}": value, f"numpy._core.{module}.{name}": value}


KNOWN_NAMES = {
    "collections.OrderedDict": Constructor(_ordered_dict),
    # The default of a defaultdict matters only to code that looks up missing keys; a reader of data does not.
    "collections.defaultdict": Constructor(lambda factory=None: {}),
    "argparse.Namespace": Constructor(argparse.Namespace),
    "_codecs.encode": Constructor(_encode),
    "numpy.ndarray": Inert("numpy.ndarray"),
    "numpy.dtype": Constructor(_dtype),
    **_both_names("multiarray", "_reconstruct", Constructor(_reconstruct)),
    **_both_names("multiarray", "scalar", Constructor(_scalar)),
    **_both_names("numeric", "_frombuffer", Constructor(_from_buffer)),
}
for _module in ("builtins", "__builtin__"):  # Python 3, and Python 2 or protocol 2
    KNOWN_NAMES.update({f"{_module}.{_name}": Inert(_name) for _name in ("int", "float", "str", "list", "dict")})
    KNOWN_NAMES[f"{_module}.bytes"] = Constructor(lambda data=b"": made_of(data, bytes, "bytes"))
    KNOWN_NAMES[f"{_module}.bytearray"] = Constructor(_bytearray)
    KNOWN_NAMES[f"{_module}.set"] = _set_of(set)
    KNOWN_NAMES[f"{_module}.frozenset"] = _set_of(frozenset)
