"""Reads `.npy` and `.npz` files that strangers made: no pickles, and no size is believed before it is checked."""

import io
import math
import os
import zipfile

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.kinds import foreign
from oscar_paddle.datasets.formats.reading import reading

_MAX_BYTES = 1 << 28  # of one array: 32,000 regions, a hundred times what a detector gives
_MAX_PACKING = 1032  # deflate cannot pack tighter
_KINDS = "fiubUS"  # floats, integers, truth values, text
_BFLOAT16 = np.dtype("V2")  # as numpy.save writes ml_dtypes.bfloat16, a type that NumPy has not
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path):
    """The array in a `.npy` file; DataError if it is none, damaged, or holds Python objects."""
    with reading(path), open(path, "rb") as file:
        return _array(file, os.fstat(file.fileno()).st_size, path)


def read_npz(path, names):
    """Of the named arrays those that a `.npz` file has: dict name -> array; None for what it has of other names.

    Raises:
        DataError: no such file, not such a file, damaged, or one of these arrays holds Python objects.
    """
    try:
        with reading(path), open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {
                name: _member(archive, info, f"{path} array {name!r}") if name in names else None
                for name, info in members.items()
            }
    except DataError:
        raise
    except Exception as error:  # zipfile and zlib fail in many ways on damaged archives; callers see one error class
        what = foreign(path)
        damage = f"damaged, or not a .npz file ({type(error).__name__}: {str(error)[:120]})"
        other = f"{what}, not a .npz file with a detector's regions of a picture (docs/own_images.md)"
        raise DataError(f"{path}: {damage if what is None or 'zip' in what else other}") from None


def read_shape(path, name=None):
    """The shape of the array in a `.npy` file, or of the named one of a `.npz` file: tuple, or None where it cannot be
    told; reads only the header."""
    try:
        with reading(path), open(path, "rb") as file:
            if name is None:
                return _HEADERS[np.lib.format.read_magic(file)](file)[0]
            with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as member:
                return _HEADERS[np.lib.format.read_magic(member)](member)[0]
    except Exception:  # what is wrong is said when it is read
        return None


def _member(archive, info, where):
    if info.file_size > min(_MAX_BYTES, info.compress_size * _MAX_PACKING + 64):
        raise DataError(f"{where}: claims {info.file_size} bytes, unpacked from {info.compress_size}")
    with archive.open(info) as file:
        return _array(io.BytesIO(file.read(info.file_size + 1)), info.file_size, where)


def _array(file, size, where):
    """The array in a binary file of `size` bytes, which numpy.save wrote."""
    try:
        version = np.lib.format.read_magic(file)
        shape, column_order, dtype = _HEADERS[version](file)
    except Exception as error:
        raise DataError(f"{where}: not a NumPy array ({str(error)[:120]})") from None
    if dtype.kind not in _KINDS and dtype != _BFLOAT16:
        what = "Python objects" if dtype.hasobject else f"the type {dtype}"
        raise DataError(f"{where}: holds {what}; expected numbers or text (numpy.array of numbers, or of str)")
    expected = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or expected != size - file.tell() or expected > _MAX_BYTES:
        raise DataError(f"{where}: {size - file.tell()} bytes of data; its header says {list(shape)} {dtype}")
    data = file.read(expected)
    if len(data) != expected:
        raise DataError(f"{where}: truncated")
    array = np.frombuffer(data, dtype) if expected else np.empty(0, dtype)
    array = from_bfloat16(array.view("<u2")) if dtype == _BFLOAT16 else array
    return array.reshape(shape, order="F" if column_order else "C")


def from_bfloat16(words):
    """Values of bfloat16, which are the upper halves of float32 values: uint16 of any shape -> float32."""
    return (words.astype(np.uint32) << 16).view(np.float32)
