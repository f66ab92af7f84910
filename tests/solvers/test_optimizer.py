"""AdamW in the reference's form, decay groups, clipping, and the learning rate."""

import math

import numpy as np
import paddle
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.optimizer import ReferenceAdamW, build_optimizer, clip_gradients, decays, global_norm
from oscar_paddle.solvers.scheduler import learning_rate


def parameter(values):
    return paddle.create_parameter(
        [len(values)], "float32", default_initializer=paddle.nn.initializer.Assign(np.array(values, np.float32))
    )


def set_gradient(parameter, values):
    parameter.grad = paddle.to_tensor(np.array(values, np.float32))


def reference_adamw(value, gradients, rates, decay, epsilon):
    """The formula of docs/reference.md, optimizer, in float64."""
    value, m, v = np.array(value, np.float64), 0.0, 0.0
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        gradient = np.array(gradient, np.float64)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        value = value - lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + epsilon)
        value = value - lr * decay * value
    return value


@pytest.mark.parametrize("scale", [1.0, 1e-7])  # at 1e-7 the place of epsilon decides the step
def test_update_follows_the_reference_formula(scale):
    random = np.random.default_rng(0)
    start = {"layer.weight": random.normal(size=5), "layer.bias": random.normal(size=5)}
    gradients = random.normal(size=(8, 5)) * scale
    rates = np.linspace(1e-2, 0.0, 8)
    named = [(name, parameter(values)) for name, values in start.items()]
    optimizer = ReferenceAdamW(named, weight_decay=0.05, epsilon=1e-8)
    for gradient, lr in zip(gradients, rates, strict=True):
        for _, p in named:
            set_gradient(p, gradient)
        optimizer.update(lr)
    for (name, p), decay in zip(named, (0.05, 0.0), strict=True):
        expected = reference_adamw(start[name], gradients, rates, decay, 1e-8)
        np.testing.assert_allclose(p.numpy(), expected, rtol=3e-6, err_msg=name)


def test_a_parameter_without_gradient_stays():
    named = [("a.weight", parameter([1.0])), ("b.weight", parameter([1.0]))]
    optimizer = ReferenceAdamW(named, weight_decay=0.5, epsilon=1e-8)
    set_gradient(named[0][1], [1.0])
    optimizer.update(0.1)
    assert named[0][1].item() < 1.0
    assert named[1][1].item() == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert.embeddings.word_embeddings.weight", True),
        ("bert.encoder.layer.0.output.dense.weight", True),
        ("bert.encoder.layer.0.output.dense.bias", False),
        ("bert.embeddings.LayerNorm.weight", False),
        ("bert.LayerNorm.weight", False),
        ("cls.predictions.bias", False),
        ("classifier.2.weight", True),  # Upstream: NLVR2's head LayerNorm has this name, so it does decay
    ],
)
def test_decay_groups_go_by_name(name, expected):
    assert decays(name) is expected


def test_clipping_is_by_global_norm():
    parameters = [parameter([0.0, 0.0]), parameter([0.0])]
    set_gradient(parameters[0], [3.0, 0.0])
    set_gradient(parameters[1], [4.0])
    norm = float(global_norm(parameters))
    assert norm == pytest.approx(5.0)
    clip_gradients(parameters, 1.0, norm)
    np.testing.assert_allclose(parameters[0].grad.numpy(), [3 / (5 + 1e-6), 0.0], rtol=1e-6)
    np.testing.assert_allclose(parameters[1].grad.numpy(), [4 / (5 + 1e-6)], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0.0, 10.0])
def test_small_or_unclipped_gradients_stay(max_norm):
    p = parameter([0.0])
    set_gradient(p, [5.0])
    clip_gradients([p], max_norm, 5.0)
    assert p.grad.item() == 5.0


def options(**values):
    section = get_cfg_defaults().OPTIMIZATION
    section.update(values)
    return section


def test_linear_schedule_is_one_notch_ahead_and_ends_at_zero():
    section = options(LR=2.0, WARMUP_STEPS=2, LR_SCHEDULER="linear")
    rates = [learning_rate(update, section, 6) for update in range(1, 7)]
    assert rates == pytest.approx([1.0, 2.0, 1.5, 1.0, 0.5, 0.0])


def test_constant_schedule_warms_up_and_stays():
    section = options(LR=2.0, WARMUP_STEPS=4, LR_SCHEDULER="constant")
    assert [learning_rate(update, section, 6) for update in (1, 4, 6)] == pytest.approx([0.5, 2.0, 2.0])


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="OPTIMIZATION.OPTIMIZER.*'sgd'.*adamw"):
        build_optimizer(paddle.nn.Linear(2, 2), options(OPTIMIZER="sgd"))
    with pytest.raises(ConfigError, match="LR_SCHEDULER.*'cosine'.*linear, constant"):
        learning_rate(1, options(LR_SCHEDULER="cosine"), 6)
