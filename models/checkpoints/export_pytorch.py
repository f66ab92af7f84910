"""A checkpoint folder as the reference implementation writes it, without PyTorch.

`pytorch_model.bin`, `config.json`, the vocabulary with its two companions, and `training_args.bin`, whose settings
the reference takes over when it evaluates.
"""

import argparse
import json
from pathlib import Path

from oscar_paddle.datasets.formats.torch_writer import write_torch_file, write_torch_tensors

WEIGHTS = "pytorch_model.bin"
SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def write_pytorch_weights(folder, tensors, on_bytes):
    """Write `pytorch_model.bin`, linear weights as [out, in].

    Args:
        folder: existing folder.
        tensors: list of `models.checkpoints.weights.StoredTensor`.
        on_bytes: called with the size of every tensor written.
    """
    write_torch_tensors(Path(folder) / WEIGHTS, {tensor.name: tensor.value for tensor in tensors}, on_bytes)


def write_pytorch_settings(folder, config, settings):
    """Write `config.json`, `training_args.bin`, `special_tokens_map.json` and `added_tokens.json`.

    Args:
        folder: existing folder.
        config: dict for config.json.
        settings: InputSettings.
    """
    folder = Path(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    args = {
        **settings.to_args(),
        "use_img_layernorm": config.get("use_img_layernorm", 0),
        "img_layer_norm_eps": config.get("img_layer_norm_eps", 1e-12),
    }
    write_torch_file(folder / "training_args.bin", argparse.Namespace(**args))
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS), encoding="utf-8")
    (folder / "added_tokens.json").write_text("{}", encoding="utf-8")
