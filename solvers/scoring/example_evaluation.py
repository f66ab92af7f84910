"""One evaluation of VQA, GQA or NLVR2 from start to end: predict what is missing, on all ranks, measure, write.

predictions.npy    float32 [examples, 2]: the predicted class and its logit
predictions.json   the same in words: [{"record", "question", "images", "predicted", "logit", "expected"}, ...]
<split>_results.json   what the evaluation server takes (VQA, GQA), where the questions have ids
metrics.json, provenance.json   as for retrieval, see solvers/scoring/folder.py
"""

import logging
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation
from oscar_paddle.solvers.ranks import Ranks, together
from oscar_paddle.solvers.runtime import set_device, set_up_logging
from oscar_paddle.solvers.scoring.evaluation import checkpoint_provenance
from oscar_paddle.solvers.scoring.examples import BLOCK_EXAMPLES, ExampleScorer, example_blocks
from oscar_paddle.solvers.scoring.exported import build_backend, planned_backend
from oscar_paddle.solvers.scoring.folder import BLOCKS, COMPLETE, IN_PROGRESS, EvaluationFolder
from oscar_paddle.solvers.scoring.run import forget_failures, score_blocks
from oscar_paddle.solvers.tasks.questions import metrics_line

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.npy"
TRUTHS = ("false", "true")  # NLVR2's classes
FINGERPRINT_IMAGES = 2000  # so many images' features tell one feature file from another


def run_example_evaluation(cfg, machine, kind, output_dir=""):
    """What tools/eval_vqa.py, eval_gqa.py and eval_nlvr2.py do.

    Args:
        cfg: the frozen config.
        machine: what `solvers.machine.prepare` has chosen, for the log.
        kind: TaskKind.
        output_dir: the evaluation folder; "" = eval/<question file> in the checkpoint folder.
    """
    set_device(cfg)
    planned_backend(cfg.EVAL.BACKEND, cfg.EVAL.PRECISION)  # refuse now what this machine cannot do
    ranks = Ranks()
    set_up_logging(rank=ranks.rank, world_size=ranks.world_size)
    log.info(machine)

    def load():
        tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
        return tokenizer, kind.build_data(cfg, tokenizer, cfg.DATASET.TEST)

    tokenizer, data = together(ranks, load)

    def make_backend(weights):
        model = together(ranks, lambda: _model(cfg, tokenizer, kind, data))
        programs = Path(cfg.EVAL.CHECKPOINT_DIR) / ".oscar_cache"
        return build_backend(model, cfg.EVAL.BACKEND, cfg.EVAL.PRECISION, weights, programs, ranks, "pooled")

    folder = output_dir or Path(cfg.EVAL.CHECKPOINT_DIR) / "eval" / Path(data.examples.files[0]).stem
    metrics = evaluate_examples(cfg, kind, data, folder, ranks, make_backend)
    if ranks.is_main:
        print(
            metrics_line(kind, cfg.DATASET.TEST, metrics)
            if data.is_labelled
            else f"{kind.name} {cfg.DATASET.TEST}: {results_path(cfg, folder)}"
        )


def _model(cfg, tokenizer, kind, data):
    model = model_for_evaluation(cfg, tokenizer, kind.model_class)
    if model.config.num_labels != data.num_classes:
        raise DataError(
            f"{cfg.EVAL.CHECKPOINT_DIR}/config.json: num_labels is {model.config.num_labels}, but there are "
            f"{data.num_classes} answers (DATASET.LABEL_FILE)"
        )
    return model


def results_path(cfg, folder):
    """Where the file for the evaluation server is written, named as upstream."""
    return Path(folder) / f"{cfg.DATASET.TEST}_results.json"


def evaluate_examples(cfg, kind, data, folder, ranks, make_backend):
    """Predict a split, go on with a run that was killed, or take the predictions of an equal one; then write results.

    Args:
        cfg: the frozen config.
        kind: TaskKind.
        data: ExampleDataset.
        folder: the evaluation folder, on a disk that all ranks share.
        ranks: Ranks; blocks of examples are divided among them.
        make_backend: function of the weights' hash -> a backend for `ExampleScorer`, called on every rank; not called
            when all predictions are there.
    Returns:
        dict of metrics, on every rank; without answers only the number of examples.
    Raises:
        UserError: what went wrong on any rank.
    """
    files = together(ranks, lambda: EvaluationFolder(folder, PREDICTIONS))
    ranks.on_main(files.lock)
    try:
        wanted = ranks.on_main(lambda: provenance(cfg, data))
        blocks = example_blocks(data.num_examples)
        layout = (data.num_examples, 2), len(blocks)
        if ranks.on_main(lambda: files.state(wanted, *layout) == COMPLETE):
            if ranks.is_main:
                log.info("%s: holds predictions of the same checkpoint, settings and examples; using them", folder)
        else:
            backend = make_backend(wanted["checkpoint"]["content"])
            scorer = ExampleScorer(backend, data, cfg.EVAL.BATCH_TOKENS)
            computation = {
                "backend": backend.name,
                "batch_tokens": cfg.EVAL.BATCH_TOKENS,
                "block_examples": BLOCK_EXAMPLES,
            }
            ranks.on_main(lambda: _prepare(files, wanted, layout, computation))
            score_blocks(scorer, [[block] for block in blocks], files.path, (PREDICTIONS, BLOCKS), ranks)
            ranks.on_main(lambda: files.finish(wanted, computation))
        return ranks.on_main(lambda: _report(cfg, kind, data, files))
    finally:
        files.unlock()


def provenance(cfg, data):
    """What a set of predictions depends on: checkpoint content, settings, examples, answers and features."""
    images = data.image_ids()
    sample = images[:: -(-len(images) // FINGERPRINT_IMAGES)]
    return {
        **checkpoint_provenance(cfg, ("USE_PAIR",)),
        "data": {
            "name": cfg.DATASET.NAME,
            "files": [Path(path).name for path in data.examples.files],
            "examples": data.num_examples,
            "content": data.fingerprint(),
            "features": data.regions.fingerprint(sample),
        },
    }


def _prepare(files, wanted, layout, computation):
    """Leave the folder ready for blocks: a run that can go on stays, anything else makes room."""
    forget_failures(files.path)
    if files.state(wanted, *layout, computation) == IN_PROGRESS:
        log.info("%s: going on with an evaluation that was not finished", files.path)
    else:
        files.start({}, wanted, layout, computation)


def _report(cfg, kind, data, files):
    """Metrics of finished predictions, and the files in words."""
    found = np.asarray(files.scores())
    predicted, names = found[:, 0].astype(np.int64), data.answers or TRUTHS
    metrics = {"split": cfg.DATASET.TEST, "num_examples": data.num_examples}
    if data.is_labelled:
        metrics = {"split": cfg.DATASET.TEST, **kind.metrics(data, predicted)}
    files.write_json("predictions.json", prediction_list(data, predicted, found[:, 1], names))
    question_ids = data.examples.question_ids
    if kind.results and question_ids:
        results = kind.results(question_ids, [names[answer] for answer in predicted.tolist()])
        files.write_json(results_path(cfg, files.path).name, results)
    files.write_json("metrics.json", metrics)
    return metrics


def prediction_list(data, predicted, logits, names):
    """Predictions in words, example by example.

    Args:
        data: ExampleDataset.
        predicted: [E] int classes. logits: [E] float32. names: the word for each class.
    """
    examples, rows = data.examples, data.rows
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
        for i, (answer, logit, scores) in enumerate(zip(predicted.tolist(), logits.tolist(), expected, strict=True))
    ]
