"""A two-stream model as an exported program, run by Paddle Inference with oneDNN; see `solvers.scoring.exported`.

Shape letters: B examples, L longest text, R most regions, Pu regions of the distinct images, Pv regions of
all examples.
"""

import logging

import numpy as np
import paddle
import paddle.nn as nn
from paddle.static import InputSpec

from oscar_paddle.config.errors import ConfigError, UserError
from oscar_paddle.models.bert import EqualRows
from oscar_paddle.models.stream_packing import pack_streams
from oscar_paddle.solvers.runtime import device_name
from oscar_paddle.solvers.scoring.backends import AGREES, planned_backend
from oscar_paddle.solvers.scoring.exported import exported_program, last_line, load_predictor, num_threads
from oscar_paddle.solvers.scoring.regions import StreamBackend

log = logging.getLogger(__name__)


class RegionProgram(nn.Layer):
    """What is exported: examples of nearly equal sizes, which stay apart, to a score for each of their places."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @paddle.jit.not_to_static
    def forward(self, input_ids, token_type_ids, position_ids, img_feats, img_locs, order, text_bias, region_bias):
        """[B, L] ids, regions [Pu, D] and [Pu, 5], order [B, R] int32, biases -> [B, R] float32."""
        bert = self.model.bert
        text, regions = bert.embeddings(input_ids, token_type_ids, position_ids), bert.v_embeddings(img_feats, img_locs)
        hidden = bert.encoder(regions, text, EqualRows(region_bias), EqualRows(text_bias), order)
        return self.model.vision_logit(hidden).squeeze(-1)


def region_program(model):
    """The program of a model, and its inputs, for `exported_program`."""
    specs = [
        *(InputSpec([None, None], "int64", name) for name in ("input_ids", "token_type_ids", "position_ids")),
        InputSpec([None, model.config.v_feature_size], "float32", "img_feats"),
        InputSpec([None, 5], "float32", "img_locs"),
        InputSpec([None, None], "int32", "order"),
        InputSpec([None, 1, 1, None], "float32", "text_bias"),
        InputSpec([None, 1, 1, None], "float32", "region_bias"),
    ]
    return RegionProgram(model), specs


class ProgramBackend:
    """Runs an exported program, as `StreamBackend` runs the model.

    Args:
        config: VilbertConfig. folder: where the program is.
    """

    def __init__(self, config, folder):
        self.config, self.threads = config, num_threads()
        self.name = f"Paddle Inference with oneDNN, float32, on {device_name()}"
        self.predictor = load_predictor(folder, "float32")
        self.inputs = {name: self.predictor.get_input_handle(name) for name in self.predictor.get_input_names()}
        self.output = self.predictor.get_output_handle(self.predictor.get_output_names()[0])

    def region_scores(self, batch):
        """StreamBatch -> [Pv] float32 array."""
        rows = {name: getattr(batch, name) for name in ("img_feats", "img_locs", "text_bias", "region_bias")}
        for name in ("input_ids", "token_type_ids", "position_ids"):
            rows[name] = getattr(batch, name)[batch.text_spread]
        rows["order"] = batch.order[batch.region_spread]
        for name, array in rows.items():
            self.inputs[name].copy_from_cpu(np.ascontiguousarray(array))
        self.predictor.run()
        paddle.base.core.set_num_threads(self.threads)  # a run leaves 1 behind, for all of this process
        return self.output.copy_to_cpu().ravel()[batch.region_collect]


def region_backend(model, options, precision, *, weights, programs, ranks):
    """The backend that the settings ask for; arguments as for `Evaluation.backend`.

    Raises:
        ConfigError: a precision other than float32, or `planned_backend` says so.
        UserError: Paddle Inference was asked for and does not work here.
    """
    if precision != "float32":
        raise ConfigError(f"EVAL.PRECISION is {precision!r}, but scores of regions are made in float32: set float32")
    eager = StreamBackend(model)
    if planned_backend(options, precision) == "eager":
        return eager
    chosen = problem = None
    try:
        folder = ranks.on_main(lambda: exported_program(model, weights, programs, region_program))
        if not folder.is_dir():  # a rank on another machine
            folder = exported_program(model, weights, programs, region_program)
        chosen = ProgramBackend(model.config, folder)
        _check_agreement(chosen, eager)
    except UserError as error:
        problem = str(error)
    problems = [message for message in ranks.gather(problem) if message]  # all take the same one, see build_backend
    if not problems:
        return chosen
    if options == "inference":
        raise UserError(problems[0])
    log.warning("Paddle Inference does not work here, using eager Paddle: %s", problems[0])
    return eager


def _check_agreement(backend, reference):
    """Score two made-up examples about two images both ways; UserError: they differ, or the program fails."""
    rng, config = np.random.RandomState(0), reference.config
    arrays = {
        "input_ids": rng.randint(0, config.vocab_size, 9),
        "token_type_ids": np.zeros(9, np.int64),
        "position_ids": np.concatenate([np.arange(5), np.arange(4)]),
        "text_length": np.array([5, 4]),
        "img_feats": rng.rand(7, config.v_feature_size).astype(np.float32),
        "img_locs": rng.rand(7, 5).astype(np.float32),
        "num_regions": np.array([4, 3]),
        "region_start": np.array([0, 4]),
    }
    batch = pack_streams(arrays)
    wanted = np.asarray(reference.region_scores(batch))
    try:
        found = backend.region_scores(batch)
    except Exception as error:  # whatever C++ raises becomes some Python type
        raise UserError(f"{backend.name} fails: {last_line(error)}") from None
    difference = np.abs(found - wanted).max()
    if not difference <= AGREES * max(1.0, float(np.abs(wanted).max())):
        raise UserError(f"{backend.name} gives scores that differ from the model's by {difference:g}")
