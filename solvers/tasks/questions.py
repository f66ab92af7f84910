"""What the question tasks share: examples with one or two images and a sentence, of which a class is to be said.

An evaluation folder holds

    predictions.npy    float32 [examples, 2]: the predicted class and its logit
    predictions.json   the same in words: [{"record", "question", "images", "predicted", "logit", "expected"}, ...]
    <split>_results.json   what the evaluation server takes, where the task has one and the questions have ids
    metrics.json, provenance.json   see `solvers.scoring.folder`
"""

from pathlib import Path

import numpy as np

from oscar_paddle.config.checks import all_see_all, choices, folders
from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.questions.examples import TRUTHS, build_examples
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.scoring.examples import COLUMNS, ExampleScorer, example_blocks
from oscar_paddle.solvers.tasks.task import Evaluation, Head, Task, Term, digest, every_so_many, names_of

SPLIT_KEYS = ("DATASET.TRAIN", "DATASET.DEV", "DATASET.TEST")
EVALUATED_IMAGES = 2000  # so many images' features tell one feature file from another, in evaluation


class QuestionTask(Task):
    """Classification of examples.

    A task that adds to it says where its splits lie, and how predictions are measured (`metrics`).

    Attributes:
        layout: function (cfg, split) -> Layout.
        question_files: function (cfg, split) -> [(path, where it comes from), ...].
        official: function list of paths -> Questions of the files as their authors publish them.
        label_files: published names of the two answer dictionaries, () where there is no list of answers.
        min_count: of how many questions an answer is the commonest where such a list is made.
        has_soft_targets: whether the loss takes the soft score of every answer, or the first answer only.
        choices: {key: the values that the task has}.
        score: the one of the metrics that `best` follows. shown: the further ones in the line for people.
        scoring_keys: see `Evaluation`.
    """

    terms, min_count = {"answer": Term()}, 1
    has_soft_targets, score, shown, scoring_keys, choices, label_files = False, "accuracy", (), (), {}, ()

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

    @classmethod
    def files(cls, cfg):
        splits = dict.fromkeys(name for key in SPLIT_KEYS for name in cls.choices[key])
        return [path for split in splits for path, _ in cls.question_files(cfg, split)]

    @classmethod
    def made_files(cls, folder, split):
        """[(path, whether for balanced questions only), ...] of the files that a split becomes, see `official`."""
        cfg = get_cfg_defaults()
        cfg.DATASET.DATA_DIR, cfg.DATASET.EVAL_DATA_TYPE = folder, "all"
        return [(cls.question_files(cfg, split)[0][0], False)]

    @classmethod
    def check(cls, cfg, split_names, *, picture_files=None, **options):
        from oscar_paddle.datasets.checks.questions import check_questions

        return check_questions(cfg, cls, split_names, **options)

    @classmethod
    def build_data(cls, cfg, tokenizer, split):
        """ExampleDataset of a split."""
        return build_examples(cfg, tokenizer, cls.layout(cfg, split), training=split == cfg.DATASET.TRAIN)

    def training_data(self, tokenizer):
        return self.build_data(self.cfg, tokenizer, self.cfg.DATASET.TRAIN)

    def head(self):
        output = self.cfg.OUTPUT
        config = {"classifier": output.CLASSIFIER, "cls_hidden_scale": output.CLS_HIDDEN_SCALE}
        return Head(self.model_class(), {"num_labels": self.train.num_classes, **config})

    @property
    def num_examples(self):
        return self.train.num_examples

    def batch(self, examples, epoch):
        """Examples -> (PackedBatch, labels [B] int64 or soft targets [B, C] float32)."""
        targets = self.train.soft_targets if self.has_soft_targets else self.train.labels
        return pack(self.train.batch(examples)), targets(examples)

    def describe(self, examples):
        """The examples as places in their files."""
        return ", ".join(self.train.examples.where(example) for example in examples)

    def fingerprint(self):
        train = self.train
        return self.digests(train.image_ids(), sentences=train.sentence_tokens, tags=train.tag_tokens)

    def evaluation(self, tokenizer, split):
        data = self.build_data(self.cfg, tokenizer, split)
        return QuestionEvaluation(self.cfg, data=data, split=split, task=self)


def for_the_server(question_ids, answers, id_name, answer_name):
    """[{id_name: question id, answer_name: answer}, ...], in order.

    Raises:
        DataError: the server would refuse it: an id twice or empty, or something that is no answer.
    """
    results = {}
    for question_id, answer in zip(question_ids, answers, strict=True):
        if question_id == "" or not isinstance(answer, str):
            raise DataError(f"question {question_id!r}: the answer is {answer!r}; expected an id and a text")
        if question_id in results:
            raise DataError(f"question {question_id} is there twice; the evaluation server wants one answer for each")
        results[question_id] = {id_name: question_id, answer_name: answer}
    return list(results.values())


class QuestionEvaluation(Evaluation):
    """The predicted class of every example of an ExampleDataset and its logit, for a QuestionTask."""

    scorer_class, matrix = ExampleScorer, "predictions.npy"

    def __init__(self, cfg, *, data, split, task):
        super().__init__(cfg, data, split)
        self.task, self.scoring_keys = task, task.scoring_keys

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

    def contents(self):
        return names_of(self.data.image_ids(), self.cfg.DATASET.DATA_DIR)

    def provenance(self):
        data = self.data
        sample = every_so_many(data.image_ids(), EVALUATED_IMAGES)
        return {
            "data": {
                "name": self.cfg.DATASET.NAME,
                "files": [Path(path).name for path in data.examples.files],
                "examples": data.num_examples,
                "content": data.fingerprint(),
                "tokens": [digest(table.ids) for table in (data.sentence_tokens, data.tag_tokens)],
                "features": data.regions.fingerprint(sample),
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
        return {"split": self.split, **self.measure(scores)}

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
