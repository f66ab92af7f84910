"""Checkpoint folders from one framework's form to another's, bit for bit.

Names are the same everywhere (but for outdated ones, which are brought up to date); the Paddle ports have linear
weights transposed. Heads of other tasks keep their names and come along.
"""

import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from oscar_paddle.config.errors import ConfigError, DataError, UserError, WeightsError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.whole_files import whole_folder
from oscar_paddle.datasets.tokenization import VOCAB_FILE, build_tokenizer
from oscar_paddle.models.checkpoints import export, two_streams
from oscar_paddle.models.checkpoints.input_settings import (
    TRAINER_STATE,
    InputSettings,
    check_meaning,
    read_input_settings,
)
from oscar_paddle.models.checkpoints.weights import find_weights, is_stored_transposed, read_tensors
from oscar_paddle.models.config import CONFIG, PORTED_NAMES, read_json_object, read_model_config

log = logging.getLogger(__name__)

FORMATS = ("oscar-paddle", "pytorch", "vinvl-paddle", "vinvl-paddle-pretrained", "vilbert-paddle")
OURS, PYTORCH, VINVL_PADDLE, VINVL_PADDLE_PRETRAINED, VILBERT_PADDLE = FORMATS
_WRITERS = {  # form -> its weights file, and what writes the folder
    OURS: (export.OUR_WEIGHTS, export.write_ours),
    PYTORCH: (export.PYTORCH_WEIGHTS, export.write_pytorch),
    VINVL_PADDLE: (export.PADDLE_WEIGHTS, export.write_vinvl_paddle),
    VINVL_PADDLE_PRETRAINED: (export.PADDLE_WEIGHTS, export.write_vinvl_paddle_pretrained),
    VILBERT_PADDLE: (export.VILBERT_PADDLE_WEIGHTS, export.write_vilbert_paddle),
}

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
# Key of config.json -> the weight that shows its value, and along which axis.
_SHOWN_BY = {"img_feature_dim": ("bert.img_embedding.weight", 1), "num_labels": ("classifier.weight", 0)}


class Source(NamedTuple):
    """A checkpoint folder, read."""

    weights: Path  # of the weights file
    tensors: list  # of StoredTensor
    config: dict  # config.json as it is, with what the other programs expect added
    settings: InputSettings
    vocab: Path | None  # vocab.txt
    epoch: int  # the last one trained, counted from 0, where the folder tells; else 0

    @property
    def has_two_streams(self):
        """Whether this is a ViLBERT."""
        return two_streams.is_two_streams(tensor.name for tensor in self.tensors)


def read_source(folder, vocab=""):
    """Read a checkpoint folder of any kind (see `models.checkpoints.weights.read_tensors`) as a Source.

    Args:
        vocab: vocab.txt, or a folder that holds one; "" = the one in the folder, if any.
    Raises:
        WeightsError: weights, config or settings are missing or damaged. DataError: `vocab` is not a vocabulary.
    """
    folder = Path(folder)
    read_model_config(folder)  # refuses what is none
    weights, tensors = find_weights(folder), _words_once(folder, read_tensors(folder))
    config = _complete(folder, {tensor.name: tensor.value for tensor in tensors})
    vocab_file = Path(vocab or folder)
    vocab_file = vocab_file / VOCAB_FILE if vocab_file.is_dir() else vocab_file
    if not vocab_file.is_file():
        if vocab:
            raise DataError(f"{vocab_file}: no such file (--vocab)")
        vocab_file = None
    settings = read_input_settings(folder, config)
    if vocab_file:
        check_meaning(folder, build_tokenizer(str(vocab_file), do_lower_case=True).vocab)
    return Source(weights, tensors, config, settings, vocab_file, _last_epoch(folder))


def _words_once(folder, tensors):
    """The tensors, with a ViLBERT's decoder of words as PyTorch must find it; see `two_streams`."""
    state = {tensor.name: tensor.value for tensor in tensors}
    words = two_streams.decoder_for_pytorch(state) if two_streams.is_two_streams(state) else None
    if words is None:
        return tensors
    log.warning(
        "%s: %s is an older copy of %s, which is written in its place", folder, two_streams.DECODER, two_streams.WORDS
    )
    return [tensor._replace(value=words) if tensor.name == two_streams.DECODER else tensor for tensor in tensors]


def _complete(folder, state):
    """config.json under the reference's names, with the keys that it or VinVL-Paddle cannot do without."""
    said = read_json_object(folder / CONFIG)
    if two_streams.is_two_streams(state):
        return said
    ported = {name: said.pop(port) for port, name in PORTED_NAMES.items() if port in said}
    said = {**ported, **said}
    matrices = {name: value.shape for name, value in state.items() if value.ndim == 2}
    shown = {key: matrices[name][axis] for key, (name, axis) in _SHOWN_BY.items() if name in matrices}
    has_norm = "bert.LayerNorm.weight" in state
    if has_norm != bool(said.get("use_img_layernorm")) and "bert.img_embedding.weight" in state:
        setting, there = said.get("use_img_layernorm", "absent (off)"), "a" if has_norm else "no"
        log.warning(
            "%s/%s: use_img_layernorm is %s, but the weights have %s bert.LayerNorm", folder, CONFIG, setting, there
        )
    return {**_EXPECTED_IN_CONFIG, **shown, **said}


