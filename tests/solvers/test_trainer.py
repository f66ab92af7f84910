"""The loop itself, on a task that has nothing to do with retrieval: any task with these methods can be trained."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn as nn
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError, DataError, TrainingError
from oscar_paddle.models.config import BertConfig
from oscar_paddle.solvers import trainer as trainer_module
from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.run_folder import RunFolder
from oscar_paddle.solvers.tasks.task import Task, Term
from oscar_paddle.solvers.trainer import Trainer

INPUTS = np.random.default_rng(5).standard_normal((20, 6)).astype(np.float32)
TARGETS = np.tanh(INPUTS @ np.random.default_rng(6).standard_normal((6, 3))).astype(np.float32)


class ToyModel(nn.Layer):
    def __init__(self):
        super().__init__()
        self.config = BertConfig(hidden_size=12)
        self.first, self.dropout, self.second = nn.Linear(6, 16), nn.Dropout(0.3), nn.Linear(16, 3)
        for number, parameter in enumerate(self.parameters()):
            values = np.random.default_rng(number).standard_normal(parameter.shape) * 0.3
            parameter.set_value(values.astype(np.float32))

    def forward(self, inputs):
        return self.second(self.dropout(nn.functional.gelu(self.first(inputs))))


class ToyDev:
    """Stands for the evaluation of a dev split: the scores are given."""

    def __init__(self, scores):
        self.scores = list(scores)

    def best_by(self, metrics):
        return metrics["score"]

    def lines(self, metrics):
        return [f"dev {metrics['score']}"]


class ToyTask(Task):
    """Regression; the dev scores are given, the losses can be spoilt."""

    num_examples, terms = 20, {"squares": Term()}

    def __init__(self, scores=(), spoil=None):
        super().__init__(cfg=None, dev=ToyDev(scores))
        self.spoil, self.seen = spoil or (lambda step, losses: losses), []
        self.steps = 0

    def fingerprint(self):
        return {"the numbers": "0"}

    def batch(self, examples, epoch):
        return np.asarray(examples), epoch

    def counts(self, batch):
        return {"squares": len(batch[0])}

    def losses(self, model, batch):
        examples, epoch = batch
        self.seen.append((epoch, *examples.tolist()))
        self.steps += 1
        errors = model(paddle.to_tensor(INPUTS[examples])) - paddle.to_tensor(TARGETS[examples])
        return {"squares": self.spoil(self.steps, paddle.square(errors).sum(axis=-1)).sum()}

    def describe(self, examples):
        return ", ".join(f"number {e}" for e in examples)


@pytest.fixture(autouse=True)
def given_scores(monkeypatch):
    def evaluate(model, dev, batch_tokens, ranks):
        assert not model.training
        return {"score": dev.scores.pop(0), "accuracy": 0.5}

    monkeypatch.setattr(trainer_module, "evaluate_in_training", evaluate)


class ToyTokenizer:
    vocab = {"[PAD]": 0}

    def save(self, folder):
        (folder / "vocab.txt").write_text("[PAD]\n")


@pytest.fixture
def train(tmp_path):
    def run(task=None, name="run", amp_scale=None, **keys):
        cfg = get_cfg_defaults()
        cfg.OPTIMIZATION.merge_from_list(["BATCH_SIZE", 4, "LR", 0.01, "EPOCHS", 2])
        cfg.PRETRAINED.RESUME, cfg.MONITOR.EVAL_FREQ, cfg.MISC.NUM_WORKERS = "auto", 0, 0
        for key, value in keys.items():
            section, key = key.split("__")
            cfg[section][key] = value
        model = ToyModel()
        task = task or ToyTask()
        optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
        folder = RunFolder(tmp_path / name)
        trainer = Trainer(model, optimizer, task, tokenizer=ToyTokenizer(), cfg=cfg, ranks=Ranks(), run_folder=folder)
        if amp_scale:
            trainer.scaler.enabled, trainer.scaler.scale = True, amp_scale
        try:
            trainer.run()
        finally:
            folder._lock.release()  # as the end of the process would
        return trainer

    return run


def losses(trainer):
    return [record["loss"] for record in trainer.run_folder.read_metrics() if "loss" in record]


def weights(trainer):
    return {name: parameter.numpy() for name, parameter in trainer.model.named_parameters()}


def assert_close(left, right, tolerance):
    for name, value in weights(left).items():
        np.testing.assert_allclose(value, weights(right)[name], rtol=0, atol=tolerance, err_msg=name)


def test_every_example_once_an_epoch(train):
    task = ToyTask()
    trainer = train(task, MISC__NUM_WORKERS=2)
    for epoch in (0, 1):
        seen = [example for number, *examples in task.seen for example in examples if number == epoch]
        assert sorted(seen) == list(range(20))
    assert task.seen[:5] != task.seen[5:]
    assert trainer.step == trainer.total_steps == 10
    assert [r["epoch"] for r in trainer.run_folder.read_metrics()] == [1] * 5 + [2] * 5


def test_the_loss_falls(train):
    curve = losses(train(OPTIMIZATION__EPOCHS=20, OPTIMIZATION__CLIP_MAX_NORM=0.0))
    assert np.mean(curve[-5:]) < 0.5 * np.mean(curve[:5])


def test_record_of_the_first_step(train):
    """Loss and gradient norm by hand: float64 sums over the first batch, dropout off."""
    trainer = train(ToyTask(spoil=lambda step, losses: losses.detach() * 0 + losses), OPTIMIZATION__MAX_STEPS=1)
    (record,) = trainer.run_folder.read_metrics()
    assert record["step"] == 1
    assert record["lr"] == 0.0  # the only step of a linear schedule
    assert record["pairs_per_s"] > 0
    assert math.isfinite(record["grad_norm"])


def without_dropout(monkeypatch):
    monkeypatch.setattr(ToyModel, "forward", lambda self, x: self.second(nn.functional.gelu(self.first(x))))


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (1, 8), (3, 3)])
def test_accumulation(train, monkeypatch, batch, accumulation):
    """k batches of B equal one of k x B, to rounding; the last update of an epoch has fewer (20 = 8 + 8 + 4)."""
    without_dropout(monkeypatch)
    whole = train(name="whole", OPTIMIZATION__BATCH_SIZE=batch * accumulation)
    keys = {"OPTIMIZATION__BATCH_SIZE": batch, "OPTIMIZATION__GRADIENT_ACCUMULATION_STEPS": accumulation}
    parts = train(name="parts", **keys)
    assert whole.total_steps == parts.total_steps == 2 * math.ceil(20 / (batch * accumulation))
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=1e-6)
    assert_close(parts, whole, 1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_loss(train, value):
    """Step, rate and ids are named; the last good checkpoint stays, and is what a new start goes on from."""
    task = ToyTask(spoil=lambda step, losses: losses * value if step == 8 else losses)
    with pytest.raises(TrainingError) as stop:
        train(task, OUTPUT__SAVE_STEPS=3)
    message = str(stop.value)
    assert message.startswith("step 8: loss ")
    assert f"at learning rate {0.01 * 2 / 10:.3e}; nothing was saved over the last checkpoint; the batch: " in message
    ids = ", ".join(f"number {example}" for example in task.seen[-1][1:])
    assert message.endswith(ids)
    again = train(ToyTask())
    assert again.step == 10
    assert_close(again, train(ToyTask(), name="unbroken"), 0)


def test_non_finite_gradient_of_a_finite_loss(train):
    """The square root of 0 is 0 and its slope infinite."""
    task = ToyTask(spoil=lambda step, losses: paddle.sqrt(losses * 0) + losses)
    with pytest.raises(TrainingError, match=r"step 1: loss [0-9.]+, gradient norm (nan|inf) at learning rate"):
        train(task)
    task = ToyTask(spoil=lambda step, losses: paddle.sqrt(losses * 0) + losses)
    with pytest.raises(TrainingError, match="step 15"):  # loss scaling halves to 1, then it is no overflow any more
        train(task, name="fp16", amp_scale=2.0**14, OPTIMIZATION__EPOCHS=20)


def test_float16_overflow_is_skipped_and_counted(train, caplog):
    """One update with an infinite gradient: weights stay, the scale halves, the summary tells."""
    caplog.set_level("INFO")
    overflow = lambda step, losses: losses + (paddle.sqrt(losses * 0) if step == 2 else 0)  # noqa: E731
    trainer = train(ToyTask(spoil=overflow), amp_scale=1024.0)
    assert (trainer.step, trainer.optimizer.updates) == (10, 9)
    assert (trainer.scaler.skipped_updates, trainer.scaler.scale) == (1, 512.0)
    assert "1 updates skipped by float16 loss scaling" in caplog.text
    norms = [record["grad_norm"] for record in trainer.run_folder.read_metrics()]
    assert [norm is None for norm in norms] == [False, True] + [False] * 8


def test_loss_scaling_changes_nothing_without_overflow(train):
    """Powers of two multiply and divide exactly."""
    plain, scaled = train(name="plain"), train(name="scaled", amp_scale=2.0**12)
    assert losses(plain) == losses(scaled)
    assert_close(plain, scaled, 0)


def test_best_follows_the_dev_score(train):
    task = ToyTask(scores=[0.3, 0.5, 0.4, 0.5, 0.1])
    trainer = train(task, MONITOR__EVAL_STEPS=2, MONITOR__EVAL_FREQ=0, OUTPUT__KEEP=1, OUTPUT__SAVE_FREQ=0)
    assert (trainer.best_step, trainer.best_score) == (4, 0.5)  # the first of equals
    folder = trainer.run_folder
    assert list(folder.checkpoints()) == [4, 10]
    assert (folder.path / "best").resolve().name == "checkpoint-4"
    assert (folder.path / "last").resolve().name == "checkpoint-10"
    scores = [(r["step"], r["score"], r["best_score"]) for r in folder.read_metrics() if "score" in r]
    assert scores == [(2, 0.3, 0.3), (4, 0.5, 0.5), (6, 0.4, 0.5), (8, 0.5, 0.5), (10, 0.1, 0.5)]
    assert json.loads((folder.path / "best" / "trainer_state.json").read_text())["best_score"] == 0.5


def test_early_stop(train, caplog):
    """Two evaluations in a row without a better score; a new start sees that the run has ended."""
    caplog.set_level("INFO")
    keys = {"MONITOR__EVAL_STEPS": 1, "OPTIMIZATION__EARLY_STOP_PATIENCE": 2, "OUTPUT__SAVE_FREQ": 0}
    trainer = train(ToyTask(scores=[0.3, 0.2, 0.4, 0.4, 0.3]), **keys)
    assert (trainer.step, trainer.best_step) == (5, 3)
    summary = "stopped after 2 evaluations without a better score at step 5 of 10; best dev score 0.4000 at step 3"
    assert summary in caplog.text
    before = trainer.run_folder.metrics_file.read_text()
    caplog.clear()
    again = train(ToyTask(), **keys)
    assert again.step == 5
    assert summary in caplog.text
    assert trainer.run_folder.metrics_file.read_text() == before


def test_error_while_preparing_a_batch(train, monkeypatch):
    """It reaches the caller as it is, from the thread that met it, after the steps before it."""

    def batch(self, examples, epoch):
        if epoch == 1:
            raise DataError("features.tsv row 3: broken")
        return np.asarray(examples), epoch

    monkeypatch.setattr(ToyTask, "batch", batch)
    with pytest.raises(DataError, match=r"features.tsv row 3: broken"):
        train(MISC__NUM_WORKERS=3)


def test_resumed_in_the_middle_of_an_epoch(train):
    """Dropout on, three starts: the same bits."""
    unbroken = train(name="unbroken", OUTPUT__SAVE_STEPS=1)
    for steps in (3, 4):  # 3 of 5 steps of the first epoch; then 4 more, into the second
        stop = ToyTask(spoil=lambda step, losses, steps=steps: losses if step <= steps else losses * float("nan"))
        with pytest.raises(TrainingError):
            train(stop, OUTPUT__SAVE_STEPS=1)
    resumed = train(OUTPUT__SAVE_STEPS=1)
    assert resumed.task.steps == 3
    assert losses(resumed) == losses(unbroken)
    assert_close(resumed, unbroken, 0)


def test_dropout_depends_on_step_micro_batch_and_rank(train):
    trainer = train(OPTIMIZATION__MAX_STEPS=1)
    seeds = set()
    for trainer.step in range(3):
        for trainer.ranks.rank in range(3):
            seeds |= {trainer.dropout_seed(micro_batch) for micro_batch in range(3)}
    assert len(seeds) == 27


class TwoTerms(ToyTask):
    """Squares over rows and a penalty over a varying number of tokens, half as heavy."""

    terms = {"squares": Term(), "tokens": Term(weight=0.5)}

    def counts(self, batch):
        return {"squares": len(batch[0]), "tokens": int(batch[0].sum() % 7)}

    def losses(self, model, batch):
        examples, _ = batch
        outputs = model(paddle.to_tensor(INPUTS[examples]))
        errors = outputs - paddle.to_tensor(TARGETS[examples])
        tokens = paddle.abs(outputs).sum() * float(examples.sum() % 7)
        return {"squares": paddle.square(errors).sum(), "tokens": tokens}


def test_terms_are_added_over_micro_batches_and_divided_once(train):
    """Two micro-batches of 4 are one of 8: each term's sum over the whole count, not the mean of two means."""
    keys = {"OPTIMIZATION__CLIP_MAX_NORM": 0.0, "OPTIMIZATION__MAX_STEPS": 2, "OPTIMIZATION__LR_SCHEDULER": "constant"}
    trainer = train(TwoTerms(), OPTIMIZATION__GRADIENT_ACCUMULATION_STEPS=2, **keys)
    for record in trainer.run_folder.read_metrics():
        assert record["loss"] == pytest.approx(sum(record["losses"].values()), rel=1e-6)
    assert set(trainer.run_folder.read_metrics()[0]["losses"]) == {"squares", "tokens"}


