"""Losses of the sequence-classification tasks (docs/reference.md, losses). Shape letters: B rows, C classes."""

import math

import paddle
import paddle.nn.functional as F

from oscar_paddle.config.errors import ConfigError


def classification_losses(logits, labels, loss_type):
    """Loss of every row; the reference's loss is their mean.

    Args:
        logits: [B, C] float.
        labels: [B] int64 class indices, or [B, C] float32 targets (kl and bce only).
        loss_type: "kl" is the divergence of log-softmax from the targets, "bce" binary cross entropy averaged over
            classes times C (so: summed over classes), anything else softmax cross entropy; with targets, that of the
            class with the highest one, the first of equals. One class (C = 1) is squared error, whatever the type.
    Returns:
        [B] float32.
    Raises:
        ConfigError: kl or bce with targets that do not have C columns after one-hot encoding.
    Source: reference modeling_bert.py; its "kl" takes the mean over rows (batchmean).
    """
    logits = logits.astype("float32")
    classes = logits.shape[-1]
    if classes == 1:
        return paddle.square(logits[:, 0] - labels.astype("float32").reshape([-1]))
    if loss_type not in ("kl", "bce"):
        if labels.ndim == 2:
            labels = labels.argmax(axis=-1)
        return F.cross_entropy(logits, labels.reshape([-1]), reduction="none").reshape([-1])
    targets = F.one_hot(labels, classes) if labels.ndim == 1 else labels.astype("float32")
    if targets.shape[-1] != classes:
        found = targets.shape[-1]
        raise ConfigError(f"OPTIMIZATION.LOSS_TYPE {loss_type}: targets have {found} columns, expected {classes}")
    if loss_type == "kl":
        return F.kl_div(F.log_softmax(logits, axis=-1), targets, reduction="none").sum(axis=-1)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(axis=-1)


def masked_word_losses(logits, words, smoothing=0.0):
    """Loss of every masked word.

    Args:
        logits: [M, V] float. words: [M] int64, what was there.
        smoothing: share of the target that the other words divide evenly; the loss is the divergence from that target,
            which is the smoothed cross entropy less the target's own entropy.
    Returns:
        [M] float32.
    Source: docs/reference.md, masked-word loss.
    """
    logits = logits.astype("float32")
    # Not by log_softmax: on the CPU it takes a hundred times as long for so many words (paddlepaddle 3.3.1).
    losses = F.cross_entropy(logits, words, reduction="none").reshape([-1])
    if not smoothing:
        return losses
    classes = logits.shape[1]
    other = smoothing / (classes - 1)
    entropy = (1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(other)
    others = classes * paddle.logsumexp(logits, axis=-1) - logits.sum(axis=-1)  # cross entropy of all words together
    return entropy + (1 - smoothing - other) * losses + other * others


def match_margin(logits):
    """[B, C] logits -> [B] float32, "matched" minus "not matched"; the raw logit when C is 1."""
    logits = logits.astype("float32")
    return logits[:, 0] if logits.shape[-1] == 1 else logits[:, 1] - logits[:, 0]
