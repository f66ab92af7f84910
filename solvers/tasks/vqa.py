"""VQA v2: an answer of some thousands to a question about an image, with soft scores."""

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.vqa_dataset import LABEL_FILES, official_questions, question_files, vqa_layout
from oscar_paddle.solvers.metrics.vqa import vqa_metrics
from oscar_paddle.solvers.tasks.questions import QuestionTask


def vqa_results(question_ids, answers):
    """What the evaluation server takes: [{"question_id": int, "answer": str}, ...]; VizWiz's takes "image": name of the
    picture in place of the id.

    Args:
        question_ids: list of str. answers: list of str.
    Raises:
        DataError: the server would refuse it: an id twice, or something that is no number or no answer.
    """
    results, seen = [], set()
    for written, answer in zip(question_ids, answers, strict=True):
        question_id = int(written) if written.isdigit() else written
        if not isinstance(answer, str):
            raise DataError(f"question {written}: the answer is {answer!r}; expected a text")
        if question_id in seen:
            raise DataError(f"question {written} is there twice; the evaluation server wants one answer for each")
        seen.add(question_id)
        results.append({"question_id" if written.isdigit() else "image": question_id, "answer": answer})
    return results


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
