"""Reading and writing checkpoints, strictly.

On disk, and in every dictionary here, weights have PyTorch's orientation: a linear weight is [out, in]. Paddle wants
[in, out], so linear weights are transposed on the way into and out of a model, and nothing else changes. Our own
`model.safetensors` is therefore what a PyTorch program expects, too.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle.nn as nn
from safetensors import SafetensorError, deserialize
from safetensors.numpy import load_file, save_file

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.config.places import no_checkpoint
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.array_files import from_bfloat16
from oscar_paddle.datasets.formats.pickle_names import shown
from oscar_paddle.models.checkpoints import two_streams
from oscar_paddle.models.config import CONFIG, write_json_object

log = logging.getLogger(__name__)

# In this order: our own and Hugging Face's, Oscar/VinVL/BERT (PyTorch), VinVL-Paddle, PaddleNLP.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "paddle_model.bin", "model_state.pdparams")

# Types of safetensors files that NumPy can hold, and how; bfloat16 is widened afterwards.
_SAFETENSORS = {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "FIU" for size in (1, 2, 4, 8)}
_SAFETENSORS |= {"BOOL": "?", "BF16": "<u2"}

# Parts of pre-training checkpoints that no fine-tuned model has (docs/reference.md, loading).
_IGNORED_PREFIXES = ("cls.", "bert.embeddings.position_ids")
_HEAD = "classifier."
_IMAGE_PART = ("bert.img_embedding.", "bert.LayerNorm.")


def find_weights(folder):
    """The weights file of a checkpoint folder: the first of `WEIGHT_FILES` there, or ViLBERT's `two_streams.FILES`.

    WeightsError: there is none, or several of the latter.
    """
    for name in WEIGHT_FILES:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    found = [path for path in Path(folder).glob("*") if two_streams.FILES.fullmatch(path.name) and path.is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        listed = _listed([path.name for path in found])
        raise WeightsError(f"{folder}: holds the weights of several epochs, {listed}; put one into a folder of its own")
    raise WeightsError(no_checkpoint(folder) or f"{folder}: no weights here; expected one of {', '.join(WEIGHT_FILES)}")


class StoredTensor(NamedTuple):
    """One tensor of a weights file."""

    stored_name: str  # in the file
    name: str  # upstream
    value: np.ndarray  # in PyTorch's orientation
    is_transposed: bool  # whether the file has it in Paddle's orientation


def read_tensors(folder):
    """All tensors of a checkpoint folder of any kind (`WEIGHT_FILES`), in the order of the file: list of StoredTensor.

    Old names ("gamma", "beta") are brought up to date and the prefix "bert." is added where a plain encoder was saved.

    Raises:
        WeightsError: no weights, a damaged file, something in it that is not a tensor, or two tensors of one name.
    """
    path = find_weights(folder)
    state = _read_file(path)
    state.pop("StructuredToParameterName@@", None)  # Paddle's own bookkeeping
    for name, value in state.items():
        if not isinstance(name, str):
            raise WeightsError(f"{path}: the key {shown(name)} is no parameter name; is this a file of weights?")
        if not isinstance(value, np.ndarray):
            raise WeightsError(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
    names = {stored: _upstream_name(stored) for stored in state}
    is_encoder = not any(name.startswith("bert.") for name in names.values())
    by_paddle = path.name == "paddle_model.bin" or path.suffix == ".pdparams"
    from_port = by_paddle and two_streams.is_two_streams(names.values())
    tensors = {}
    for stored, value in state.items():
        name = names[stored]
        name = f"bert.{name}" if is_encoder and not name.startswith(_HEAD) else name
        if from_port:
            name, value = two_streams.from_port(name, value)
        if name in tensors:
            first = tensors[name].stored_name
            raise WeightsError(f"{path}: {first!r} and {stored!r} are both {name!r}; expected one of them")
        if by_paddle and value.dtype == np.uint16:  # how Paddle gives bfloat16 to NumPy
            value = from_bfloat16(value)
        bias = state.get(stored.removesuffix("weight") + "bias")
        transposed = by_paddle and is_stored_transposed(name, value, bias)
        if from_port:
            transposed = two_streams.is_stored_transposed(name, value)
        tensors[name] = StoredTensor(stored, name, value.T if transposed else value, transposed)
    return list(tensors.values())


def read_state(folder):
    """All tensors of a checkpoint folder as a dict name -> array in PyTorch's orientation; see `read_tensors`."""
    return {tensor.name: tensor.value for tensor in read_tensors(folder)}


