"""AdamW in the reference's form, decay groups, clipping, and the learning rate."""

import math

import numpy as np
import paddle
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.optimizer import AdamW, clip_gradients, global_norm, group_of
from oscar_paddle.solvers.scheduler import learning_rate
from oscar_paddle.solvers.tasks.task import Group, Recipe


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
    optimizer = AdamW(named, weight_decay=0.05, epsilon=1e-8, recipe=Recipe())
    for gradient, lr in zip(gradients, rates, strict=True):
        for _, p in named:
            set_gradient(p, gradient)
        optimizer.update(lr)
    for (name, p), decay in zip(named, (0.05, 0.0), strict=True):
        expected = reference_adamw(start[name], gradients, rates, decay, 1e-8)
        np.testing.assert_allclose(p.numpy(), expected, rtol=3e-6, err_msg=name)


def corrected_adamw(value, gradients, rates, decay, epsilon):
    """The textbook form, in float64: epsilon joins the bias-corrected root, decay comes first."""
    value, m, v = np.array(value, np.float64), 0.0, 0.0
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        gradient = np.array(gradient, np.float64)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        value = value - lr * decay * value
        value = value - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + epsilon)
    return value


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_the_corrected_form_and_groups_with_rates_of_their_own(scale):
    """A group with a tenth of the rate and without decay, all others as the schedule says."""
    random = np.random.default_rng(1)
    start = {"vil_new.weight": random.normal(size=5), "bert.weight": random.normal(size=5)}
    gradients, rates = random.normal(size=(8, 5)) * scale, np.linspace(1e-2, 1e-3, 8)
    named = [(name, parameter(values)) for name, values in start.items()]
    recipe = Recipe(adamw="corrected", groups=(Group(("vil_",), decays=False, lr=0.1), Group(())))
    optimizer = AdamW(named, weight_decay=0.05, epsilon=1e-8, recipe=recipe)
    for gradient, lr in zip(gradients, rates, strict=True):
        for _, p in named:
            set_gradient(p, gradient)
        optimizer.update(lr)
    for (name, p), decay, factor in zip(named, (0.0, 0.05), (0.1, 1.0), strict=True):
        expected = corrected_adamw(start[name], gradients, rates * factor, decay, 1e-8)
        np.testing.assert_allclose(p.numpy(), expected, rtol=3e-6, err_msg=name)


def test_a_parameter_without_a_group_is_refused():
    with pytest.raises(ConfigError, match="parameter b.weight: belongs to no group"):
        AdamW([("b.weight", parameter([1.0]))], weight_decay=0.0, epsilon=1e-8, recipe=Recipe(groups=(Group(("a.",)),)))


def test_a_parameter_without_gradient_stays():
    named = [("a.weight", parameter([1.0])), ("b.weight", parameter([1.0]))]
    optimizer = AdamW(named, weight_decay=0.5, epsilon=1e-8, recipe=Recipe())
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
        ("classifier.2.weight", True),  # Upstream: the pair head's LayerNorm has this name, so it does decay
    ],
)
def test_decay_groups_go_by_name(name, expected):
    assert group_of(name, Recipe().groups).decays is expected


def test_clipping_is_by_global_norm():
    parameters = [parameter([0.0, 0.0]), parameter([0.0])]
    set_gradient(parameters[0], [3.0, 0.0])
    set_gradient(parameters[1], [4.0])
    norm = float(global_norm(parameters))
    assert norm == pytest.approx(5.0)
    clip_gradients(parameters, "global", 1.0, norm)
    np.testing.assert_allclose(parameters[0].grad.numpy(), [3 / (5 + 1e-6), 0.0], rtol=1e-6)
    np.testing.assert_allclose(parameters[1].grad.numpy(), [4 / (5 + 1e-6)], rtol=1e-6)


@pytest.mark.parametrize("how", ["global", "tensor", "value"])
@pytest.mark.parametrize("bound", [0.0, 10.0])
def test_small_or_unclipped_gradients_stay(how, bound):
    p = parameter([0.0])
    set_gradient(p, [5.0])
    clip_gradients([p], how, bound, 5.0)
    assert p.grad.item() == 5.0


@pytest.mark.parametrize(
    ("how", "expected"), [("tensor", [[0.6, 0.8], [0.5, 0.0]]), ("value", [[1.0, 1.0], [0.5, 0.0]])]
)
def test_clipping_by_tensor_and_by_value(how, expected):
    """Each gradient by its own norm, or each of its elements: the first exceeds 1, the second does not."""
    parameters = [parameter([0.0, 0.0]), parameter([0.0, 0.0])]
    set_gradient(parameters[0], [3.0, 4.0])
    set_gradient(parameters[1], [0.5, 0.0])
    clip_gradients(parameters, how, 1.0, 5.02)
    for p, wanted in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), wanted, rtol=1e-5)


def options(**values):
    section = get_cfg_defaults().OPTIMIZATION
    section.update(values)
    return section


def test_linear_schedule_is_one_notch_ahead_and_ends_at_zero():
    section = options(LR=2.0, WARMUP_STEPS=2, LR_SCHEDULER="linear")
    rates = [learning_rate(update, section, Recipe(), 6) for update in range(1, 7)]
    assert rates == pytest.approx([1.0, 2.0, 1.5, 1.0, 0.5, 0.0])


def test_a_schedule_that_advances_after_the_update_starts_at_zero():
    section = options(LR=2.0, WARMUP_STEPS=2, LR_SCHEDULER="linear")
    rates = [learning_rate(update, section, Recipe(schedule_first=False), 6) for update in range(1, 7)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.5, 1.0, 0.5])


def test_a_task_may_have_a_schedule_of_its_own():
    recipe = Recipe(schedule=lambda step, warmup, total: 0.1 ** (step > total // 2))
    rates = [learning_rate(update, options(LR=1.0), recipe, 4) for update in range(1, 5)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1])


def test_constant_schedule_warms_up_and_stays():
    section = options(LR=2.0, WARMUP_STEPS=4, LR_SCHEDULER="constant")
    assert [learning_rate(update, section, Recipe(), 6) for update in (1, 4, 6)] == pytest.approx([0.5, 2.0, 2.0])
