"""The exported program gives the model's margins, is made once, and never trusted when damaged."""

import ctypes
import logging
import os
import re
import types
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import paddle
import pytest
from paddle.jit.dy2static import convert_call_func
from tiny import LENGTHS, SCORED, tiny_model

from oscar_paddle.config.errors import ConfigError, DataError, UserError
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring import backends, exported
from oscar_paddle.solvers.scoring.backends import EagerBackend, build_backend, planned_backend
from oscar_paddle.solvers.scoring.exported import InferenceBackend, exported_program
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.programs import ScoringProgram
from oscar_paddle.solvers.scoring.rows import Block
from oscar_paddle.tools.bench.made_up import made_up_data

EVERYTHING = Block(range(4), range(12))


def exported_model(**settings):
    return tiny_model(**{**SCORED, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, **settings})


@pytest.fixture(scope="module")
def model():
    return exported_model()


@pytest.fixture(scope="module")
def programs(tmp_path_factory, model):
    """A cache folder that holds the model's program."""
    folder = tmp_path_factory.mktemp("programs")
    exported_program(model, "weights", folder)
    return folder


@pytest.fixture
def data(tmp_path):
    return made_up_data(tmp_path, 4, 12, LENGTHS)


@pytest.fixture
def no_export(monkeypatch):
    def fail(model, folder, output):
        raise AssertionError("exported again")

    monkeypatch.setattr(exported, "export", fail)


def test_tracing_gives_what_rewriting_gives(model, tmp_path, monkeypatch):
    """Paddle would rewrite every function for control flow that depends on values, in seconds; there is none."""
    forward = ScoringProgram.forward
    rewritten = types.FunctionType(forward.__code__, forward.__globals__)  # without the mark
    found = []
    for number, function in enumerate((forward, rewritten)):
        (tmp_path / str(number)).mkdir()
        monkeypatch.setattr(ScoringProgram, "forward", function)
        rewrites = mock.Mock(wraps=convert_call_func.convert_to_static)
        monkeypatch.setattr(convert_call_func, "convert_to_static", rewrites)
        with paddle.utils.unique_name.guard():  # values are numbered from 0 in both
            exported.export(model, tmp_path / str(number))
        files = [path.read_bytes() for path in sorted((tmp_path / str(number)).iterdir())]
        titles = rb'"D":"/[^"]*"'  # of layers, numbered over all exports
        found.append([re.sub(titles, b"", file) for file in files])
        assert rewrites.called == (function is rewritten)
    assert found[0] == found[1]


@pytest.mark.parametrize("mask_type", ["CLR", "CR"])
def test_margins_equal_the_models(model, programs, data, mask_type, no_export):
    data.mask_type = mask_type
    backend = build_backend(model, "auto", "float32", "weights", programs, Ranks())
    assert isinstance(backend, InferenceBackend)
    wanted = PairScorer(EagerBackend(model), data, 120).score(EVERYTHING)
    found = PairScorer(backend, data, 120).score(EVERYTHING)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    again = PairScorer(build_backend(model, "inference", "float32", "weights", programs, Ranks()), data, 120)
    np.testing.assert_array_equal(again.score(EVERYTHING), found)  # to the last bit: a run may be continued


@pytest.mark.parametrize("settings", [{"num_labels": 1}, {"classifier": "mlp"}])
def test_other_heads(tmp_path, data, settings):
    model = exported_model(**settings)
    backend = build_backend(model, "inference", "float32", "weights", tmp_path / "programs", Ranks())
    wanted = PairScorer(EagerBackend(model), data, 120).score(EVERYTHING)
    np.testing.assert_allclose(PairScorer(backend, data, 120).score(EVERYTHING), wanted, atol=2e-5)


@pytest.mark.skipif(not paddle.base.core.supports_bfloat16(), reason="this processor has no AVX-512")
def test_bfloat16_is_near_and_really_used(model, programs, data):
    backend = build_backend(model, "auto", "bfloat16", "weights", programs, Ranks())
    wanted = PairScorer(EagerBackend(model), data, 120).score(EVERYTHING)
    difference = np.abs(PairScorer(backend, data, 120).score(EVERYTHING) - wanted).max()
    assert 1e-4 < difference < 0.1 * np.abs(wanted).max()


