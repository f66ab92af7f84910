"""VQA v2: an answer of some thousands to a question about an image, with soft scores."""

from oscar_paddle.datasets.vqa_dataset import LABEL_FILES, official_questions, question_files, vqa_layout
from oscar_paddle.solvers.metrics.vqa import vqa_metrics
from oscar_paddle.solvers.tasks.questions import QuestionTask, for_the_server


def vqa_results(question_ids, answers):
    """What the evaluation server takes: [{"question_id": int, "answer": str}, ...], see `for_the_server`; VizWiz's
    takes the name of the picture, "image", in place of the id.
    """
    if all(map(str.isdigit, question_ids)):
        return for_the_server(map(int, question_ids), answers, "question_id", "answer")
    return for_the_server(question_ids, answers, "image", "answer")


class VqaTask(QuestionTask):
    name, score, has_soft_targets = "VQA", "score", True
    choices = {
        "DATASET.TRAIN": ("train", "train+val"),
        "DATASET.DEV": ("val",),
        "DATASET.TEST": ("val", "test2015", "test-dev2015"),
        "DATASET.DATA_LABEL_TYPE": ("mask", "all"),
    }
    layout, results = staticmethod(vqa_layout), staticmethod(vqa_results)
    min_count = 9  # of the published 3,129 answers (bottom-up-attention's tools/compute_softscore.py)
    official, question_files, label_files = staticmethod(official_questions), staticmethod(question_files), LABEL_FILES
    own_keys = ("DATASET.TXT_DATA_DIR", "DATASET.LABEL_FILE", "DATASET.LABEL2ANS_FILE", "DATASET.USE_VG")

    @staticmethod
    def metrics(data, predicted):
        return vqa_metrics(predicted, data.soft_answers())


TASK = VqaTask