def _last_epoch(folder):
    try:
        return max(0, int(read_json_object(folder / TRAINER_STATE)["epoch"]) - 1)
    except (WeightsError, ValueError, KeyError, TypeError):
        return 0


# ---- what will be done ----


def plan_rows(source, target):
    """What becomes of every tensor: list of (name in the new file, shape there, type, action)."""
    rows, for_port = [], target in (VINVL_PADDLE, VINVL_PADDLE_PRETRAINED, VILBERT_PADDLE)
    turned = two_streams.is_stored_transposed if target == VILBERT_PADDLE else is_stored_transposed
    for tensor in source.tensors:
        transposed = for_port and turned(tensor.name, tensor.value)
        name = two_streams.port_name(tensor.name) if target == VILBERT_PADDLE else tensor.name
        actions = [] if name == tensor.stored_name else [f"rename from {tensor.stored_name}"]
        actions += ["transpose"] if transposed != tensor.is_transposed else []
        shape = list(tensor.value.T.shape if transposed else tensor.value.shape)
        rows.append((name, str(shape), tensor.value.dtype.name, ", ".join(actions) or "keep"))
    return rows


def plan_lines(source, target):
    """The plan as a table, and what else is written, one line each."""
    rows = [("name", "shape", "type", "action"), *plan_rows(source, target)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    lines.append(summary(source))
    settings, origin = source.settings, source.settings.source or "none in the folder: the published ones"
    if settings.source or not source.has_two_streams:  # the published ones are Oscar's and VinVL's
        shown = ("max_seq_length", "max_img_seq_length", "do_lower_case", "add_od_labels")
        lines.append(f"input settings ({origin}): " + ", ".join(f"{name} {getattr(settings, name)}" for name in shown))
    return [*lines, f"vocabulary: {source.vocab or 'none'}"]


def summary(source):
    """What a checkpoint is, in one line."""
    million, megabytes = (sum(getattr(t.value, size) for t in source.tensors) / 1e6 for size in ("size", "nbytes"))
    names = {tensor.name for tensor in source.tensors}
    heads = sorted({name.split(".")[0] for name in names if not name.startswith("bert.")})
    regions = "with regions" if "bert.img_embedding.weight" in names else "text only"
    regions = "and a stream of regions" if source.has_two_streams else regions
    return (
        f"{len(names)} tensors, {million:.2f} million values, {megabytes:.1f} MB: "
        f"{source.config.get('num_hidden_layers', 12)} layers of width {source.config.get('hidden_size', 768)}, "
        f"{regions}, {'head ' if heads else 'no head'}{', '.join(heads)}"
    )


# ---- writing ----


def convert(source, folder, target):
    """Write a checkpoint folder in another form, whole or not at all.

    Raises:
        ConfigError: the new folder holds something. WeightsError: the target needs a vocabulary and there is none.
        UserError: it cannot be written.
    """
    check_target(source, folder, target)
    weights, write = _WRITERS[target]
    total = sum(tensor.value.nbytes for tensor in source.tensors)
    bar = tqdm(total=total, desc=weights, unit="B", unit_scale=True, delay=1, dynamic_ncols=True)
    try:
        with bar, whole_folder(folder, replace=False) as temporary:
            write(temporary, source, bar.update)
            _write_vocabulary(temporary, source, target)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None


def check_target(source, folder, target):
    """Refuse what `convert` could not finish; see there."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--output {folder}: is there already; expected a new folder, nothing is overwritten")
    if source.has_two_streams and target in (VINVL_PADDLE, VINVL_PADDLE_PRETRAINED):
        raise WeightsError(
            f"{source.weights}: is a ViLBERT, which VinVL-Paddle has not; expected --to {VILBERT_PADDLE}"
        )
    if target == VILBERT_PADDLE and not source.has_two_streams:
        raise WeightsError(f"{source.weights}: is no ViLBERT; --to {VILBERT_PADDLE} is for those")
    if target == PYTORCH and source.vocab is None:
        raise WeightsError(
            f"{source.weights.parent}: no {VOCAB_FILE}, and the reference needs one; name it with --vocab FILE"
        )


def _write_vocabulary(folder, source, target):
    if source.vocab is None:
        log.warning("%s: no %s, so the new folder has none (--vocab FILE)", source.weights.parent, VOCAB_FILE)
        return
    if target != PYTORCH:  # PaddleNLP reads casing from tokenizer_config.json, which `save` writes
        build_tokenizer(str(source.vocab), source.settings.do_lower_case).save(folder)
    shutil.copyfile(source.vocab, folder / VOCAB_FILE)
