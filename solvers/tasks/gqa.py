"""GQA: the one answer to a compositional question about an image."""

from oscar_paddle.datasets.gqa_dataset import LABEL_FILES, gqa_layout, made_files, official_questions, question_files
from oscar_paddle.solvers.metrics.accuracy import accuracy
from oscar_paddle.solvers.tasks.questions import QuestionTask, for_the_server


def gqa_results(question_ids, answers):
    """What the evaluation server takes: [{"questionId": str, "prediction": str}, ...], see `for_the_server`.

    The reference writes an id as a number, which loses its leading zeros; here it stays as it is.
    """
    return for_the_server(question_ids, answers, "questionId", "prediction")


class GqaTask(QuestionTask):
    name = "GQA"
    choices = {
        "DATASET.TRAIN": ("train",),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test-dev", "test"),
        "DATASET.EVAL_DATA_TYPE": ("bal", "all"),
        "OPTIMIZATION.LOSS_TYPE": ("xe", "sfmx"),
    }
    layout, results = staticmethod(gqa_layout), staticmethod(gqa_results)
    official, question_files, label_files = staticmethod(official_questions), staticmethod(question_files), LABEL_FILES
    made_files = staticmethod(made_files)
    own_keys = ("DATASET.TRAIN_DATA_TYPE", "DATASET.EVAL_DATA_TYPE", "DATASET.LABEL_FILE", "DATASET.LABEL2ANS_FILE")

    @staticmethod
    def metrics(data, predicted):
        return accuracy(predicted, data.all_labels())


TASK = GqaTask
