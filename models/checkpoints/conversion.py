"""Checkpoint folders from one framework's form to another's, bit for bit.

Names are the same everywhere (but for outdated ones, which are brought up to date); the Paddle ports have linear
weights transposed. Heads of other tasks keep their names and come along.
"""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from oscar_paddle.config.errors import ConfigError, DataError, UserError, WeightsError
from oscar_paddle.datasets.tokenization import VOCAB_FILE, build_tokenizer
from oscar_paddle.models.checkpoints import export_pytorch, export_vinvl_paddle
from oscar_paddle.models.checkpoints.input_settings import ARGS_JSON, TRAINER_STATE, InputSettings, read_input_settings
from oscar_paddle.models.checkpoints.weights import find_weights, read_tensors
from oscar_paddle.models.config import BertConfig

log = logging.getLogger(__name__)

OURS, PYTORCH, VINVL_PADDLE, VINVL_PADDLE_PRETRAINED = FORMATS = (
    "oscar-paddle",
    "pytorch",
    "vinvl-paddle",
    "vinvl-paddle-pretrained",
)
_PADDLE = (VINVL_PADDLE, VINVL_PADDLE_PRETRAINED)
_WEIGHTS = {OURS: "model.safetensors", PYTORCH: export_pytorch.WEIGHTS, **dict.fromkeys(_PADDLE, "paddle_model.bin")}

# What the reference and VinVL-Paddle expect config.json to have; a plain BERT's lacks some.
_EXPECTED_IN_CONFIG = {
    "img_feature_dim": 2054,
    "img_feature_type": "frcnn",
    "loss_type": "sfmx",
    "num_labels": 2,
    "finetuning_task": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "pruned_heads": {},
    "torchscript": False,
}


class Source(NamedTuple):
    """A checkpoint folder, read.

    Attributes:
        weights: path of the weights file.
        tensors: list of StoredTensor.
        config: dict, config.json as it is, with what the other programs expect added.
        settings: InputSettings.
        vocab: path of vocab.txt, or None.
        epoch: the last epoch trained, counted from 0, where the folder tells; else 0.
    """

    weights: Path
    tensors: list
    config: dict
    settings: InputSettings
    vocab: Path | None
    epoch: int


def read_source(folder, vocab=""):
    """Read a checkpoint folder of any kind.

    Args:
        folder: see `models.checkpoints.weights.read_tensors`.
        vocab: vocab.txt, or a folder that holds one; "" = the one in the folder, if any.
    Returns:
        Source.
    Raises:
        WeightsError: weights, config or settings are missing or damaged. DataError: `vocab` is not a vocabulary.
    """
    folder = Path(folder)
    weights = find_weights(folder)
    BertConfig.from_json_file(folder / "config.json")  # refuses what is none
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = read_tensors(folder)
    config = _complete(config, {tensor.name: tensor.value for tensor in tensors}, folder)
    vocab_file = Path(vocab) if vocab else folder / VOCAB_FILE
    vocab_file = vocab_file / VOCAB_FILE if vocab and vocab_file.is_dir() else vocab_file
    if vocab and not vocab_file.is_file():
        raise DataError(f"{vocab_file}: no such file (--vocab)")
    settings = read_input_settings(folder, config)
    return Source(weights, tensors, config, settings, vocab_file if vocab_file.is_file() else None, _last_epoch(folder))


def _complete(config, state, folder):
    """config.json under the reference's names, with the keys that it or VinVL-Paddle cannot do without."""
    ported = {"img_feat_dim": "img_feature_dim", "img_feat_type": "img_feature_type"}
    config = {**{ported[key]: config[key] for key in ported if key in config}, **config}
    config = {key: value for key, value in config.items() if key not in ported}
    found = {**_EXPECTED_IN_CONFIG, **config}
    shapes = ("bert.img_embedding.weight", "img_feature_dim", 1), ("classifier.weight", "num_labels", 0)
    for name, key, axis in shapes:
        if name in state and key not in config and state[name].ndim == 2:
            found[key] = state[name].shape[axis]
    has_norm = "bert.LayerNorm.weight" in state
    if has_norm != bool(config.get("use_img_layernorm")) and "bert.img_embedding.weight" in state:
        log.warning(
            "%s/config.json: use_img_layernorm is %s, but the weights have %s bert.LayerNorm",
            folder,
            config.get("use_img_layernorm", "absent (off)"),
            "a" if has_norm else "no",
        )
    return found


def _last_epoch(folder):
    try:
        finished = json.loads((folder / TRAINER_STATE).read_text(encoding="utf-8"))["epoch"]
        return max(0, int(finished) - 1)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


# ---- what will be done ----


