"""NLVR2's accuracy and consistency."""

import numpy as np

from oscar_paddle.solvers.metrics.accuracy import accuracy


def nlvr2_metrics(predicted, labels, sentences):
    """Accuracy over statements, and over unique sentences that are judged right for all their image pairs.

    Args:
        predicted: [Q] int, 1 = true. labels: [Q] int.
        sentences: [Q] hashable, what tells one unique sentence from another.
    Returns:
        dict: as `accuracy`, and consistency (fraction), num_sentences.
    Raises:
        DataError: no examples, or another number of labels.
    Source: the definition of consistency of the NLVR2 data set (Suhr et al., 2019).
    """
    metrics = accuracy(predicted, labels)
    consistent = {}
    for sentence, right in zip(sentences, (np.asarray(predicted) == np.asarray(labels)).tolist(), strict=True):
        consistent[sentence] = consistent.get(sentence, True) and right
    share = sum(consistent.values()) / len(consistent)
    return {**metrics, "consistency": share, "num_sentences": len(consistent)}
