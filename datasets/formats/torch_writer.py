"""Writes what torch.load reads, without PyTorch: the container of torch.save before version 1.6.

Every PyTorch reads it, the 1.2 of the reference implementation as well as today's with weights_only=True. It is five
pickles in a row (magic number, version, machine facts, the object, keys of the storages), then for every key an
8-byte count and the elements; `torch_files.py` reads it. Numbers are little-endian.
"""

import pickle
import struct
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.pickle_writer import Call, Name, Reference, write_pickle
from oscar_paddle.datasets.formats.torch_tensors import STORAGES

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MACHINE = {"protocol_version": _VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
# NumPy's name of an element type -> torch's name of its storage.
_STORAGES = {element: name for name, element in STORAGES.items() if name not in ("BFloat16Storage", "UntypedStorage")}


def write_torch_file(path, value):
    """Write dicts, lists, strings and numbers, which torch.load(weights_only=True) reads, or an argparse.Namespace of
    them (which PyTorch calls unsafe: the reference reads its training_args.bin with weights_only=False)."""
    parts = (_MAGIC, _VERSION, _MACHINE, value, [])
    Path(path).write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))


def write_torch_tensors(path, arrays, on_bytes=lambda count: None):
    """Write a state dict: an OrderedDict name -> tensor, on the CPU, each with a storage of its own.

    Args:
        arrays: dict name -> NumPy array of a type that PyTorch has; read one at a time.
        on_bytes: called with the size of every tensor written (progress).
    Raises:
        DataError: an array of a type that PyTorch does not have.
        OSError: the file cannot be written.
    """
    tensors = {name: _tensor(path, name, array, str(key)) for key, (name, array) in enumerate(arrays.items())}
    keys = [str(key) for key in range(len(arrays))]
    with open(path, "wb") as file:
        for part in (_MAGIC, _VERSION, _MACHINE, Call(Name("collections", "OrderedDict"), (), items=tensors), keys):
            write_pickle(file, part, protocol=2)
        for array in arrays.values():
            file.write(struct.pack("<q", array.size))
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
            on_bytes(array.nbytes)


def _tensor(path, name, array, key):
    if array.dtype.name not in _STORAGES:
        raise DataError(f"{path}: tensor {name!r} is {array.dtype}, which PyTorch does not have")
    storage = Reference(("storage", Name("torch", _STORAGES[array.dtype.name]), key, "cpu", array.size, None))
    strides = tuple(int(np.prod(array.shape[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim))
    no_hooks = Call(Name("collections", "OrderedDict"), ())
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), (storage, 0, array.shape, strides, False, no_hooks))
