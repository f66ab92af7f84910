"""A checkpoint folder as VinVL-Paddle reads it: `paddle_model.bin` for its trainer or its evaluation, `config.json`.

The file is a pickle that paddle.load of Paddle 2 and 3 reads, under NumPy 1 and 2; paddle.save itself would name
modules that only the writer's own NumPy has. Linear weights of the encoder and the classifier stand as [in, out].
"""

import json
from pathlib import Path

from oscar_paddle.datasets.formats.pickle_writer import Call, Name, write_pickle
from oscar_paddle.models.checkpoints.weights import is_stored_transposed

WEIGHTS = "paddle_model.bin"
_PROTOCOL = 4  # what paddle.save uses


def stands_transposed(tensor):
    """Whether VinVL-Paddle wants this StoredTensor in Paddle's orientation."""
    return is_stored_transposed(tensor.name, tensor.value)


def write_paddle_weights(folder, tensors, on_bytes, epoch=None):
    """Write `paddle_model.bin`.

    Args:
        folder: existing folder.
        tensors: list of `models.checkpoints.weights.StoredTensor`.
        on_bytes: called with the size of every tensor written.
        epoch: int, the last epoch trained, for the form that VinVL-Paddle saves and evaluates ({"epoch", "model"});
            None for the plain form that its training starts from (PRETRAINED.DIR).
    """
    arrays = {t.name: t.value.T if stands_transposed(t) else t.value for t in tensors}
    if epoch is None:  # as paddle.save writes a state dict: arrays, and a table of the tensors' own names
        content = {**arrays, "StructuredToParameterName@@": {name: name for name in arrays}}
    else:  # as it writes tensors inside other objects
        named = {name: Call(Name("builtins", "tuple"), ((name, array),)) for name, array in arrays.items()}
        content = {"epoch": epoch, "model": named}
    with open(Path(folder) / WEIGHTS, "wb") as file:
        write_pickle(_Counted(file, on_bytes), content, _PROTOCOL)


class _Counted:
    """A file that says how much of the arrays is written to it."""

    def __init__(self, file, on_bytes):
        self.file, self.on_bytes = file, on_bytes

    def write(self, data):
        self.file.write(data)
        if isinstance(data, memoryview):
            self.on_bytes(len(data))


def write_paddle_config(folder, config):
    """Write `config.json` with the port's names for the region features beside the reference's."""
    names = {"img_feat_dim": config["img_feature_dim"], "img_feat_type": config["img_feature_type"]}
    text = json.dumps({**config, **names}, indent=2, sort_keys=True) + "\n"
    (Path(folder) / "config.json").write_text(text, encoding="utf-8")
