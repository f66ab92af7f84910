"""The scoring model as an exported program, run by Paddle Inference with oneDNN on the CPU.

The program takes the fields of a `models.packing.RowBatch` and embedded regions and returns margins (retrieval) or the
pooled vectors, for a head that follows (VQA, GQA, NLVR2). It is exported once, with free shapes, and kept on disk under
a name made of the weights and everything else it depends on.
Measured with BERT-base: 0.8 of the rate of NumPy's matrix product in float32, where eager Paddle reaches 0.3 (an AMD
processor) to 0.5 (an Intel one with AMX), with margins that differ by about 1e-5; oneDNN fuses bias, GELU, scaling and
mask into its matrix products and reads the heads in place.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import paddle
import paddle.nn as nn
from paddle.static import InputSpec

from oscar_paddle.config.errors import ConfigError, UserError
from oscar_paddle.datasets.formats.whole_files import user_cache
from oscar_paddle.models.bert import HIDDEN_BIAS, EqualRows
from oscar_paddle.models.checkpoints.weights import file_hash
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.packing import RowBatch
from oscar_paddle.solvers.scoring.pairs import EagerBackend

log = logging.getLogger(__name__)

FORMAT = 2  # of the exported program; part of its name
PROGRAM, MANIFEST = "program", "manifest.json"
OUTPUTS = ("margins", "pooled")
STALE_SECONDS = 3600  # a temporary folder this old was left by a killed process
WORTH_EXPORTING = 10_000  # pairs: an export takes a second or two for a small model
AGREES = 1e-3  # largest difference to eager, relative to the margins, that float32 may show on the probe

HALF_AGREES = 0.2  # the same in bfloat16 and float16: tells wrong results from rounding, no more


class ScoringProgram(nn.Layer):
    """What is exported: one batch to its margins, or to its pooled vectors.

    Args:
        model: OscarForClassification.
        output: one of OUTPUTS.
    """

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output

    def forward(self, input_ids, token_type_ids, position_ids, order, bias, regions):
        """Fields of a RowBatch and [Pu, H] regions -> [B] or [B, H] float32."""
        bert = self.model.bert
        pooled = bert.encode(input_ids, token_type_ids, position_ids, regions, order, EqualRows(bias))
        return match_margin(self.model.classifier(pooled)) if self.output == "margins" else pooled


class InferenceBackend:
    """Runs an exported program.

    Args:
        model: OscarForClassification, which embeds the regions; also read as `model`, for its head.
        folder: where `export` left the program.
        precision: "float32" or "bfloat16".
    Raises:
        UserError: the program cannot be loaded.
    """

    def __init__(self, model, folder, precision="float32"):
        self.model, self.eager, self.precision = model, EagerBackend(model), precision
        self.name = f"Paddle Inference with oneDNN, {precision}"
        self.predictor = _predictor(folder, precision)
        self.inputs = {name: self.predictor.get_input_handle(name) for name in self.predictor.get_input_names()}
        self.output = self.predictor.get_output_handle(self.predictor.get_output_names()[0])

    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 array -> [Pu, H] float32 array."""
        return self.eager.embed_regions(img_feats).numpy()

    def margins(self, batch, regions):
        """RowBatch, and what `embed_regions` made of the regions it points to -> [B] float32 array."""
        for name, array in (*batch._asdict().items(), ("regions", regions)):
            self.inputs[name].copy_from_cpu(np.ascontiguousarray(array))
        self.predictor.run()
        return self.output.copy_to_cpu()

    pooled = margins  # the program returns what it was exported for


