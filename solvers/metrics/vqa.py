"""VQA's soft score (docs/reference.md, vqa metric)."""

import math

import numpy as np

from oscar_paddle.config.errors import DataError


def vqa_metrics(predicted, answers):
    """Mean soft score of one predicted answer for each question.

    Args:
        predicted: [Q] int, classes.
        answers: list of Q dicts class -> soft score; a predicted class that is not in it scores 0.
    Returns:
        dict: score (fraction), score_standard_error, num_examples.
    Raises:
        DataError: no questions, or another number of answers.
    """
    predicted = np.asarray(predicted)
    if predicted.ndim != 1 or len(predicted) != len(answers) or not len(answers):
        raise DataError(f"{list(predicted.shape)} predictions for {len(answers)} questions; expected one for each")
    scores = [scored.get(answer, 0.0) for answer, scored in zip(predicted.tolist(), answers, strict=True)]
    error = float(np.std(scores)) / math.sqrt(len(scores))
    return {"score": math.fsum(scores) / len(scores), "score_standard_error": error, "num_examples": len(scores)}
