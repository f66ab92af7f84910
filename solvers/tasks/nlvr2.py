"""NLVR2: is a statement about two images true?"""

from oscar_paddle.datasets.nlvr2_dataset import nlvr2_layout, official_statements, question_files, sentence_keys
from oscar_paddle.solvers.metrics.nlvr2 import nlvr2_metrics
from oscar_paddle.solvers.tasks.questions import QuestionTask


class Nlvr2Task(QuestionTask):
    """With an encoder row for each image, or one for both (INPUT.USE_PAIR)."""

    name, shown, scoring_keys = "NLVR2", ("consistency",), ("INPUT.USE_PAIR",)
    choices = {
        "DATASET.TRAIN": ("train",),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test1", "val+test1"),
        "OPTIMIZATION.LOSS_TYPE": ("xe", "sfmx", "kl"),  # of one right class, kl is cross entropy
        "OUTPUT.NUM_LABELS": (2,),
    }
    layout = staticmethod(nlvr2_layout)
    official, question_files = staticmethod(official_statements), staticmethod(question_files)
    own_keys = ("DATASET.EVAL_DATA_TYPE", "INPUT.USE_PAIR")

    def model_class(self):
        from oscar_paddle.models.oscar import OscarForClassification, OscarForImagePairs

        return OscarForImagePairs if self.cfg.INPUT.USE_PAIR else OscarForClassification

    @staticmethod
    def metrics(data, predicted):
        return nlvr2_metrics(predicted, data.all_labels(), sentence_keys(data.examples))


TASK = Nlvr2Task