def test_the_factors_of_terms(train):
    """A count is that of all micro-batches and ranks; a term per batch counts as the mean over batches."""
    trainer = train(TwoTerms(), OPTIMIZATION__MAX_STEPS=1)
    batches = [(np.array([1, 2]), 0), None, (np.array([3, 4, 5]), 0)]
    assert trainer.factors(batches) == {"squares": ([5] * 3, 1.0), "tokens": ([3 + 5] * 3, 0.5)}
    trainer.task.terms = {"squares": Term(), "tokens": Term(weight=0.5, per_batch=True)}
    trainer.ranks = SimpleNamespace(world_size=4, sum=lambda values: [4 * value for value in values])
    assert trainer.factors(batches) == {"squares": ([20] * 3, 1.0), "tokens": ([3, 1, 5], 0.5 / 8)}
    assert trainer.factors([None]) == {"squares": ([1], 1.0), "tokens": ([1], 0.5)}


class WithFigure(ToyTask):
    """Reports a figure."""

    terms = {"squares": Term(), "largest": Term(is_loss=False)}

    def counts(self, batch):
        return {"squares": len(batch[0]), "largest": 1}

    def losses(self, model, batch):
        squares = super().losses(model, batch)["squares"]
        return {"squares": squares, "largest": paddle.to_tensor(float(batch[0].max()))}


