"""What runs a model for scoring: Paddle as it is, or an exported program; the choice, and a check that both agree.

Shape letters: B rows of a batch, H width, Pu regions, C classes.
"""

import logging
import tempfile

import numpy as np
import paddle

from oscar_paddle.config.errors import ConfigError, UserError
from oscar_paddle.models.bert import EqualRows
from oscar_paddle.models.device import to_device
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.packing import RowBatch
from oscar_paddle.models.visibility import HIDDEN_BIAS
from oscar_paddle.solvers.runtime import device_name, float32_name
from oscar_paddle.solvers.scoring.exported import InferenceBackend, export_quietly, exported_program, last_line
from oscar_paddle.solvers.scoring.fused import fused_attention_works

log = logging.getLogger(__name__)

WORTH_EXPORTING = 10_000  # rows: an export takes a second or two for a small model
AGREES = 1e-3  # largest difference to eager, relative to the outputs, that float32 may show on the probe
HALF_AGREES = 0.2  # the same in bfloat16 and float16: tells wrong results from rounding, no more


class EagerBackend:
    """Runs the model as it is, on any device.

    Args:
        model: with `bert` and `classifier`, see `models.oscar`; it is put into evaluation mode.
        precision: "float32", or "bfloat16" or "float16" for automatic mixed precision (GPUs).
        fused: use Paddle's fused attention.
    """

    def __init__(self, model, precision="float32", fused=False):
        self.config = model.config
        model.eval()
        self.model, self.precision, self.fused = model, precision, fused
        number_format = float32_name() if precision == "float32" else precision
        self.name = f"eager Paddle, {number_format}{', fused attention' if fused else ''}, on {device_name()}"

    @paddle.no_grad()
    def embed_regions(self, img_feats):
        """[Pu, 2054] float32 array -> embedded regions, float32, as `margins` takes them."""
        return self.model.bert.embed_regions(*to_device(img_feats))

    @paddle.no_grad()
    def margins(self, batch, regions):
        """RowBatch, and what `embed_regions` made of the regions it points to -> [B] float32, on the device."""
        return match_margin(self.model.classify(self.pooled(batch, regions)))

    @paddle.no_grad()
    def pooled(self, batch, regions):
        """The same -> [B, H] float32 pooled vectors, on the device."""
        half = self.precision != "float32"
        with paddle.amp.auto_cast(enable=half, dtype=self.precision if half else "float16"):
            pooled = self._encode(batch, regions)
        return pooled.astype("float32")

    def _encode(self, batch, regions):
        ids, types, positions, order, bias = to_device(*batch)
        for layer in self.model.bert.encoder.layer:
            layer.attention.self.fused = self.fused
        return self.model.bert.encode(ids, types, positions, regions, order, EqualRows(bias))["pooled"]

    @paddle.no_grad()
    def classify(self, pooled):
        """[rows, H] float32 array -> logits [examples, C] float32 array, by the model's head."""
        return self.model.classify(paddle.to_tensor(pooled)).numpy()


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
        model: see `EagerBackend`.
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
        attention = model.bert.encoder.layer[0].attention.self
        fused = precision != "float32" and all(ranks.gather(fused_attention_works(attention, precision)))
        return EagerBackend(model, precision, fused)

    def export():
        return exported_program(model, weights_hash, cache_dir, output if precision == "float32" else "pooled")

    def attempt():
        folder = ranks.on_main(export)
        if not folder.is_dir():  # a rank on another machine
            folder = export()
        chosen = InferenceBackend(EagerBackend(model), folder, precision)
        check_agreement(chosen, EagerBackend(model), AGREES if precision == "float32" else HALF_AGREES, output)
        return chosen

    must = backend == "inference" or precision != "float32"
    return inference_on_all(attempt, ranks, must) or EagerBackend(model, precision)


def inference_on_all(attempt, ranks, must):
    """What `attempt` makes on every rank, or None where it fails on one: results must not depend on the ranks.

    Raises:
        UserError: it fails, and `must`.
    """
    chosen = problem = None
    try:
        chosen = attempt()
    except UserError as error:
        problem = str(error)
    problems = [message for message in ranks.gather(problem) if message]
    if not problems:
        return chosen
    if must:
        raise UserError(problems[0])
    log.warning("Paddle Inference does not work here, using eager Paddle: %s", problems[0])
    return None


def backend_in_training(model, num_pairs, output="margins"):
    """The float32 backend for weights that will change again: an export is worth its seconds for many pairs only.

    Args:
        model: see `EagerBackend`; it is put into evaluation mode.
        num_pairs: how many pairs will be scored before the weights change.
        output: what is asked of it, "margins" or "pooled".
    """
    eager = EagerBackend(model)
    if num_pairs < WORTH_EXPORTING or planned_backend("auto", "float32") == "eager":
        return eager
    try:
        with tempfile.TemporaryDirectory() as folder:
            export_quietly(model, folder, output)
            chosen = InferenceBackend(eager, folder)  # reads all of it
        check_agreement(chosen, eager, output=output)
    except (UserError, OSError) as error:
        log.warning("Paddle Inference does not work here, using eager Paddle: %s", error)
        return eager
    return chosen


def check_agreement(backend, reference, allowed=AGREES, output="margins"):
    """Score two made-up pairs both ways.

    Args:
        backend: EagerBackend or InferenceBackend. reference: EagerBackend.
        allowed: largest difference, relative to the margins where these exceed 1.
        output: what to compare, "margins" or "pooled".

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
    wanted = np.asarray(getattr(reference, output)(batch, reference.embed_regions(features)))
    try:
        found = np.asarray(getattr(backend, output)(batch, backend.embed_regions(features)))
    except Exception as error:  # whatever C++ raises becomes some Python type
        raise UserError(f"{backend.name} fails: {last_line(error)}") from None
    most = allowed * max(1.0, float(np.abs(wanted).max()))
    difference = np.abs(found - wanted).max()
    if not np.isfinite(found).all() or difference > most:
        raise UserError(f"{backend.name} gives {output} that differ from the model's by {difference:g}")
