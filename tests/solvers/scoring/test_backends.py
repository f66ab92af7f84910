"""What a GPU would do otherwise than a CPU: half precision, fused attention, names in the records, waiting."""

import contextlib
import threading

import numpy as np
import paddle
import pytest
from flat import batch_of
from tiny import SCORED, tiny_model

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.models.bert import BertSelfAttention
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.oscar import OscarForClassification, OscarForImagePairs
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers import machine
from oscar_paddle.solvers.runtime import batch_tokens
from oscar_paddle.solvers.scoring import rows
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.fused import fused_attention_works
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import Block

EVERYTHING = Block(range(6), range(18))


# ---- half precision ----


@pytest.fixture
def half(monkeypatch):
    """Function of a model: its encoder gives bfloat16 inside autocast, as on a GPU. Yields where heads then ran."""
    inside, places = [False], set()

    @contextlib.contextmanager
    def autocast(enable=True, **_):
        before, inside[0] = inside[0], enable
        yield
        inside[0] = before

    def prepare(model):
        encode, head = model.bert.encode, model.head

        def half_encode(*arguments, **how):
            pooled = encode(*arguments, **how)["pooled"]
            return {"pooled": pooled.astype("bfloat16") if inside[0] else pooled}

        def watched_head(pooled):
            places.add((inside[0], pooled.dtype))
            return head(pooled)

        monkeypatch.setattr(model.bert, "encode", half_encode)
        monkeypatch.setattr(model, "head", watched_head)

    monkeypatch.setattr(paddle.amp, "auto_cast", autocast)
    return prepare, places


def test_margins_of_half_precision_come_from_a_float32_head(data, half):
    prepare, places = half
    model = tiny_model(**SCORED)
    prepare(model)
    plain, backend = EagerBackend(model), EagerBackend(model, "bfloat16")
    _, batch, regions = next(PairScorer(plain, data, 10_000).block_batches(EVERYTHING))
    rounded = plain.pooled(batch, regions).astype("bfloat16").astype("float32")
    with paddle.no_grad():
        wanted = match_margin(model.classifier(rounded)).numpy()
    np.testing.assert_array_equal(backend.margins(batch, regions).numpy(), wanted)
    assert len(set(wanted)) > 100 > len({*paddle.to_tensor(wanted).astype("bfloat16").astype("float32").tolist()})
    assert places == {(False, paddle.float32)}


@pytest.mark.parametrize("model_class", [OscarForClassification, OscarForImagePairs])
def test_heads_leave_autocast_in_training(half, model_class):
    prepare, places = half
    model = tiny_model(model_class)
    prepare(model)
    packed = pack(batch_of(np.random.default_rng(0), [(3, 4), (9, 1)]))
    with paddle.amp.auto_cast():
        losses = model.row_losses(packed, np.zeros(2 if model_class is OscarForClassification else 1, int), "ce")
    assert losses.dtype == paddle.float32
    assert places == {(False, paddle.float32)}


# ---- fused attention ----


def test_fused_attention_is_found_to_work(model):
    assert fused_attention_works(model.bert.encoder.layer[0].attention.self, "float32")


def drops_the_mask(self, queries, keys, values, bias):
    return self._attention(queries, keys, values, bias * 0)


def drops_it_at(length, count=None):
    def attend(self, queries, keys, values, bias):
        bad = keys.shape[1] == length and count in (None, queries.shape[1])
        return self._attention(queries, keys, values, bias * 0 if bad else bias)

    return attend


def shows_all_queries_what_the_first_sees(self, queries, keys, values, bias):
    return self._attention(queries, keys, values, bias[:, :, :1])


def has_none(self, *_):
    raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    "stub",
    [
        drops_the_mask,
        *(drops_it_at(length) for length in (8, 37, 93, 140)),
        drops_it_at(93, 1),
        drops_it_at(93, 93),
        shows_all_queries_what_the_first_sees,
        has_none,
    ],
)
def test_a_wrong_fused_attention_is_refused(model, monkeypatch, stub):
    monkeypatch.setattr(BertSelfAttention, "_fused_attention", stub)
    assert not fused_attention_works(model.bert.encoder.layer[0].attention.self, "float32")


# ---- names in the records ----


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda: "NVIDIA A100")


def test_the_name_says_device_and_tf32(model, card, monkeypatch):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert EagerBackend(model).name == "eager Paddle, float32 with TF32, on gpu (NVIDIA A100)"
    monkeypatch.setattr(machine, "load_paddle", lambda: None)
    machine.prepare()  # training leaves it
    assert "NVIDIA_TF32_OVERRIDE" not in machine.os.environ
    machine.prepare(exact=True)
    assert EagerBackend(model).name == "eager Paddle, float32 without TF32, on gpu (NVIDIA A100)"
    fused = EagerBackend(model, "bfloat16", fused=True)
    assert fused.name == "eager Paddle, bfloat16, fused attention, on gpu (NVIDIA A100)"


def test_the_name_on_a_cpu(model, monkeypatch):
    monkeypatch.setattr(machine, "cpu_vendor", lambda field: {"model name": "AMD EPYC 7B13"}[field])
    assert EagerBackend(model).name == "eager Paddle, float32, on cpu (AMD EPYC 7B13)"


def test_batch_tokens_by_device(monkeypatch):
    cfg = get_cfg_defaults()
    assert batch_tokens(cfg) == 4096
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:1")
    assert batch_tokens(cfg) == 16384
    cfg.EVAL.BATCH_TOKENS = 300
    assert batch_tokens(cfg) == 300


# ---- waiting ----


def test_nothing_waits_for_a_batch_before_the_block_ends(model, data):
    """Results are looked at after the last batch was handed over, each in its place."""
    events = []

    class OnDevice:
        def __init__(self, values):
            self.values = values
            events.append("batch")

        def __array__(self, *_, **__):
            events.append("look")
            return self.values

    backend = EagerBackend(model)
    wanted = PairScorer(backend, data, 100).score(EVERYTHING)
    scorer = PairScorer(backend, data, 100)
    run = scorer.run
    scorer.run = lambda batch, regions: OnDevice(run(batch, regions).numpy())
    np.testing.assert_array_equal(scorer.score(EVERYTHING), wanted)
    batches = events.count("batch")
    assert batches > 5 and events == ["batch"] * batches + ["look"] * batches


def test_the_next_batch_is_prepared_meanwhile(model, data, monkeypatch):
    made, second = [], threading.Event()

    def row_batch(*arguments):
        made.append(threading.current_thread())
        if len(made) > 1:
            second.set()
        return real(*arguments)

    real = rows.row_batch
    monkeypatch.setattr(rows, "row_batch", row_batch)
    batches = PairScorer(EagerBackend(model), data, 100).block_batches(EVERYTHING)
    next(batches)
    assert second.wait(timeout=30)
    assert threading.current_thread() not in made
