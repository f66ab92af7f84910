"""Reads what torch.save, paddle.save and pickle wrote, without PyTorch and without running what the file says.

Three containers (numbers are little-endian):
- torch.save before 1.6: five pickles in a row (magic number, version, system information, the object, storage
  keys), then per key an 8-byte element count and the raw elements. The object refers to storages by key.
- torch.save since 1.6: an uncompressed zip archive with `<name>/data.pkl` and one `<name>/data/<key>` per storage.
- a plain pickle: paddle.save (.pd, .pdparams, paddle_model.bin) and .pkl files.

Source of the formats: files written by PyTorch 2.13 and Paddle 3.3.1 (tests/golden/torch_files/make_fixtures.py).
"""

import io
import mmap
import os
import struct
import zipfile

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import restricted_pickle
from oscar_paddle.datasets.formats.kinds import describe
from oscar_paddle.datasets.formats.pickle_names import Constructor, Refused
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.formats.torch_tensors import (
    TENSOR_NAMES,
    UNREAD,
    element_bytes,
    flat_array,
    rebuild_tensor,
    storage_reference,
)

MAP_FROM_BYTES = 64 << 20  # smaller files are read into memory: no page faults, and the file may change afterwards
_OLD_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")  # the integer of the first pickle of an old file
_OLD_VERSION = 1001
_EXPECTED = "expected a file written by torch.save, paddle.save or pickle"


def load(path, map_from=MAP_FROM_BYTES):
    """Read the object in a `.pt`, `.bin`, `.pd`, `.pdparams` or `.pkl` file.

    Args:
        map_from: files of at least this many bytes are memory-mapped, so that only what is used is read.
    Returns:
        Python containers, scalars and strings; torch tensors and parameters as read-only NumPy arrays that share
        the file's storages (bfloat16 becomes float32; those in a memory map may be unaligned); Paddle tensors as
        NumPy arrays; `argparse.Namespace`; torch devices and dtypes as their names; torch.Size as a tuple.
        Paddle's sliced parameters are joined and its table of internal names is left out.
    Raises:
        DataError: no such file, not such a file (says what it is), truncated, sizes that do not fit, big-endian,
            compressed, or a global that data and weights do not need (named).
    """
    with reading(path), open(path, "rb") as file:
        small = os.fstat(file.fileno()).st_size < map_from
        buffer = file.read() if small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # pickle.dump of a torch tensor wraps its storage in a torch.save file of its own.
    inside = Constructor(lambda data: _load_buffer(data, f"{path}: a tensor inside the pickle", TENSOR_NAMES))
    return _load_buffer(buffer, str(path), {**TENSOR_NAMES, "torch.storage._load_from_bytes": inside})


def load_dictionary(path, what):
    """Read a file that holds one dictionary by image id, not empty; `what` its values are is for the message.

    Raises:
        DataError: as `load`, or it holds something else.
    """
    found = load(path)
    if not isinstance(found, dict) or not found:
        kind = "an empty dictionary" if isinstance(found, dict) else f"an object of type {type(found).__name__}"
        raise DataError(f"{path}: holds {kind}; expected a dictionary image id -> {what}")
    return found


def _load_buffer(buffer, where, names):
    if buffer[:4] == b"PK\x03\x04":
        return _load_zip(buffer, where, names)
    if _OLD_MAGIC in buffer[:64]:
        return _load_old(buffer, where, names)
    found = describe(buffer[:512])
    if not found and buffer[:1] != b"\x80" and buffer[-1:] != b".":  # every pickle ends with a full stop
        found = f"something else (it starts with {bytes(buffer[:16])!r})"
    if found:
        raise DataError(f"{where}: {_EXPECTED}, found {found}")
    return _join_paddle_slices(restricted_pickle.load(buffer, where, names), where)


# ---- torch.save before 1.6 ----


def _load_old(buffer, where, names):
    """The places of the storages follow from their sizes, which only the object tells: so it is read twice."""
    position, headers = 0, []
    for _ in range(3):
        header, position = restricted_pickle.load_at(buffer, position, where)
        headers.append(header)
    if headers[1] != _OLD_VERSION or not isinstance(headers[2], dict):
        raise DataError(f"{where}: damaged, or a version of torch.save other than {_OLD_VERSION}")
    _check_order(headers[2].get("little_endian") is True, where)
    declared = {}  # storage key -> (element type, number of elements)

    def declare(persistent_id):
        element, key, count, _ = storage_reference(persistent_id)
        if declared.setdefault(key, (element, count)) != (element, count):
            raise Refused(f"storage {key[:40]!r} has two sizes or types")
        return UNREAD

    _, end = restricted_pickle.load_at(buffer, position, where, names, declare)
    keys, end = restricted_pickle.load_at(buffer, end, where)
    arrays = _old_storages(buffer, end, keys, declared, where)

    def storage(persistent_id):
        _, key, _, view = storage_reference(persistent_id)
        return arrays[key] if view is None else rebuild_tensor(arrays[key], view[1], (view[2],), (1,))

    return restricted_pickle.load_at(buffer, position, where, names, storage)[0]


