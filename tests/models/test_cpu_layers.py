"""Layers that compute on the CPU what Paddle's own compute more slowly: same outputs, gradients and statistics."""

import contextlib

import numpy as np
import paddle
import paddle.nn as nn
import pytest

from oscar_paddle.models.bert import Dropout, LayerNorm, Linear, Unrolled


def gradients(layer, inputs, upstream):
    """(output, gradient of the input, gradients of the parameters) in training mode."""
    layer.train()
    hidden = paddle.to_tensor(inputs, stop_gradient=False)
    output = layer(hidden)
    output.backward(paddle.to_tensor(upstream))
    return [output.numpy(), hidden.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: LayerNorm(24, epsilon=1e-3), lambda: nn.LayerNorm(24, epsilon=1e-3)),
        (lambda: Linear(24, 24), lambda: nn.Linear(24, 24)),
    ],
    ids=["LayerNorm", "Linear"],
)
def test_outputs_and_gradients_are_paddles(ours, theirs):
    random = np.random.default_rng(0)
    inputs, upstream = random.normal(size=(2, 30, 24)).astype(np.float32)
    left, right = ours(), theirs()
    for mine, other in zip(left.parameters(), right.parameters(), strict=True):
        values = random.normal(size=mine.shape).astype(np.float32)
        mine.set_value(values)
        other.set_value(values)
    for found, wanted in zip(gradients(left, inputs, upstream), gradients(right, inputs, upstream), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
        assert np.abs(wanted).max() > 0.1  # else the comparison shows nothing


def test_dropout_keeps_what_it_should_and_its_mean():
    layer, ones = Dropout(0.3), paddle.ones([400, 500])
    layer.train()
    paddle.seed(3)
    first, second = layer(ones).numpy(), layer(ones).numpy()
    kept = np.unique(first)
    assert len(kept) == 2 and kept[0] == 0 and kept[1] == pytest.approx(1 / 0.7, rel=2e-5)
    assert (first == 0).mean() == pytest.approx(0.3, abs=0.005)
    assert ((first == 0) & (second == 0)).mean() == pytest.approx(0.09, abs=0.005)  # masks of their own
    paddle.seed(3)
    np.testing.assert_array_equal(layer(ones).numpy(), first)
    layer.eval()
    np.testing.assert_array_equal(layer(ones).numpy(), ones.numpy())


def test_dropout_passes_the_gradient_of_what_it_kept():
    hidden = paddle.ones([50, 60])
    hidden.stop_gradient = False
    output = Dropout(0.4)(hidden)
    output.sum().backward()
    np.testing.assert_array_equal(hidden.grad.numpy(), output.numpy())


def test_a_loop_has_the_gradients_of_its_steps_from_one_product(monkeypatch):
    """Whatever the steps' numbers of rows, and with uses of the layer outside the loop."""
    layer, random = Linear(6, 4), np.random.default_rng(0)
    layer.train()
    steps = [random.normal(size=(rows, 2, 6)).astype(np.float32) for rows in (3, 1, 2)]
    products, matmul = [], paddle.matmul

    def total(context):
        layer.clear_gradients()
        hidden = [paddle.to_tensor(step, stop_gradient=False) for step in steps]
        outside = layer(hidden[0]).sin().sum()
        with context:
            inside = sum(layer(one).sin().sum() for one in hidden)
        monkeypatch.setattr(paddle, "matmul", lambda *a, **how: products.append(how) or matmul(*a, **how))
        (inside + outside).backward()
        monkeypatch.undo()
        count = sum("transpose_x" in how for how in products)
        products.clear()
        return count, [layer.weight.grad.numpy(), layer.bias.grad.numpy(), *(one.grad.numpy() for one in hidden)]

    apart, wanted = total(contextlib.nullcontext())
    at_once, found = total(Unrolled())
    assert (apart, at_once) == (4, 2)
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    with Unrolled(), paddle.no_grad():
        layer(paddle.to_tensor(steps[0]))  # is no step that a gradient is waited for
    assert total(contextlib.nullcontext())[0] == 4, "the loop has ended"