def test_figures_are_reported_and_not_trained_on(train):
    plain, figured = train(ToyTask(), OPTIMIZATION__MAX_STEPS=2), WithFigure()
    weights = [p.numpy() for p in plain.model.parameters()]
    shutil.rmtree(plain.run_folder.path)
    trainer = train(figured, OPTIMIZATION__MAX_STEPS=2)
    assert all((p.numpy() == w).all() for p, w in zip(trainer.model.parameters(), weights, strict=True))
    for record, (_, *examples) in zip(trainer.run_folder.read_metrics(), figured.seen, strict=False):
        assert record["figures"] == {"largest": max(examples)} and "losses" not in record


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({"OPTIMIZATION__BATCH_SIZE": 2}, [1] * 3 + [1] * 4 + [2] * 10),  # 3 of 5 steps are 6 of 10
        ({"OPTIMIZATION__BATCH_SIZE": 8}, [1] * 3 + [1] + [2] * 3),  # and about 2 of 3
        ({"OPTIMIZATION__EPOCHS": 3}, [1] * 5 + [2] * 5 + [3] * 5),
        ({"OPTIMIZATION__MAX_STEPS": 7}, [1] * 5 + [2] * 2),
    ],
)
def test_resumed_inexactly(train, caplog, changes, epochs):
    """The rest of the epoch is shown once, the schedule ends at 0, and such a run resumes exactly again."""
    stop = ToyTask(spoil=lambda step, losses: losses if step <= 3 else losses * float("nan"))
    with pytest.raises(TrainingError):
        train(stop, OUTPUT__SAVE_STEPS=1)
    with pytest.raises(ConfigError, match="RESUME_INEXACT True"):
        train(**changes, OUTPUT__SAVE_STEPS=1)
    first = ToyTask(spoil=lambda step, losses: losses if step <= 2 else losses * float("nan"))
    with pytest.raises(TrainingError):
        train(first, **changes, OUTPUT__SAVE_STEPS=1, PRETRAINED__RESUME_INEXACT=True)
    assert "not resumed exactly" in caplog.text
    task = ToyTask()
    resumed = train(task, **changes, OUTPUT__SAVE_STEPS=1)  # exact, so nothing has to be asked for
    records = resumed.run_folder.read_metrics()
    assert [record["epoch"] for record in records] == epochs
    assert [record["step"] for record in records] == list(range(1, len(epochs) + 1)) and records[-1]["lr"] == 0
    seen = [(epoch, example) for epoch, *batch in (*stop.seen[:3], *first.seen[:2], *task.seen) for example in batch]
    assert len(set(seen)) == len(seen)