def test_weights_that_will_change_again(data, monkeypatch):
    """Many pairs are worth an export that leaves no trace; training goes on as before."""
    model = exported_model()
    assert isinstance(backends.backend_in_training(model, 9_999), EagerBackend)
    backend = backends.backend_in_training(model, 10_000)
    assert isinstance(backend, InferenceBackend)
    wanted = PairScorer(EagerBackend(model), data, 120).score(EVERYTHING)
    np.testing.assert_allclose(PairScorer(backend, data, 120).score(EVERYTHING), wanted, atol=2e-5)
    model.train()
    model(pack(data.batch(np.arange(4), np.arange(4)))).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if not p.stop_gradient)
    monkeypatch.setattr(exported, "export", lambda model, folder: 1 / 0)
    assert isinstance(backends.backend_in_training(model, 10_000), EagerBackend)


@pytest.mark.parametrize("damage", ["truncate", "change", "delete", "no manifest", "bad manifest"])
def test_a_damaged_program_is_made_again(tmp_path, model, data, damage, caplog):
    folder = exported_program(model, "weights", tmp_path / "programs")
    weights, manifest = folder / "program.pdiparams", folder / "manifest.json"
    content = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(content[:-7])
    elif damage == "change":
        weights.write_bytes(content[:500] + b"\x00\x01\x02\x03" + content[504:])
    elif damage == "delete":
        weights.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("[1, 2]")
    backend = build_backend(model, "inference", "float32", "weights", tmp_path / "programs", Ranks())
    wanted = PairScorer(EagerBackend(model), data, 120).score(EVERYTHING)
    np.testing.assert_allclose(PairScorer(backend, data, 120).score(EVERYTHING), wanted, atol=2e-5)
    assert len(list((tmp_path / "programs").iterdir())) == 1  # nothing half-made stays


def test_another_model_has_another_program(programs, model, no_export):
    assert exported_program(model, "weights", programs).is_dir()
    for other, weights in ((model, "other weights"), (exported_model(img_layer_norm_eps=1e-5), "weights")):
        with pytest.raises(UserError, match="cannot be exported: exported again"):
            exported_program(other, weights, programs)


def test_a_folder_that_cannot_be_written_is_replaced_by_the_users_cache(tmp_path, model, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    folder = exported_program(model, "weights", tmp_path / "file" / "programs")
    assert tmp_path / "cache" in folder.parents
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be kept anywhere.*EVAL.BACKEND eager"):
        exported_program(model, "other", tmp_path / "file" / "programs")


def test_auto_does_without_a_program_that_gives_other_margins(model, programs, monkeypatch, caplog):
    wrong = lambda self, batch, regions: np.ones(len(batch.order), np.float32)  # noqa: E731
    monkeypatch.setattr(InferenceBackend, "margins", wrong)
    with caplog.at_level(logging.WARNING):
        backend = build_backend(model, "auto", "float32", "weights", programs, Ranks())
    assert isinstance(backend, EagerBackend) and "using eager" in caplog.text
    with pytest.raises(UserError, match="gives margins that differ from the model"):
        build_backend(model, "inference", "float32", "weights", programs, Ranks())


def test_a_program_paddle_cannot_load_is_one_line(tmp_path, model):
    (tmp_path / "program.json").write_text("{}")
    (tmp_path / "program.pdiparams").write_bytes(b"")
    with pytest.raises(UserError, match="cannot load this program"):
        InferenceBackend(model, tmp_path)


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("auto", "float16", "EVAL.PRECISION is 'float16', which needs a GPU"),
        ("eager", "bfloat16", "EVAL.PRECISION is 'bfloat16', which eager Paddle has on GPUs only"),
    ],
)
def test_what_the_cpu_cannot_do(backend, precision, message):
    with pytest.raises(ConfigError, match=message):
        planned_backend(backend, precision)


def test_bfloat16_without_the_instructions(monkeypatch):
    monkeypatch.setattr(paddle.base.core, "supports_bfloat16", lambda: False)
    with pytest.raises(ConfigError, match="AVX-512"):
        planned_backend("inference", "bfloat16")


