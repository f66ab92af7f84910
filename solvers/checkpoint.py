"""Full training state on disk: written whole or not at all, verified when read.

A checkpoint folder holds `model.safetensors`, `config.json`, `vocab.txt`, `tokenizer_config.json` (what evaluation
needs), `optimizer.safetensors` (both moments) and `trainer_state.json` (position, schedule, loss scaler, scores,
config, and the hashes of all files). Random state needs no file: every draw is a function of seed, epoch, index, step
and rank.
"""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from oscar_paddle.config.errors import TrainingError, WeightsError
from oscar_paddle.config.places import no_checkpoint
from oscar_paddle.datasets.formats.whole_files import flush, whole_folder
from oscar_paddle.models.checkpoints.weights import file_hash, load_into, write_model

log = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"


def save_checkpoint(folder, model, optimizer, tokenizer, state):
    """Write a checkpoint: into a temporary folder, flushed to disk, then renamed.

    Args:
        folder: Path checkpoint-<step>, which must not exist yet.
        model, optimizer, tokenizer: what to save.
        state: JSON-serialisable dict, becomes trainer_state.json.
    Raises:
        TrainingError: the disk is full or the folder cannot be written; what was there before is untouched.
    """
    try:
        with whole_folder(folder, replace=False) as temporary:
            write_model(temporary, model)
            tokenizer.save(temporary)
            moments = {name: tensor.numpy() for name, tensor in optimizer.moments().items()}
            save_file(moments, str(temporary / OPTIMIZER_FILE))
            hashes = {path.name: file_hash(path) for path in sorted(temporary.iterdir())}
            state = {**state, "optimizer_updates": optimizer.updates, "hashes": hashes}
            text = json.dumps({**state, "digest": _digest(state)}, indent=2)
            (temporary / STATE_FILE).write_text(text + "\n", encoding="utf-8")
            mode = (temporary / STATE_FILE).stat().st_mode
            for path in temporary.iterdir():
                path.chmod(mode)  # safetensors makes files that nobody else can read
                flush(path)
            flush(temporary)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"{folder}: cannot write the checkpoint: {reason}; earlier checkpoints are whole") from None


def read_training_state(folder):
    """`trainer_state.json` of a checkpoint that is, with all its files, as it was written.

    Raises:
        WeightsError: no such folder, not a training checkpoint, or a file that was damaged since.
    """
    path = Path(folder) / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        digest, hashes = state.pop("digest"), state["hashes"]
    except (FileNotFoundError, NotADirectoryError):
        missing = f"{folder}: no {STATE_FILE} here, so training cannot be resumed from it"
        raise WeightsError(no_checkpoint(folder) or missing) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a trainer state: {error}") from None
    if digest != _digest(state):
        raise WeightsError(f"{path}: damaged: its content is not what was written")
    for name, expected in hashes.items():
        file = Path(folder) / name
        if not file.is_file():
            raise WeightsError(f"{file}: missing from the checkpoint")
        if file_hash(file) != expected:
            raise WeightsError(f"{file}: damaged: its content is not what was written")
    return state


def restore_checkpoint(folder, model, optimizer, state):
    """Load weights and moments; `state` comes from `read_training_state`."""
    folder = Path(folder)
    load_into(model, load_file(str(folder / MODEL_FILE)), folder)  # our own names: nothing to guess, any model
    moments = load_file(str(folder / OPTIMIZER_FILE))
    targets = optimizer.moments()
    if set(moments) != set(targets):
        differing = sorted(set(moments) ^ set(targets))
        raise WeightsError(f"{folder}/{OPTIMIZER_FILE}: does not fit the model; differing: {', '.join(differing[:5])}")
    for name, tensor in targets.items():
        tensor.set_value(np.ascontiguousarray(moments[name]))


def newest_checkpoint(run_folder):
    """The newest whole checkpoint of a run and its state, or (None, None); damaged ones are named and passed over."""
    for folder in reversed(run_folder.checkpoints().values()):
        try:
            return folder, read_training_state(folder)
        except WeightsError as error:
            log.warning("passing over a damaged checkpoint: %s", error)
    return None, None


def _digest(state):
    return hashlib.blake2b(json.dumps(state, sort_keys=True).encode(), digest_size=16).hexdigest()