def _predictor(folder, precision):
    import paddle.inference as inference

    config = inference.Config(str(Path(folder) / f"{PROGRAM}.json"), str(Path(folder) / f"{PROGRAM}.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_new_ir(True)
    config.enable_new_executor(True)
    config.set_cpu_math_library_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(0)  # keep what was prepared for every shape
    if precision == "bfloat16":
        config.enable_mkldnn_bfloat16()
    config.enable_memory_optim(True)
    try:
        return inference.create_predictor(config)
    except Exception as error:  # whatever C++ raises becomes some Python type
        raise UserError(f"{folder}: Paddle Inference cannot load this program: {_last_line(error)}") from None


# ---- export ----


def export(model, folder, output="margins"):
    """Write the program into an existing folder."""
    free = [None]
    specs = [
        *(InputSpec(free, "int64", name) for name in ("input_ids", "token_type_ids", "position_ids")),
        InputSpec([None, None], "int32", "order"),
        InputSpec([None, 1, None, None], "float32", "bias"),
        InputSpec([None, model.config.hidden_size], "float32", "regions"),
    ]
    program = ScoringProgram(model, output)
    program.eval()
    static = paddle.jit.to_static(program, input_spec=specs, full_graph=True)
    paddle.jit.save(static, str(Path(folder) / PROGRAM))


def exported_program(model, weights_hash, cache_dir, output="margins"):
    """The folder of this model's program: the one on disk if it is whole, otherwise made now.

    Several processes may ask at once; each makes a whole folder and the first to finish wins.

    Args:
        model: OscarForClassification.
        weights_hash: str that stands for the content of the weights.
        cache_dir: where programs are kept; when it cannot be written, a folder under ~/.cache/oscar_paddle.
        output: what the program returns, one of OUTPUTS.
    Returns:
        Path.
    Raises:
        UserError: neither folder can be written.
    """
    key = _program_key(model, weights_hash, output)
    problems = []
    for parent in (Path(cache_dir), user_cache("programs", cache_dir)):
        folder = parent / f"program-{key}"
        if _is_whole(folder):
            return folder
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _make(model, folder, output)
        except OSError as error:
            problems.append(f"{parent}: {error.strerror or error}")
            continue
        _remove_stale(folder)
        return folder
    raise UserError(f"the exported model cannot be kept anywhere ({'; '.join(problems)}); see EVAL.BACKEND eager")


def _program_key(model, weights_hash, output):
    parts = {
        "format": FORMAT,
        "output": output,
        "paddle": paddle.__version__,
        "weights": weights_hash,
        "config": {key: str(value) for key, value in model.config.to_dict().items()},
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _make(model, folder, output):
    """Export under a temporary name, then rename: others see a whole folder or none."""
    temporary = Path(tempfile.mkdtemp(prefix="tmp-program-", dir=folder.parent))
    try:
        log.info("exporting the model for Paddle Inference into %s", folder)
        _export_quietly(model, temporary, output)
        files = {file.name: file_hash(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)
        try:
            os.rename(temporary, folder)
        except OSError:  # another process was faster
            if not _is_whole(folder):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export_quietly(model, folder, output):
    try:
        with _quiet():
            export(model, folder, output)
    except OSError:
        raise
    except Exception as error:  # Paddle's exporter raises whatever the model's code made it raise
        raise UserError(f"the model cannot be exported: {_last_line(error)}") from error


def _is_whole(folder):
    """Whether every file of the folder is what its manifest says."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(files) and all(file_hash(folder / name) == digest for name, digest in files.items())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError, TypeError):
        log.warning("%s: damaged; exporting the model again", folder)
        return False


def _remove_stale(folder):
    """Delete programs of other weights, and temporary folders that nobody fills any more."""
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            old = time.time() - other.stat().st_mtime > STALE_SECONDS
            if other != folder and other.name.startswith(("program-", "tmp-program-")) and old:
                shutil.rmtree(other, ignore_errors=True)


@contextlib.contextmanager
def _quiet():
    """Paddle's exporter writes warnings to the C-level stderr that concern nobody."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _last_line(error):
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return lines[-1] if lines else type(error).__name__


# ---- choice ----


def planned_backend(backend, precision):
    """Name of the backend that will run, from the settings and the machine alone.

    Args:
        backend: EVAL.BACKEND. precision: EVAL.PRECISION.
    Returns:
        "eager" or "inference".
    Raises:
        ConfigError: this machine cannot do what was asked for; names the keys and what to set instead.
    """
    on_gpu = paddle.get_device().startswith("gpu")
    if backend == "inference" and on_gpu:
        raise ConfigError("EVAL.BACKEND is 'inference', which runs on the CPU: set MISC.DEVICE cpu, or BACKEND eager")
    if precision == "float16" and not on_gpu:
        raise ConfigError("EVAL.PRECISION is 'float16', which needs a GPU: set float32 or bfloat16")
    if precision == "bfloat16" and on_gpu and not paddle.amp.is_bfloat16_supported():
        raise ConfigError("EVAL.PRECISION is 'bfloat16', which this GPU does not have: set float16 or float32")
    if precision == "bfloat16" and not on_gpu and backend == "eager":
        raise ConfigError("EVAL.PRECISION is 'bfloat16', which eager Paddle has on GPUs only: set BACKEND inference")
    if precision == "bfloat16" and not on_gpu and not paddle.base.core.supports_bfloat16():
        raise ConfigError("EVAL.PRECISION is 'bfloat16', which needs a processor with AVX-512: set float32")
    if backend != "auto":
        return backend
    return "eager" if on_gpu else "inference"


def build_backend(model, backend, precision, weights_hash, cache_dir, ranks, output="margins"):
    """The backend that the settings ask for; with "auto" the fastest exact one that works here.

    Args:
        model: OscarForClassification.
        backend, precision: EVAL.BACKEND and EVAL.PRECISION.
        weights_hash, cache_dir, output: see `exported_program`.
        ranks: Ranks; the main one exports before the others look.
    Returns:
        EagerBackend or InferenceBackend.
    Raises:
        ConfigError: see `planned_backend`.
        UserError: Paddle Inference was asked for and does not work here.
    """
    if planned_backend(backend, precision) == "eager":
        fused = precision != "float32" and all(ranks.gather(_fused_attention_works(model, precision, output)))
        return EagerBackend(model, precision, fused)
    chosen = problem = None
    try:
        folder = ranks.on_main(lambda: exported_program(model, weights_hash, cache_dir, output))
        if not folder.is_dir():  # a rank on another machine
            folder = exported_program(model, weights_hash, cache_dir, output)
        chosen = InferenceBackend(model, folder, precision)
        check_agreement(chosen, EagerBackend(model), AGREES if precision == "float32" else HALF_AGREES, output)
    except UserError as error:
        problem = str(error)
    # All ranks take the same backend, or the margins would depend on the number of ranks.
    problems = [message for message in ranks.gather(problem) if message]
    if not problems:
        return chosen
    if backend == "inference" or precision != "float32":
        raise UserError(problems[0])
    log.warning("Paddle Inference does not work here, using eager Paddle: %s", problems[0])
    return EagerBackend(model, precision)


def backend_in_training(model, num_pairs, output="margins"):
    """The float32 backend for weights that will change again: an export is worth its seconds for many pairs only.

    Args:
        model: OscarForClassification; it is put into evaluation mode.
        num_pairs: how many pairs will be scored before the weights change.
        output: what is asked of it, one of OUTPUTS.
    """
    eager = EagerBackend(model)
    if num_pairs < WORTH_EXPORTING or planned_backend("auto", "float32") == "eager":
        return eager
    try:
        with tempfile.TemporaryDirectory() as folder:
            _export_quietly(model, folder, output)
            chosen = InferenceBackend(model, folder)  # reads all of it
        check_agreement(chosen, eager, output=output)
    except (UserError, OSError) as error:
        log.warning("Paddle Inference does not work here, using eager Paddle: %s", error)
        return eager
    return chosen


def _fused_attention_works(model, precision, output):
    """Whether this GPU, driver and Paddle have it, and agree with the steps it stands for."""
    plain, fused = EagerBackend(model, precision), EagerBackend(model, precision, fused=True)
    try:
        check_agreement(fused, plain, HALF_AGREES, output)
    except UserError as error:
        log.info("no fused attention here: %s", error)
        return False
    return True


def check_agreement(backend, reference, allowed=AGREES, output="margins"):
    """Score two made-up pairs both ways.

    Args:
        backend: EagerBackend or InferenceBackend. reference: EagerBackend.
        allowed: largest difference, relative to the margins where these exceed 1.
        output: what to compare, one of OUTPUTS.

    Raises:
        UserError: the program fails, or its margins are not those of the model.
    """
    rng = np.random.RandomState(0)
    config = reference.model.config
    features = rng.rand(5, config.img_feature_dim).astype(np.float32)
    lengths = np.array([8, 7])  # five words and three regions, five words and two regions
    order = np.array([[0, 1, 2, 3, 4, 10, 11, 12], [5, 6, 7, 8, 9, 13, 14, 0]], np.int32)
    batch = RowBatch(
        input_ids=rng.randint(0, config.vocab_size, 10),
        token_type_ids=np.zeros(10, np.int64),
        position_ids=np.tile(np.arange(5), 2),
        order=order,
        bias=np.where(np.arange(8) < lengths[:, None], 0, HIDDEN_BIAS).astype(np.float32)[:, None, None],
    )
    wanted = getattr(reference, output)(batch, reference.embed_regions(features))
    try:
        found = getattr(backend, output)(batch, backend.embed_regions(features))
    except Exception as error:  # as above
        raise UserError(f"{backend.name} fails: {_last_line(error)}") from None
    most = allowed * max(1.0, float(np.abs(wanted).max()))
    difference = np.abs(found - wanted).max()
    if not np.isfinite(found).all() or difference > most:
        raise UserError(f"{backend.name} gives {output} that differ from the model's by {difference:g}")
