"""What the question tasks share: examples with one or two images and a sentence, of which a class is to be said.

An evaluation folder holds

    predictions.npy    float32 [examples, 2]: the predicted class and its logit
    predictions.json   the same in words: [{"record", "question", "images", "predicted", "logit", "expected"}, ...]
    <split>_results.json   what the evaluation server takes, where the task has one and the questions have ids
    metrics.json, provenance.json   see `solvers.scoring.folder`
"""

import collections
import logging
from pathlib import Path

import numpy as np

from oscar_paddle.config.checks import all_see_all, choices, folders
from oscar_paddle.config.errors import DataError
from oscar_paddle.models.checkpoints.input_settings import check_meaning
from oscar_paddle.solvers.scoring.examples import COLUMNS, ExampleScorer, example_blocks
from oscar_paddle.solvers.tasks.task import Evaluation, Head, Task, Term, digest

log = logging.getLogger(__name__)

TRUTHS = ("false", "true")  # the classes of a task without answers


class QuestionTask(Task):
    """Classification of examples.

    A task that adds to it says what `build_data` reads, and how predictions are measured (`metrics`).

    Attributes:
        build_data: function (cfg, tokenizer, split) -> ExampleDataset.
        has_soft_targets: whether the loss takes the soft score of every answer, or the first answer only.
        choices: {key: the values that the task has}.
        score: the one of the metrics that `best` follows. shown: the further ones in the line for people.
        scoring_keys: see `Evaluation`.
    """

    terms = {"answer": Term()}
    has_soft_targets, score, shown, scoring_keys, choices = False, "accuracy", (), (), {}

    @classmethod
    def needs(cls, cfg, action):
        yield from folders(cfg, action, "the question files")
        yield from choices(cfg, action, cls.name.lower(), cls.choices)
        yield all_see_all(cfg)

    @staticmethod
    def metrics(data, predicted):
        """dict of metrics of the predicted classes [E]; has `num_examples`."""
        raise NotImplementedError

    @staticmethod
    def results(question_ids, answers):
        """What the evaluation server takes of these answers, or None where there is no server."""
        return None

    def training_data(self, tokenizer):
        return self.build_data(self.cfg, tokenizer, self.cfg.DATASET.TRAIN)

    def head(self):
        output = self.cfg.OUTPUT
        config = {"classifier": output.CLASSIFIER, "cls_hidden_scale": output.CLS_HIDDEN_SCALE}
        return Head(self.model_class(), {"num_labels": self.train.num_classes, **config}, answers=self.answers)

    @property
    def answers(self):
        return self.train.answers

    @property
    def num_examples(self):
        return self.train.num_examples

    def batch(self, examples, epoch):
        """Examples -> (PackedBatch, labels [B] int64 or soft targets [B, C] float32)."""
        targets = self.train.soft_targets if self.has_soft_targets else self.train.labels
        packed = self.pack(self.train.batch(examples), lambda row: self.describe([examples[row // self.train.rows]]))
        return packed, targets(examples)

    def describe(self, examples):
        """The examples as places in their files."""
        return ", ".join(self.train.examples.where(example) for example in examples)

    def fingerprint(self):
        train = self.train
        return self.digests(train.image_ids(), sentences=train.sentence_tokens, tags=train.tag_tokens)

    def evaluation(self, tokenizer, split):
        data = self.build_data(self.cfg, tokenizer, split)
        return QuestionEvaluation(self.cfg, data=data, split=split, task=self)


def for_the_server(question_ids, answers, id_name, answer_name, kind=str):
    """[{id_name: kind(question id), answer_name: answer}, ...], in order.

    Raises:
        DataError: the server would refuse it: an id twice or empty, or something that is no answer.
    """
    results = {}
    for question_id, answer in zip(question_ids, answers, strict=True):
        if question_id == "" or not isinstance(answer, str):
            raise DataError(f"question {question_id!r}: the answer is {answer!r}; expected an id and a text")
        if kind(question_id) in results:
            raise DataError(f"question {question_id} is there twice; the evaluation server wants one answer for each")
        results[kind(question_id)] = {id_name: kind(question_id), answer_name: answer}
    return list(results.values())


class QuestionEvaluation(Evaluation):
    """The predicted class of every example of an ExampleDataset and its logit, for a QuestionTask."""

    scorer_class, matrix = ExampleScorer, "predictions.npy"

    def __init__(self, cfg, *, data, split, task):
        super().__init__(cfg, data, split)
        self.task, self.scoring_keys = task, task.scoring_keys

    def check(self):
        """Raises DataError where the checkpoint's classes are other answers than those of the data."""
        folder, answers = self.cfg.EVAL.CHECKPOINT_DIR, self.data.answers
        if check_meaning(folder, answers=answers).answers is None and answers:
            first = ", ".join(f"{number} = {answer!r}" for number, answer in enumerate(answers[:5]))
            log.info("%s keeps no answers; its classes are taken for those of DATASET.LABEL_FILE: %s", folder, first)

    def check_model(self, config):
        if config.num_labels != self.data.num_classes:
            raise DataError(
                f"{self.cfg.EVAL.CHECKPOINT_DIR}/config.json: num_labels is {config.num_labels}, but there are "
                f"{self.data.num_classes} answers (DATASET.LABEL_FILE)"
            )

    @property
    def shape(self):
        return self.data.num_examples, COLUMNS

    def groups(self):
        return example_blocks(self.data.num_examples)

    def rows_to_score(self):
        return self.data.num_examples * self.data.rows

    def folder_name(self):
        return Path(self.data.examples.files[0]).stem

    def provenance(self):
        data = self.data
        return {
            "data": {
                "name": self.cfg.DATASET.NAME,
                "files": [Path(path).name for path in data.examples.files],
                "examples": data.num_examples,
                "content": data.fingerprint(),
                "answers": digest(repr(data.answers).encode()),
                "tokens": [digest(table.ids) for table in (data.sentence_tokens, data.tag_tokens)],
                "features": data.regions.fingerprint(data.image_ids()),
            }
        }

    def measure(self, scores):
        if not self.data.is_labelled:
            return {"num_examples": self.data.num_examples}
        return self.task.metrics(self.data, scores[:, 0].astype(np.int64))

    def report(self, scores, files):
        scores = np.asarray(scores)
        predicted, names = scores[:, 0].astype(np.int64).tolist(), self.data.answers or TRUTHS
        files.write_json("predictions.json", self._in_words(predicted, scores[:, 1].tolist(), names))
        question_ids = self.data.examples.question_ids
        results = self.task.results(question_ids, [names[answer] for answer in predicted]) if question_ids else None
        self.results_file = files.path / f"{self.split}_results.json"
        if results is not None:
            files.write_json(self.results_file.name, results)
        metrics = self.measure(scores)
        if self.data.is_labelled:
            self._compare_with_commonest(metrics, names)
        return {"split": self.split, **metrics}

    def _compare_with_commonest(self, metrics, names):
        """Warn of a score below that of the answer that most often is right: the classes may mean something else."""
        counts = collections.Counter()
        for scores in self.data.soft_answers():
            counts.update(scores)
        commonest = counts.most_common(1)[0][0]
        usual = self.best_by(self.task.metrics(self.data, np.full(self.data.num_examples, commonest)))
        if (score := self.best_by(metrics)) < usual:
            words = "%s %s: %.2f %% is less than always saying %r gives (%.2f %%); are answers (DATASET.LABEL_FILE), "
            words += "vocabulary and INPUT settings those that the checkpoint was trained with?"
            log.warning(words, self.task.name, self.split, 100 * score, names[commonest], 100 * usual)

    def _in_words(self, predicted, logits, names):
        data, examples, rows = self.data, self.data.examples, self.data.rows
        expected = data.soft_answers() if data.is_labelled else [None] * data.num_examples
        return [
            {
                "record": examples.numbers[i],
                **({"question_id": examples.question_ids[i]} if examples.question_ids else {}),
                "question": examples.sentences[i],
                "images": [image_id for row in examples.images[i * rows : (i + 1) * rows] for image_id in row],
                "predicted": names[answer],
                "logit": round(logit, 4),
                "expected": scores and {names[c]: round(score, 4) for c, score in scores.items()},
            }
            for i, (answer, logit, scores) in enumerate(zip(predicted, logits, expected, strict=True))
        ]

    def best_by(self, metrics):
        return metrics[self.task.score]

    def lines(self, metrics):
        """One line: `<task> val: score 74.82 % (10,402 examples)`, or where the file for the server is."""
        if not self.data.is_labelled:
            return [f"{self.task.name} {self.split}: {self.results_file}"]
        shown = (self.task.score, *self.task.shown)
        values = ", ".join(f"{name} {100 * metrics[name]:.2f} %" for name in shown)
        return [f"{self.task.name} {self.split}: {values} ({metrics['num_examples']:,} examples)"]