def test_plan():
    assert planned_backend("auto", "float32") == "inference"
    assert planned_backend("eager", "float32") == "eager"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pooled_vectors_equal_the_models(model, data, tmp_path, precision):
    """The program of the tasks whose head follows it: rows as the scorer makes them."""
    if precision == "bfloat16" and not paddle.base.core.supports_bfloat16():
        pytest.skip("this processor has no AVX-512")
    built = build_backend(model, "inference", precision, "weights", tmp_path / "programs", Ranks(), "pooled")
    eager = EagerBackend(model)
    for _, batch, regions in PairScorer(eager, data, 120).block_batches(EVERYTHING):
        wanted = eager.pooled(batch, regions).numpy()
        found = built.pooled(batch, regions.numpy())
        assert found.shape == wanted.shape == (len(batch.order), model.config.hidden_size)
        assert np.abs(found - wanted).mean() < (1e-6 if precision == "float32" else 0.02)


def test_in_half_precision_the_head_is_float32(model, data, tmp_path, monkeypatch):
    """The program that then runs, in bfloat16, ends before the head."""
    monkeypatch.setattr(paddle.base.core, "supports_bfloat16", lambda: True)
    predictor = exported.load_predictor
    monkeypatch.setattr(exported, "load_predictor", lambda folder, precision: predictor(folder, "float32"))
    built = build_backend(model, "inference", "bfloat16", "weights", tmp_path / "programs", Ranks())
    program = built.pooled
    monkeypatch.setattr(built, "pooled", lambda *batch: halved(program(*batch)))
    for _, batch, regions in PairScorer(built, data, 120).block_batches(EVERYTHING):
        with paddle.no_grad():
            wanted = match_margin(model.classifier(paddle.to_tensor(halved(program(batch, regions))))).numpy()
        np.testing.assert_array_equal(built.margins(batch, regions), wanted)


def halved(values):
    """Rounded to bfloat16."""
    return paddle.to_tensor(values).astype("bfloat16").astype("float32").numpy()


def test_a_paddle_with_cuda_has_a_program_of_its_own(model, tmp_path, monkeypatch):
    """It would record linear layers as one operator, which oneDNN does not fuse."""
    of_cpu = exported_program(model, "weights", tmp_path / "programs")
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    of_gpu = exported_program(model, "weights", tmp_path / "programs")
    assert of_gpu != of_cpu
    assert operators(of_gpu) == operators(of_cpu)
    assert operators(of_cpu)["1.matmul"] > 10 and "1.linear" not in operators(of_gpu)


def operators(folder):
    """How often a program has each operator."""
    return Counter(re.findall(r'"#":"([^"]+)"', (folder / "program.json").read_text()))


def test_eager_paddle_keeps_its_threads(model, programs, data):
    """A predictor's run leaves one thread to the whole process; training would go on with it after an evaluation."""
    mkl = ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"))
    backend = InferenceBackend(EagerBackend(model), exported_program(model, "weights", programs))
    PairScorer(backend, data, 120).score(EVERYTHING)
    assert mkl.MKL_Get_Max_Threads() == int(os.environ["OMP_NUM_THREADS"]) > 1


def test_other_code_makes_its_own_program(model, programs, monkeypatch):
    """What older code has left, with other inputs or outputs, is never run."""
    known = exported_program(model, "weights", programs)
    monkeypatch.setattr(exported, "code_version", lambda: "another")
    assert exported_program(model, "weights", programs) != known


def test_a_nan_is_no_margin(data, tmp_path):
    """Neither with an MLP head, whose ReLU made 0 of it: eager and exported."""
    model = exported_model(classifier="mlp")
    model.bert.pooler.dense.bias.set_value(paddle.full([32], float("nan")))
    for backend in (
        EagerBackend(model),
        InferenceBackend(EagerBackend(model), exported_program(model, "nan", tmp_path)),
    ):
        with pytest.raises(DataError, match="caption 0 of image [0-9]+: the margin is NaN"):
            PairScorer(backend, data, 4096).score(EVERYTHING)
