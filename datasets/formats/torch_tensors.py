"""What the names in torch.save and paddle.save files stand for here: storages and tensors as NumPy arrays."""

import math

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import from_bfloat16
from oscar_paddle.datasets.formats.pickle_names import Constructor, Inert, Refused, check_shape, made_of, shown

_MAX_REPEATED = 1 << 24  # elements of an expanded tensor (stride 0), which takes no room in the file

STORAGES = {  # torch's name of a storage -> element type
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",  # raw bytes; the tensor tells its element type
}
# torch's name of an element type -> how NumPy reads it. NumPy has no bfloat16: it is widened afterwards.
_ELEMENTS = {name: np.dtype(name) for name in {*STORAGES.values(), "uint16", "uint32", "uint64"} - {"bfloat16"}}
_ELEMENTS["bfloat16"] = np.dtype("uint16")

UNREAD = np.empty(0, np.uint8)  # stands for every tensor while the places of the storages are not known yet
UNREAD.flags.writeable = False


def storage_reference(persistent_id):
    """Torch's persistent id for a storage: (element type, key, number of elements, None or the view's (key, first
    element, number of elements))."""
    if not isinstance(persistent_id, tuple) or len(persistent_id) not in (5, 6) or persistent_id[0] != "storage":
        raise Refused("refers to something other than a tensor storage")
    _, kind, key, _, count, *rest = persistent_id
    view = rest[0] if rest else None
    check_shape((count,))
    is_view = isinstance(view, tuple) and len(view) == 3
    if not isinstance(kind, Inert) or not isinstance(key, str) or not (view is None or is_view):
        raise Refused("holds a malformed reference to a storage")
    name = kind.name.rsplit(".", 1)[-1]
    if name not in STORAGES:
        raise Refused(f"names {kind.name} as the type of a storage")
    return STORAGES[name], key, count, view


def element_bytes(element):
    """Bytes of one element as the file stores it."""
    return _ELEMENTS[element].itemsize


def flat_array(buffer, start, size, element, where):
    """The elements of the storage that lies at bytes `start` to `start` + `size` of bytes or a memory map.

    Returns:
        [n] array, read-only, a view of the buffer where that is possible (bfloat16 becomes float32).
    Raises:
        DataError: the storage does not fit the buffer or is no whole number of elements.
    """
    if start + size > len(buffer):
        raise DataError(f"{where} needs bytes {start} to {start + size}; the file is truncated at {len(buffer)}")
    dtype = _ELEMENTS[element]
    if size % dtype.itemsize:
        raise DataError(f"{where} has {size} bytes, not a multiple of {dtype.itemsize} ({element})")
    flat = np.ndarray(size // dtype.itemsize, dtype, buffer, start)
    if element == "bool":  # of any byte but 0
        flat = flat.view(np.uint8) != 0
    elif isinstance(buffer, bytes) and not flat.flags.aligned:
        flat = flat.copy()
    flat = from_bfloat16(flat) if element == "bfloat16" else flat
    flat.flags.writeable = False
    return flat


def rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    """A tensor as an array that shares the storage's memory; offset and strides count elements."""
    if storage is UNREAD:
        return UNREAD
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise Refused("builds a tensor on something other than a storage")
    if metadata:
        raise Refused("holds a conjugated or negated view; save tensor.resolve_conj().resolve_neg() instead")
    for numbers in (size, stride, (offset,)):
        check_shape(numbers)
    if len(size) != len(stride):
        raise Refused(f"a tensor of shape {size} has {len(stride)} strides")
    count = math.prod(size)
    if count == 0:
        return np.zeros(size, storage.dtype)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if last >= len(storage) or count > max(len(storage), _MAX_REPEATED):
        raise Refused(f"a tensor of shape {size} does not fit its storage of {len(storage)} elements")
    width = storage.itemsize
    return np.ndarray(size, storage.dtype, storage, offset * width, tuple(step * width for step in stride))


def _rebuild_untyped(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
    """Tensors whose storage does not know their element type (uint16 and other late additions)."""
    element = dtype.removeprefix("torch.") if isinstance(dtype, str) else ""
    if element not in _ELEMENTS or element == "bfloat16":
        raise Refused(f"holds a tensor of type {shown(dtype)}, which is not supported")
    if storage is UNREAD:
        return UNREAD
    return rebuild_tensor(storage.view(_ELEMENTS[element]), offset, size, stride, metadata=metadata)


def _rebuild_with_attributes(function, kind, arguments, state):
    """A tensor to which somebody gave Python attributes: the tensor without them."""
    if not isinstance(function, Constructor) or not isinstance(arguments, tuple):
        raise Refused("builds a tensor in an unknown way")
    return function.call(*arguments)


def _size(sizes=()):
    check_shape(tuple(sizes))
    return tuple(sizes)


def _device(kind, index=None):
    if not isinstance(kind, str) or not isinstance(index, (int, type(None))):
        raise Refused(f"names {shown(kind)} as a device")
    return kind if index is None else f"{kind}:{index}"


def _paddle_tensor(items):
    """paddle.save writes a tensor inside nested objects as tuple((name, array))."""
    items = made_of(items, (list, tuple), "a tuple")
    if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], np.ndarray):
        return items[1]
    return tuple(items)


def _paddle_dense_tensor(expression, names=None):
    """paddle.save writes a DenseTensor as eval('data', {'data': array}); nothing is evaluated here."""
    if expression == "data" and isinstance(names, dict) and isinstance(names.get("data"), np.ndarray):
        return names["data"]
    raise Refused("refuses the global 'builtins.eval' in any form but Paddle's eval('data', {'data': array})")


TENSOR_NAMES = {
    "torch._utils._rebuild_tensor": Constructor(rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Constructor(rebuild_tensor),
    "torch._utils._rebuild_tensor_v3": Constructor(_rebuild_untyped),
    "torch._utils._rebuild_parameter": Constructor(lambda data, requires_grad, hooks: data),
    "torch._utils._rebuild_parameter_with_state": Constructor(lambda data, requires_grad, hooks, state: data),
    "torch._tensor._rebuild_from_type_v2": Constructor(_rebuild_with_attributes),
    "torch.Tensor": Inert("torch.Tensor"),
    "torch.nn.parameter.Parameter": Inert("torch.nn.parameter.Parameter"),
    "torch.Size": Constructor(_size),
    "torch.device": Constructor(_device),
    **{f"torch.{name}": f"torch.{name}" for name in _ELEMENTS},
}
for _module in ("torch", "torch.cuda", "torch.storage"):
    TENSOR_NAMES.update({f"{_module}.{_name}": Inert(f"{_module}.{_name}") for _name in STORAGES})
for _module in ("builtins", "__builtin__"):  # Python 3, and pickles of protocol 2
    TENSOR_NAMES[f"{_module}.tuple"] = Constructor(_paddle_tensor)
    TENSOR_NAMES[f"{_module}.eval"] = Constructor(_paddle_dense_tensor)
