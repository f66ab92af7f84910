"""NLVR2 for training and evaluation."""

from oscar_paddle.datasets.nlvr2_dataset import build_nlvr2_data, sentence_keys
from oscar_paddle.models.oscar import OscarForClassification, OscarForImagePairs
from oscar_paddle.solvers.metrics.nlvr2 import nlvr2_metrics
from oscar_paddle.solvers.tasks.questions import TaskKind


def _metrics(data, predicted):
    return nlvr2_metrics(predicted, data.all_labels(), sentence_keys(data.examples))


def nlvr2_kind(use_pair):
    """The task with an encoder row for each image, or with one for both (INPUT.USE_PAIR)."""
    model_class = OscarForImagePairs if use_pair else OscarForClassification
    return TaskKind(
        name="NLVR2", build_data=build_nlvr2_data, model_class=model_class, metrics=_metrics, score="accuracy"
    )
