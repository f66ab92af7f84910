"""VQA v2: an answer of some thousands to a question about an image, with soft scores."""

from oscar_paddle.datasets.vqa_dataset import build_vqa_data
from oscar_paddle.solvers.metrics.vqa import vqa_metrics
from oscar_paddle.solvers.tasks.questions import QuestionTask, for_the_server


def vqa_results(question_ids, answers):
    """What the evaluation server takes: [{"question_id": int, "answer": str}, ...], see `for_the_server`."""
    return for_the_server(question_ids, answers, "question_id", "answer", int)


class VqaTask(QuestionTask):
    name, score, has_soft_targets = "VQA", "score", True
    choices = {
        "DATASET.TRAIN": ("train", "train+val"),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test2015", "test-dev2015"),
        "DATASET.DATA_LABEL_TYPE": ("mask", "all"),
    }
    build_data, results = staticmethod(build_vqa_data), staticmethod(vqa_results)

    @staticmethod
    def metrics(data, predicted):
        return vqa_metrics(predicted, data.soft_answers())


TASK = VqaTask