def plan_rows(source, target):
    """What becomes of every tensor.

    Args:
        source: Source. target: one of FORMATS.
    Returns:
        list of (name in the new file, shape there, type, action).
    """
    rows = []
    for tensor in source.tensors:
        transposed = target in _PADDLE and export_vinvl_paddle.stands_transposed(tensor)
        actions = [] if tensor.name == tensor.stored_name else [f"rename from {tensor.stored_name}"]
        actions += ["transpose"] if transposed != tensor.is_transposed else []
        shape = list(tensor.value.T.shape if transposed else tensor.value.shape)
        rows.append((tensor.name, str(shape), tensor.value.dtype.name, ", ".join(actions) or "keep"))
    return rows


def plan_lines(source, target):
    """The plan as a table, and what else is written, one line each."""
    rows = [("name", "shape", "type", "action"), *plan_rows(source, target)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    lines.append(summary(source))
    settings, origin = source.settings, source.settings.source or "none in the folder: the published ones"
    lines.append(
        f"input settings ({origin}): max_seq_length {settings.max_seq_length}, max_img_seq_length "
        f"{settings.max_img_seq_length}, do_lower_case {settings.do_lower_case}, add_od_labels {settings.add_od_labels}"
    )
    lines.append(f"vocabulary: {source.vocab or 'none'}")
    return lines


def summary(source):
    """What a checkpoint is, in one line."""
    million = sum(tensor.value.size for tensor in source.tensors) / 1e6
    size = sum(tensor.value.nbytes for tensor in source.tensors) / 1e6
    names = {tensor.name for tensor in source.tensors}
    heads = sorted({name.split(".")[0] for name in names if not name.startswith("bert.")})
    return ", ".join(
        [
            f"{len(names)} tensors, {million:.2f} million values, {size:.1f} MB: "
            f"{source.config.get('num_hidden_layers', 12)} layers of width {source.config.get('hidden_size', 768)}",
            "with regions" if "bert.img_embedding.weight" in names else "text only",
            f"head {', '.join(heads)}" if heads else "no head",
        ]
    )


# ---- writing ----


def convert(source, folder, target):
    """Write a checkpoint folder in another form, whole or not at all.

    Args:
        source: Source.
        folder: the new folder; it must not exist, or be empty.
        target: one of FORMATS.
    Raises:
        ConfigError: the folder holds something. WeightsError: the target needs a vocabulary and there is none.
        UserError: it cannot be written.
    """
    folder = Path(folder)
    check_target(source, folder, target)
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=folder.parent))
        total = sum(tensor.value.nbytes for tensor in source.tensors)
        with tqdm(total=total, desc=_WEIGHTS[target], unit="B", unit_scale=True, delay=1, dynamic_ncols=True) as bar:
            _write(source, temporary, target, bar.update)
        temporary.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()  # an empty one
        os.rename(temporary, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_target(source, folder, target):
    """Refuse what `convert` could not finish; see there."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--output {folder}: is there already; expected a new folder, nothing is overwritten")
    if target == PYTORCH and source.vocab is None:
        raise WeightsError(
            f"{source.weights.parent}: no {VOCAB_FILE}, and the reference needs one; name it with --vocab FILE"
        )


def _write(source, folder, target, on_bytes):
    if target == OURS:
        # save_file writes the memory of an array as it lies, whatever its strides say.
        arrays = {tensor.name: np.asarray(tensor.value, order="C") for tensor in source.tensors}
        save_file(arrays, str(folder / _WEIGHTS[OURS]), metadata={"format": "pt"})
        (folder / _WEIGHTS[OURS]).chmod(0o644)  # the library makes files for the owner only
        on_bytes(sum(array.nbytes for array in arrays.values()))
        text = json.dumps(source.config, indent=2, sort_keys=True) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
    elif target == PYTORCH:
        export_pytorch.write_pytorch_weights(folder, source.tensors, on_bytes)
        export_pytorch.write_pytorch_settings(folder, source.config, source.settings)
    else:
        epoch = source.epoch if target == VINVL_PADDLE else None
        export_vinvl_paddle.write_paddle_weights(folder, source.tensors, on_bytes, epoch)
        export_vinvl_paddle.write_paddle_config(folder, source.config)
    if target != PYTORCH and source.settings.source:  # so that the way back to PyTorch still knows them
        args = json.dumps(source.settings.to_args(), indent=2, sort_keys=True) + "\n"
        (folder / ARGS_JSON).write_text(args, encoding="utf-8")
    if source.vocab is None:
        log.warning("%s: no %s, so the new folder has none (--vocab FILE)", source.weights.parent, VOCAB_FILE)
        return
    if target != PYTORCH:  # PaddleNLP reads casing from tokenizer_config.json, which `save` writes
        build_tokenizer(str(source.vocab), source.settings.do_lower_case).save(folder)
    shutil.copyfile(source.vocab, folder / VOCAB_FILE)