def is_stored_transposed(name, value, bias=None):
    """Whether a tensor stands in Paddle's orientation in the files of the Paddle ports.

    Linear weights of the encoder and of the classifier do. Heads that the ports have no layer for ("cls.", the
    captioning head) were passed through by VinVL-Paddle's converter as PyTorch has them, and so was its MLP
    classifier; a classifier trained in the port is transposed, and the length of the layer's bias tells the two apart.
    """
    is_linear = value.ndim == 2 and name.endswith(".weight") and "embeddings." not in name
    if not is_linear or not name.startswith(("bert.", _HEAD)):
        return False
    by_bias = name.startswith(_HEAD) and bias is not None and bias.ndim == 1 and value.shape[1] != len(bias)
    return value.shape[0] != len(bias) if by_bias else True


def load_into(model, state, where, fresh=()):
    """Copy tensors into a model, all of them or none.

    Args:
        model: a Paddle layer with upstream parameter names.
        state: dict from `read_state`, of the folder `where`.
        fresh: name prefixes that may be missing, as may what starts as the model's `unread` says, which nothing
            computes with: there, other heads and shapes are no error either.
    Returns:
        list of the names that kept their initial values.
    Raises:
        WeightsError: names that are missing, unexpected, of another shape, or no floats, all listed.
    """
    targets, linear = dict(model.named_parameters()), _linear_weights(model)
    unread = tuple(getattr(model, "unread", ()))
    ignorable = (*_IGNORED_PREFIXES, *unread)
    state = {getattr(model, "tied", {}).get(name, name): state[name] for name in _tied_last(model, state)}
    shapes = {name: tuple(target.shape)[:: -1 if name in linear else 1] for name, target in targets.items()}
    unfit = [n for n in state if n in targets and n.startswith(unread) and state[n].shape != shapes[n]]
    ignored = [n for n in state if n in unfit or (n not in targets and n.startswith(ignorable))]
    kept = (*unread, *fresh)
    started = [n for n in targets if n in unfit or (n not in state and n.startswith(kept))]
    arrays = {name: state[name] for name in targets if name in state and name not in unfit}
    misshaped = [name for name, array in arrays.items() if array.shape != shapes[name]]
    if fresh and (resized := _of_other_length(arrays, shapes, getattr(model, "resizable", ()))):
        found = _listed([f"{name} {list(arrays[name].shape)} (here {list(shapes[name])})" for name in resized])
        log.warning("%s: of another number of classes, so it starts from initial values: %s", where, found)
        arrays = {name: array for name, array in arrays.items() if name not in resized}
        misshaped, started = [name for name in misshaped if name not in resized], [*started, *resized]
    problems = {
        "missing": [name for name in targets if name not in state and name not in started],
        "unexpected": [name for name in state if name not in targets and name not in ignored],
        "misshaped": [f"{n} {list(arrays[n].shape)} instead of {list(shapes[n])}" for n in misshaped],
        "no floats": [f"{name} {array.dtype}" for name, array in arrays.items() if array.dtype.kind != "f"],
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
        heads = (_HEAD, *fresh)
        is_head = fresh and all(name.startswith(heads) for names in problems.values() for name in names)
        remedy = "; PRETRAINED.FRESH_HEAD True starts with a new head" if is_head else ""
        raise WeightsError(f"{where}: the weights do not fit the model; {listed}{remedy}")
    for name, array in arrays.items():
        targets[name].set_value(np.asarray(array.T if name in linear else array, dtype=np.float32, order="C"))
    if ignored:
        log.info("%s: not used by this model: %s", where, _listed(ignored))
    if started:
        log.info("%s: starts from initial values: %s", where, _listed(started))
    return started


def _of_other_length(arrays, shapes, parts):
    """Names of the arrays of a part that all have another first dimension than the model's, and no other difference."""
    for part in parts:
        names = [name for name in arrays if name.startswith(part)]
        if names and all(
            arrays[name].shape[:1] != shapes[name][:1] and arrays[name].shape[1:] == shapes[name][1:] for name in names
        ):
            return names
    return []


def fresh_parts(state, head=(_HEAD,)):
    """Name prefixes that a fine-tuning run may start afresh: the head, and the image part on plain BERT."""
    plain_bert = not any(name.startswith("bert.img_embedding.") for name in state)
    return (*head, *_IMAGE_PART) if plain_bert else head


def without_head(state, head=()):
    """The tensors of a state but for a classifier and the task's head, given as name prefixes."""
    return {name: value for name, value in state.items() if not name.startswith((_HEAD, *head))}


def _tied_last(model, state):
    """Names of a state; those of tied copies come last, and so win where a file's copies differ, as upstream."""
    tied = getattr(model, "tied", {})
    return sorted(state, key=lambda name: name in tied)


def to_state(model):
    """Parameters of a model as a dict of PyTorch-oriented float32 arrays; tied ones are there under each name."""
    linear = _linear_weights(model)
    arrays = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    arrays |= {copy: arrays[name] for copy, name in getattr(model, "tied", {}).items()}
    return {name: np.asarray(array.T if name in linear else array, order="C") for name, array in arrays.items()}


def _linear_weights(model):
    """Names of the parameters that Paddle has transposed."""
    return {f"{name}.weight" for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)}


