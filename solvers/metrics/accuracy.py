"""Share of right answers, and how sure a share is."""

import math

import numpy as np

from oscar_paddle.config.errors import DataError


def accuracy(predicted, labels):
    """Accuracy of one prediction for each example, of classes: predicted [Q] int, labels [Q] int.

    Returns:
        dict: accuracy (fraction), accuracy_standard_error, num_examples.
    Raises:
        DataError: no examples, or another number of labels.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.ndim != 1 or predicted.shape != labels.shape or not len(predicted):
        raise DataError(f"{list(predicted.shape)} predictions and {list(labels.shape)} labels; expected one of each")
    share = float(np.mean(predicted == labels))
    error = standard_error(share, len(predicted))
    return {"accuracy": share, "accuracy_standard_error": error, "num_examples": len(predicted)}


def standard_error(share, count):
    """Of a share (fraction) of so many cases, taken as independent."""
    return math.sqrt(share * (1 - share) / count)
