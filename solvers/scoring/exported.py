"""The scoring model as an exported program, run by Paddle Inference with oneDNN on the CPU.

The program takes the fields of a `models.packing.RowBatch` and embedded regions and returns margins (retrieval) or the
pooled vectors, for a head that follows; that of captions is in `solvers.scoring.programs`. It is exported once, with
free shapes, and kept on disk under a name made of the weights and everything else it depends on.
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
from paddle.base.framework import flag_guard

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.formats.whole_files import user_cache
from oscar_paddle.models.checkpoints.weights import file_hash
from oscar_paddle.models.losses import match_margin
from oscar_paddle.solvers.runtime import device_name
from oscar_paddle.solvers.scoring.code_version import code_version
from oscar_paddle.solvers.scoring.programs import program_for

log = logging.getLogger(__name__)

PROGRAM, MANIFEST = "program", "manifest.json"
STALE_SECONDS = 3600  # a temporary folder this old was left by a killed process


class InferenceBackend:
    """Runs an exported program.

    Args:
        eager: EagerBackend of the model, for the regions and the head.
        folder: where `export` left the program.
        precision: "float32" or "bfloat16".
    Raises:
        UserError: the program cannot be loaded.
    """

    def __init__(self, eager, folder, precision="float32"):
        self.config = eager.config
        self.eager, self.precision = eager, precision
        self.classify, self.threads = eager.classify, num_threads()
        self.name = f"Paddle Inference with oneDNN, {precision}, on {device_name()}"
        self.predictor = load_predictor(folder, precision)
        self.inputs = {name: self.predictor.get_input_handle(name) for name in self.predictor.get_input_names()}
        self.output = self.predictor.get_output_handle(self.predictor.get_output_names()[0])

    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 array -> [Pu, H] float32 array."""
        return self.eager.embed_regions(img_feats).numpy()

    def margins(self, batch, regions):
        """RowBatch, and what `embed_regions` made of the regions it points to -> [B] float32 array.

        In half precision the program gives pooled vectors, and the head is float32: it would make ties of close ones.
        """
        found = self.pooled(batch, regions)
        if self.precision == "float32":
            return found
        with paddle.no_grad():
            return match_margin(self.eager.model.classify(paddle.to_tensor(found))).numpy()

    def pooled(self, batch, regions):
        """The same -> whatever the program was exported for, float32 array."""
        for name, array in (*batch._asdict().items(), ("regions", regions)):
            self.inputs[name].copy_from_cpu(np.ascontiguousarray(array))
        self.predictor.run()
        paddle.base.core.set_num_threads(self.threads)  # a run leaves 1 behind, for all of this process
        return self.output.copy_to_cpu()


def num_threads():
    """CPU threads of this process, as `solvers.machine.prepare` has chosen them."""
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


def load_predictor(folder, precision):
    """The program of a folder, ready to run; UserError: it cannot be loaded."""
    import paddle.inference as inference

    config = inference.Config(str(Path(folder) / f"{PROGRAM}.json"), str(Path(folder) / f"{PROGRAM}.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_new_ir(True)
    config.enable_new_executor(True)
    config.set_cpu_math_library_num_threads(num_threads())
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(0)  # keep what was prepared for every shape
    if precision == "bfloat16":
        config.enable_mkldnn_bfloat16()
    config.enable_memory_optim(True)
    try:
        return inference.create_predictor(config)
    except Exception as error:  # whatever C++ raises becomes some Python type
        raise UserError(f"{folder}: Paddle Inference cannot load this program: {last_line(error)}") from None


# ---- export ----


def export(model, folder, output="margins"):
    """Write the program into an existing folder; `output` as for `exported_program`."""
    if callable(output):
        program, specs = output(model)
        program.eval()
    else:
        program = program_for(model, output)
        specs = program.specs()
    with flag_guard("FLAGS_use_legacy_linear", True):  # else a Paddle with CUDA records what oneDNN does not fuse
        static = paddle.jit.to_static(program, input_spec=specs, full_graph=True)
        paddle.jit.save(static, str(Path(folder) / PROGRAM))


def exported_program(model, weights_hash, cache_dir, output="margins"):
    """The folder of this model's program: the one on disk if it is whole, otherwise made now.

    Several processes may ask at once; each makes a whole folder and the first to finish wins.

    Args:
        model: see `solvers.scoring.programs`.
        weights_hash: str that stands for the content of the weights.
        cache_dir: where programs are kept; when it cannot be written, a folder under ~/.cache/oscar_paddle.
        output: what the program returns, see `program_for`; or a function of the model that makes another program: a
            layer, and the InputSpecs of its inputs.
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
        "code": code_version(),
        "output": output.__name__ if callable(output) else output,
        "paddle": (paddle.__version__, paddle.is_compiled_with_cuda()),
        "weights": weights_hash,
        "config": {key: str(value) for key, value in model.config.to_dict().items()},
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _make(model, folder, output):
    """Export under a temporary name, then rename: others see a whole folder or none."""
    temporary = Path(tempfile.mkdtemp(prefix="tmp-program-", dir=folder.parent))
    try:
        log.info("exporting the model for Paddle Inference into %s", folder)
        export_quietly(model, temporary, output)
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


def export_quietly(model, folder, output):
    try:
        with _quiet():
            export(model, folder, output)
    except OSError:
        raise
    except Exception as error:  # Paddle's exporter raises whatever the model's code made it raise
        raise UserError(f"the model cannot be exported: {last_line(error)}") from error


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


def last_line(error):
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return lines[-1] if lines else type(error).__name__