def write_model(folder, model):
    """Write `model.safetensors` and `config.json` into an existing folder (not atomic: see solvers.checkpoint)."""
    save_file(to_state(model), str(Path(folder) / "model.safetensors"), metadata={"format": "pt"})
    write_json_object(Path(folder) / CONFIG, model.config.to_dict())


def file_hash(path):
    """Hex digest (BLAKE2b, 16 bytes) of a file's content."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _read_file(path):
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        state = torch_files.load(path)
    except SafetensorError as error:
        size = path.stat().st_size
        raise WeightsError(f"{path}: not a whole safetensors file ({size} bytes): {error}") from None
    # VinVL-Paddle's fine-tuned checkpoints wrap the weights: {"epoch": ..., "model": {...}}.
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return state


def _read_safetensors(path):
    """The tensors of a file: the library gives NumPy no bfloat16, and does not say which tensor it cannot give."""
    with open(path, "rb") as file:
        head = file.read(min(int.from_bytes(file.read(8), "little"), path.stat().st_size))
    try:
        types = {name: str(info["dtype"]) for name, info in json.loads(head).items() if name != "__metadata__"}
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        types = {}  # the library says what is wrong
    for name, kind in types.items():
        if kind not in _SAFETENSORS:
            expected = "expected F32, F16, BF16 or F64; save the weights as one of these"
            raise WeightsError(f"{path}: tensor {name!r} has the type {kind}, which cannot be read; {expected}")
    if "BF16" not in types.values():
        return load_file(str(path))
    found = {name: (info["dtype"], info["shape"], info["data"]) for name, info in deserialize(path.read_bytes())}
    arrays = {
        name: np.frombuffer(data, _SAFETENSORS[kind]).reshape(shape) for name, (kind, shape, data) in found.items()
    }
    return {name: from_bfloat16(array) if types[name] == "BF16" else array for name, array in arrays.items()}


def _upstream_name(name):
    """Old TensorFlow-converted BERT says gamma and beta; a data-parallel wrapper adds "module."."""
    head, _, last = name.removeprefix("module.").rpartition(".")
    last = {"gamma": "weight", "beta": "bias"}.get(last, last)
    return f"{head}.{last}" if head else last


def _listed(names, most=12):
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
