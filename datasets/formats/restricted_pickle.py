"""Reads pickles that hold data, and nothing else.

A pickle is a program for a small stack machine, and Python's own machine lets it import any name and call it.
This one knows a table of names and what each stands for (`pickle_names.py`); every other name is refused, by
name, before anything happens. The machine is written out here, instead of restricting `pickle.Unpickler`, because
names are not the only danger: Python's machine also allocates what size fields and memo numbers claim, lets a
pickle set attributes of classes and functions, and hashes keys whose hash never ends.
It runs about two million operations a second; captions of 113,287 images are about a third of a million.
"""

import argparse
import mmap
import pickletools
import struct
from collections import OrderedDict

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.pickle_names import (
    KNOWN_NAMES,
    Constructor,
    Refused,
    array_state,
    check_dtype_state,
    check_key,
)

_MAX_STACK = 1 << 20  # writers empty the stack every 1,000 items
_MAX_MARKS = 1 << 14
_MAX_INT_BYTES = 1024


def load(source, where, allowed=None):
    """Read one pickle: Python scalars, strings and containers, NumPy arrays and scalars, `argparse.Namespace`.

    Args:
        source: bytes, a memory map, or a binary file (read to its end).
        where: the file's name, for messages.
        allowed: further known globals, dotted name -> `Constructor` (may be called) or any inert value.
    Raises:
        DataError: an unknown global (named), an operation that data does not need, a damaged pickle.
    """
    buffer = source if isinstance(source, (bytes, mmap.mmap)) else source.read()
    return load_at(buffer, 0, where, allowed)[0]


def load_at(buffer, start, where, allowed=None, persistent_load=None):
    """Read the pickle that starts at byte `start` of bytes or a memory map: (object, position of the byte after it).

    `persistent_load` gets each persistent id (the way torch.save refers to storages) and returns its object.
    """
    names = {**KNOWN_NAMES, **(allowed or {})}
    machine = _Machine(buffer, start, names=names, persistent_load=persistent_load)
    try:
        return machine.run(), machine.position
    except DataError:
        raise
    except Refused as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:  # a damaged program can fail in any operation; callers see one error class
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(f"{where}: damaged, or no pickled data (at byte {machine.position}: {reason})") from None


