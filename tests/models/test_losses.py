"""Losses against their formulas in NumPy."""

import numpy as np
import paddle
import pytest

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.models.losses import classification_losses, match_margin

LOGITS = np.array([[2.0, -1.0], [0.5, 0.25], [-3.0, 4.0]], np.float32)
LABELS = np.array([0, 1, 0])
ONE_HOT = np.eye(2)[LABELS]
LOG_PROBABILITIES = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))


def losses(loss_type, labels=LABELS, logits=LOGITS):
    return classification_losses(paddle.to_tensor(logits), paddle.to_tensor(labels), loss_type).numpy()


@pytest.mark.parametrize("name", ["sfmx", "xe"])
def test_softmax_cross_entropy(name):
    np.testing.assert_allclose(losses(name), -(ONE_HOT * LOG_PROBABILITIES).sum(1), rtol=1e-6)


def test_kl_takes_the_mean_over_rows_of_the_sum_over_classes():
    targets = np.array([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]], np.float32)
    entropy = np.where(targets > 0, targets * np.log(np.maximum(targets, 1e-9)), 0)
    np.testing.assert_allclose(losses("kl", targets), (entropy - targets * LOG_PROBABILITIES).sum(1), rtol=1e-5)


def test_kl_of_class_indices_is_cross_entropy():
    np.testing.assert_allclose(losses("kl"), losses("sfmx"), rtol=1e-5)


def test_bce_is_summed_over_classes():
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -(ONE_HOT * np.log(p) + (1 - ONE_HOT) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(losses("bce"), expected, rtol=1e-5)


@pytest.mark.parametrize("loss_type", ["sfmx", "kl", "bce"])
def test_one_class_is_squared_error(loss_type):
    expected = (LOGITS[:, 0] - LABELS) ** 2
    np.testing.assert_allclose(losses(loss_type, LABELS, LOGITS[:, :1]), expected, rtol=1e-6)


def test_targets_of_another_width_are_refused():
    with pytest.raises(ConfigError, match="LOSS_TYPE kl: targets have 3 columns, expected 2"):
        losses("kl", np.zeros((3, 3), np.float32))


def test_margin_is_a_logit_difference_or_the_single_logit():
    np.testing.assert_allclose(match_margin(paddle.to_tensor(LOGITS)).numpy(), LOGITS[:, 1] - LOGITS[:, 0])
    np.testing.assert_allclose(match_margin(paddle.to_tensor(LOGITS[:, :1])).numpy(), LOGITS[:, 0])