def _check_order(is_little, where):
    if not is_little:
        raise DataError(f"{where}: was written on a big-endian machine; little-endian is expected")


def _old_storages(buffer, position, keys, declared, where):
    """The storages that follow the last pickle: key -> flat array."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(declared):
        raise DataError(f"{where}: damaged: the list of storages does not match the tensors")
    arrays = {}
    for key in keys:
        element, count = declared[key]
        if position + 8 > len(buffer):
            raise DataError(f"{where}: truncated: storage {key!r} is missing; the file ends at byte {len(buffer)}")
        found = int.from_bytes(buffer[position : position + 8], "little", signed=True)
        if found != count:
            raise DataError(f"{where}: damaged: storage {key!r} should have {count} elements, its header says {found}")
        size = count * element_bytes(element)
        arrays[key] = flat_array(buffer, position + 8, size, element, f"{where}: storage {key!r}")
        position += 8 + size
    return arrays


# ---- torch.save since 1.6 ----


def _load_zip(buffer, where, names):
    members = _zip_members(buffer, where)
    programs = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise DataError(f"{where}: {_EXPECTED}, found a zip archive without <name>/data.pkl (a .npz file?)")
    folder = programs[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in members:
        raise DataError(f"{where}: holds a TorchScript program (torch.jit.save); its state_dict() is expected")
    order = members.get(folder + "byteorder")
    _check_order(order is None or _member_bytes(buffer, order, where) == b"little", where)
    arrays = {}

    def storage(persistent_id):
        element, key, count, _ = storage_reference(persistent_id)
        if (key, element) not in arrays:
            name = f"{folder}data/{key}"
            if name not in members:
                raise Refused(f"damaged: the archive has no member {name[:80]!r}")
            start, size = _member_place(buffer, members[name], where)
            arrays[key, element] = flat_array(buffer, start, size, element, f"{where}: member {name[:80]!r}")
        flat = arrays[key, element]
        if len(flat) != count:
            raise Refused(f"damaged: storage {key[:40]!r} should have {count} elements, found {len(flat)}")
        return flat

    program = _member_bytes(buffer, members[programs[0]], where)
    return restricted_pickle.load_at(program, 0, where, names, storage)[0]


def _zip_members(buffer, where):
    """The archive's table of contents: name -> zipfile.ZipInfo."""
    try:
        with zipfile.ZipFile(io.BytesIO(buffer) if isinstance(buffer, bytes) else buffer) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile fails in many ways on damaged archives; callers see one error class
        raise DataError(f"{where}: truncated or damaged file of torch.save (zip archive: {error})") from None
    members = {}
    for info in infos:
        name = info.filename
        if name[:1] in ("/", "\\") or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
            raise DataError(f"{where}: refuses the archive member {name[:80]!r}: its path leads out of the archive")
        if name in members:
            raise DataError(f"{where}: damaged: two archive members are called {name[:80]!r}")
        members[name] = info
    return members


def _member_place(buffer, info, where):
    """(start, size) of a member's bytes, which torch.save stores uncompressed."""
    name = f"{where}: archive member {info.filename[:80]!r}"
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise DataError(f"{name} is compressed or encrypted; torch.save stores plainly")
    header = buffer[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise DataError(f"{name}: damaged: its header is not where the table of contents says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))  # lengths of name and extra field
    if start + info.file_size > len(buffer):
        raise DataError(f"{name}: truncated: {info.file_size} bytes from byte {start} on do not fit the file")
    return start, info.file_size


def _member_bytes(buffer, info, where):
    start, size = _member_place(buffer, info, where)
    return buffer[start : start + size]


# ---- plain pickles ----


def _join_paddle_slices(value, where):
    """Undoes what paddle.save does to a state dict: parameters over 1 GiB in slices, a table of internal names."""
    if not isinstance(value, dict):
        return value
    value.pop("StructuredToParameterName@@", None)
    slices = value.pop("UnpackBigParamInfor@@", {})
    try:
        for name, entry in slices.items():
            parts = [value.pop(part) for part in entry["slices"]]
            value[name] = np.concatenate(parts).reshape(entry["OriginShape"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: the slices of a large parameter do not fit together ({error})") from None
    return value