class _Machine:
    """A stack, marks that set it aside, a numbered memo; the operations have their names in `pickletools`."""

    def __init__(self, buffer, start, *, names, persistent_load):
        self.buffer, self.position, self.size = buffer, start, len(buffer)
        self.names, self.persistent_load = names, persistent_load
        self.stack, self.set_aside, self.memo = [], [], {}
        # What constructors may copy in all: a pickle can hand one long string to them again and again.
        self.copy_allowance = 2 * self.size + 65536

    def run(self):
        buffer, size = self.buffer, self.size
        while True:
            first = self.position + 1
            if first > size:
                raise ValueError("the pickle ends in the middle")
            if buffer[first - 1] not in _OPERATIONS:
                raise ValueError(f"0x{buffer[first - 1]:02x} is no pickle operation")
            name, width, value_of, operation = _OPERATIONS[buffer[first - 1]]
            first, last = (first, first + width) if width >= 0 else self._variable_argument(first, width)
            if last > size:
                raise ValueError(f"an item of {last - first} bytes does not fit the file of {size} bytes")
            argument = buffer[first:last]
            self.position = last
            if value_of is not None:
                self.stack.append(value_of(argument))
                if len(self.stack) > _MAX_STACK:
                    raise Refused(f"puts more than {_MAX_STACK} items on the pickle stack")
            elif operation is not None:
                operation(self, argument)
            elif name == "STOP":
                if len(self.stack) != 1 or self.set_aside:
                    raise ValueError("items are left over at the end")
                return self.stack.pop()
            else:
                raise Refused(f"uses the pickle operation {name}, which data files do not need")

    def _variable_argument(self, first, width):
        """Where an argument starts and ends whose length is written before it, or which ends with its line."""
        if width == pickletools.UP_TO_NEWLINE:
            end = self.buffer.find(b"\n", first)
            if end < 0:
                raise ValueError("a line without an end")
            return first, end + 1
        start = first + _LENGTH_BYTES[width]
        return start, start + _unsigned(self.buffer[first:start])

    # ---- containers ----

    def MARK(self, _):
        self.set_aside.append(self.stack)
        self.stack = []
        if len(self.set_aside) > _MAX_MARKS:
            raise Refused("nests deeper than a real pickle does")

    def POP_MARK(self, _=None):
        items, self.stack = self.stack, self.set_aside.pop()
        return items

    def POP(self, _):
        self.stack.pop() if self.stack else self.POP_MARK()

    def DUP(self, _):
        self.stack.append(self.stack[-1])

    def _of_marked(make):
        def operation(self, _):
            items = self.POP_MARK()
            self.stack.append(make(items))

        return operation

    LIST, TUPLE = _of_marked(list), _of_marked(tuple)
    DICT = _of_marked(lambda items: _set_items({}, items))
    FROZENSET = _of_marked(lambda items: frozenset(map(check_key, items)))

    def _tuple_of(count):
        def operation(self, _):
            items = [self.stack.pop() for _ in range(count)]
            self.stack.append(tuple(reversed(items)))

        return operation

    TUPLE1, TUPLE2, TUPLE3 = map(_tuple_of, (1, 2, 3))

    def APPEND(self, _):
        item = self.stack.pop()
        _as(list, self.stack[-1]).append(item)

    def APPENDS(self, _):
        items = self.POP_MARK()
        _as(list, self.stack[-1]).extend(items)

    def ADDITEMS(self, _):
        items = self.POP_MARK()
        _as(set, self.stack[-1]).update(map(check_key, items))

    def SETITEM(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(_as(dict, self.stack[-1]), (key, value))

    def SETITEMS(self, _):
        items = self.POP_MARK()
        _set_items(_as(dict, self.stack[-1]), items)

    # ---- memo ----

    def MEMOIZE(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def BINPUT(self, argument):
        self.memo[_unsigned(argument)] = self.stack[-1]

    def BINGET(self, argument):
        self.stack.append(self.memo[_unsigned(argument)])

    LONG_BINPUT, LONG_BINGET = BINPUT, BINGET

    def PUT(self, line):
        self.memo[int(line)] = self.stack[-1]

    def GET(self, line):
        self.stack.append(self.memo[int(line)])

    # ---- globals, calls and state ----

    def GLOBAL(self, line):
        start, self.position = self._variable_argument(self.position, pickletools.UP_TO_NEWLINE)
        name = self.buffer[start : self.position]
        self._push_named(line[:-1].decode(), name[:-1].decode())

    INST = GLOBAL  # Python 1 and 2 made objects with it; the name is what a message should tell

    def STACK_GLOBAL(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        self._push_named(_as(str, module), _as(str, name))

    def _push_named(self, module, name):
        dotted = f"{module}.{name}"
        if dotted not in self.names:
            raise Refused(f"refuses the global {dotted[:120]!r}: data and weights do not need it")
        self.stack.append(self.names[dotted])

    def REDUCE(self, _):
        arguments, function = _as(tuple, self.stack.pop()), self.stack[-1]
        if not isinstance(function, Constructor):
            raise Refused(f"calls an object of type {type(function).__name__}, which is not a constructor")
        for argument in arguments:
            self._count_copy(argument)
        self.stack[-1] = function.call(*arguments)

    NEWOBJ = REDUCE

    def NEWOBJ_EX(self, _):
        if _as(dict, self.stack.pop()):
            raise Refused("passes named arguments to a constructor")
        self.REDUCE(None)

    def BUILD(self, _):
        """Gives the object on top of the stack its state; only the types that need it."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, argparse.Namespace):
            self._count_copy(state)
            vars(target).update({_as(str, key): value for key, value in _as(dict, state).items()})
        elif isinstance(target, np.dtype):
            check_dtype_state(state)
        elif type(target) is np.ndarray and target.size == 0 and target.flags.writeable:
            state = array_state(state)
            self._count_copy(state[-1])
            target.__setstate__(state)
        elif type(target) is not OrderedDict:  # its state is torch's `_metadata`, which nobody needs here
            raise Refused(f"sets the state of an object of type {type(target).__name__}")

    def BINPERSID(self, _):
        if self.persistent_load is None:
            raise Refused("refers to data outside the pickle, as only torch.save files do")
        self.stack[-1] = self.persistent_load(self.stack[-1])

    def PROTO(self, _):
        pass

    def FRAME(self, argument):
        if self.position + _unsigned(argument) > self.size:
            raise ValueError("a frame does not fit the file")

    def _count_copy(self, value):
        if isinstance(value, (str, bytes, bytearray, tuple, list, dict, set)):
            self.copy_allowance -= len(value)
            if self.copy_allowance < 0:
                raise Refused("copies the same data again and again")


def _as(kind, value):
    """The value, if it is of this type (an OrderedDict counts as a dict)."""
    if type(value) is not kind and not (kind is dict and type(value) is OrderedDict):
        raise TypeError(f"{kind.__name__} expected, found {type(value).__name__}")
    return value


def _set_items(mapping, items):
    mapping.update(zip(map(check_key, items[::2]), items[1::2], strict=True))
    return mapping


def _unsigned(data):
    return int.from_bytes(data, "little")


def _text_integer(line):
    return {b"00\n": False, b"01\n": True}[line] if line in (b"00\n", b"01\n") else int(line[:-1].rstrip(b"L"))


def _binary_integer(data):
    if len(data) > _MAX_INT_BYTES:
        raise Refused(f"holds an integer of {len(data)} bytes")
    return int.from_bytes(data, "little", signed=True)


def _quoted_text(line):
    text = line.strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    return text[1:-1].decode("unicode_escape")


# The operations that push one value: name -> value of the argument bytes.
_VALUES = {
    **dict.fromkeys(("INT", "LONG"), _text_integer),
    **dict.fromkeys(("BININT", "LONG1", "LONG4"), _binary_integer),
    **dict.fromkeys(("BININT1", "BININT2"), _unsigned),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), lambda data: str(data, "utf-8", "surrogatepass")
    ),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), bytes),
    # Python 2's str, which also carries the bytes of NumPy arrays.
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), lambda data: str(data, "latin-1")),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "FLOAT": float,
    "BINFLOAT": lambda data: struct.unpack(">d", data)[0],
    "STRING": _quoted_text,
    "UNICODE": lambda line: str(line[:-1], "raw-unicode-escape"),
    "BYTEARRAY8": bytearray,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: set(),
}

_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}

# First byte -> (name, width of the argument, value to push, operation).
_OPERATIONS = {
    ord(op.code): (op.name, op.arg.n if op.arg else 0, _VALUES.get(op.name), getattr(_Machine, op.name, None))
    for op in pickletools.opcodes
}
