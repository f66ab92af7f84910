"""What a checkpoint folder of each form holds, written without PyTorch: weights, config.json, and what goes with them.

The reference wants `pytorch_model.bin`, two companions of the vocabulary, and `training_args.bin`, whose settings it
takes over when it evaluates; ViLBERT's programs want the first alone. VinVL-Paddle wants `paddle_model.bin`: a pickle
that paddle.load of Paddle 2 and 3 reads, under NumPy 1 and 2 (paddle.save itself would name modules that only the
writer's own NumPy has), with linear weights of the encoder and the classifier as [in, out], and the port's names for
the region features beside the reference's.

In all functions: folder: an existing one. source: `models.checkpoints.conversion.Source`. on_bytes: called with sizes
that add up to that of all tensors.
"""

import argparse
import json

import numpy as np
from safetensors.numpy import save_file

from oscar_paddle.datasets.formats.pickle_writer import Call, Name, write_pickle
from oscar_paddle.datasets.formats.torch_writer import write_torch_file, write_torch_tensors
from oscar_paddle.models.checkpoints import two_streams
from oscar_paddle.models.checkpoints.input_settings import ARGS_BIN, ARGS_JSON
from oscar_paddle.models.checkpoints.weights import is_stored_transposed
from oscar_paddle.models.config import CONFIG, PORTED_NAMES, write_json_object

VILBERT_PADDLE_WEIGHTS = "paddle_model_0.pdparams"  # upstream: the number of the epoch
OUR_WEIGHTS, PYTORCH_WEIGHTS, PADDLE_WEIGHTS = "model.safetensors", "pytorch_model.bin", "paddle_model.bin"
_SPECIAL_TOKENS = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
_PICKLE_PROTOCOL = 4  # what paddle.save uses


def write_ours(folder, source, on_bytes):
    # save_file writes the memory of an array as it lies, whatever its strides say.
    arrays = {tensor.name: np.asarray(tensor.value, order="C") for tensor in source.tensors}
    save_file(arrays, str(folder / OUR_WEIGHTS), metadata={"format": "pt"})
    (folder / OUR_WEIGHTS).chmod(0o644)  # the library makes files for the owner only
    on_bytes(sum(array.nbytes for array in arrays.values()))
    write_json_object(folder / CONFIG, source.config)
    _keep_settings(folder, source.settings)


def write_pytorch(folder, source, on_bytes):
    tensors = {tensor.name: tensor.value for tensor in source.tensors}
    write_torch_tensors(folder / PYTORCH_WEIGHTS, tensors, on_bytes)
    write_json_object(folder / CONFIG, source.config)
    if source.has_two_streams:  # its programs read nothing else
        _keep_settings(folder, source.settings)
        return
    layernorm = {"use_img_layernorm": 0, "img_layer_norm_eps": 1e-12}
    args = {**source.settings.to_args(), **{key: source.config.get(key, usual) for key, usual in layernorm.items()}}
    write_torch_file(folder / ARGS_BIN, argparse.Namespace(**args))
    (folder / "special_tokens_map.json").write_text(json.dumps(_SPECIAL_TOKENS), encoding="utf-8")
    (folder / "added_tokens.json").write_text("{}", encoding="utf-8")


def write_vinvl_paddle(folder, source, on_bytes):
    """The form that VinVL-Paddle saves and evaluates: {"epoch", "model"}."""
    named = {name: Call(Name("builtins", "tuple"), ((name, array),)) for name, array in _paddle_arrays(source).items()}
    _write_paddle(folder, source, on_bytes, {"epoch": source.epoch, "model": named})


def write_vinvl_paddle_pretrained(folder, source, on_bytes):
    """The plain form that its training starts from (PRETRAINED.DIR): arrays, and a table of the tensors' own names."""
    arrays = _paddle_arrays(source)
    _write_paddle(folder, source, on_bytes, {**arrays, "StructuredToParameterName@@": {name: name for name in arrays}})


def write_vilbert_paddle(folder, source, on_bytes):
    """The form of the ViLBERT port, plain as well: all matrices as [in, out], and its name for one bias."""
    arrays = {
        two_streams.port_name(t.name): t.value.T if two_streams.is_stored_transposed(t.name, t.value) else t.value
        for t in source.tensors
    }
    content = {**arrays, "StructuredToParameterName@@": {name: name for name in arrays}}
    with open(folder / VILBERT_PADDLE_WEIGHTS, "wb") as file:
        write_pickle(_Counted(file, on_bytes), content, _PICKLE_PROTOCOL)
    write_json_object(folder / CONFIG, source.config)
    _keep_settings(folder, source.settings)


def _paddle_arrays(source):
    return {t.name: t.value.T if is_stored_transposed(t.name, t.value) else t.value for t in source.tensors}


def _write_paddle(folder, source, on_bytes, content):
    with open(folder / PADDLE_WEIGHTS, "wb") as file:
        write_pickle(_Counted(file, on_bytes), content, _PICKLE_PROTOCOL)
    write_json_object(
        folder / CONFIG, {**source.config, **{port: source.config[name] for port, name in PORTED_NAMES.items()}}
    )
    _keep_settings(folder, source.settings)


def _keep_settings(folder, settings):
    """What the folder told, so that the next conversion still knows it."""
    if settings.source:
        write_json_object(folder / ARGS_JSON, settings.to_args())


class _Counted:
    """A file that says how much of the arrays is written to it."""

    def __init__(self, file, on_bytes):
        self.file, self.on_bytes = file, on_bytes

    def write(self, data):
        self.file.write(data)
        if isinstance(data, memoryview):
            self.on_bytes(len(data))
