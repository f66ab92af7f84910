"""One evaluation from start to end, of any task: score what is missing, on all ranks, then measure and report.

What is particular to a task is its `Evaluation`, see `solvers.tasks.task`.
"""

import functools
import logging
import time
from pathlib import Path

from oscar_paddle.config.default import SCORES, keys_deciding, value_of
from oscar_paddle.models.checkpoints.weights import file_hash, find_weights
from oscar_paddle.solvers.build import as_trained, load_tokenizer, model_for_evaluation
from oscar_paddle.solvers.ranks import Ranks, together
from oscar_paddle.solvers.runtime import batch_tokens, set_device, set_up_logging
from oscar_paddle.solvers.scoring.backends import planned_backend
from oscar_paddle.solvers.scoring.code_version import code_version
from oscar_paddle.solvers.scoring.folder import BLOCKS, COMPLETE, IN_PROGRESS, EvaluationFolder
from oscar_paddle.solvers.scoring.run import forget_failures, score_blocks, score_in_memory

log = logging.getLogger(__name__)


def run_evaluation(cfg, machine, task, output_dir=""):
    """What every tools/eval_<task>.py does.

    Args:
        cfg: the frozen config.
        machine: what `solvers.machine.prepare` has chosen, for the log.
        task: Task.
        output_dir: the evaluation folder; "" = below eval/ in the checkpoint folder.
    """
    set_device(cfg)
    planned_backend(cfg.EVAL.BACKEND, cfg.EVAL.PRECISION)  # refuse now what this machine cannot do
    ranks = Ranks()
    set_up_logging(rank=ranks.rank, world_size=ranks.world_size)
    log.info(machine)

    def load():
        needs = functools.partial(task.needs, action="eval")
        task.cfg = as_trained(task.cfg, needs, task.model_class().config_class)
        tokenizer = load_tokenizer(task.cfg, task.cfg.EVAL.CHECKPOINT_DIR)
        return tokenizer, task.evaluation(tokenizer, task.cfg.DATASET.TEST)

    tokenizer, evaluation = together(ranks, load)
    cfg = task.cfg

    @functools.cache
    def model():
        def read():
            found = model_for_evaluation(cfg, tokenizer, task.model_class())
            evaluation.check_model(found.config)
            return found

        return together(ranks, read)

    def make_backend(weights, precision):
        programs = Path(cfg.EVAL.CHECKPOINT_DIR) / ".oscar_cache"
        return evaluation.backend(model(), cfg.EVAL.BACKEND, precision, weights=weights, programs=programs, ranks=ranks)

    folder = output_dir or Path(cfg.EVAL.CHECKPOINT_DIR) / "eval" / evaluation.folder_name()
    metrics = evaluate(cfg, evaluation, folder, ranks, make_backend)
    if ranks.is_main:
        print("\n".join(evaluation.lines(metrics)))


def evaluate(cfg, evaluation, folder, ranks, make_backend):
    """Score a split, go on with a run that was killed, or take the results of an equal one; then write metrics.

    Args:
        cfg: the frozen config.
        evaluation: Evaluation of a task.
        folder: the evaluation folder, on a disk that all ranks share.
        ranks: Ranks; groups of blocks are divided among them.
        make_backend: function of the weights' hash and a precision -> a backend for the scorer, called on every rank;
            not called when all results are there.
    Returns:
        dict of metrics, on every rank.
    Raises:
        UserError: what went wrong on any rank.
    """
    evaluation.check()
    files = together(ranks, lambda: EvaluationFolder(folder, evaluation.matrix))
    ranks.on_main(files.lock)
    try:
        wanted = ranks.on_main(lambda: provenance(cfg, evaluation))
        groups = evaluation.groups()
        layout = evaluation.shape, sum(map(len, groups))
        if ranks.on_main(lambda: files.state(wanted, *layout) == COMPLETE):
            if ranks.is_main:
                log.info("%s: holds results of the same checkpoint, settings and data; using them", folder)
        else:
            _score(cfg, evaluation, files, ranks, make_backend, wanted, groups, layout)
        return ranks.on_main(lambda: _report(evaluation, files))
    finally:
        files.unlock()


def evaluate_in_training(model, evaluation, cfg, ranks):
    """Metrics of a split for weights that will change again: dict, on every rank; nothing is written."""
    backend = evaluation.backend_in_training(model, ranks)
    scorer = evaluation.scorer_class(backend, evaluation.data, batch_tokens(cfg))
    return evaluation.measure(score_in_memory(scorer, evaluation.groups(), ranks))


def provenance(cfg, evaluation):
    """What a set of results depends on: checkpoint content, settings, data, and the code.

    Two runs with equal provenance give equal results (but for rounding), so one may use the other's.
    """
    path = find_weights(cfg.EVAL.CHECKPOINT_DIR)
    keys = (*keys_deciding(SCORES), *evaluation.scoring_keys)
    return {
        "checkpoint": {
            "weights": path.name,
            "content": file_hash(path),
            "config": file_hash(path.with_name("config.json")),
        },
        "settings": {key.removeprefix("INPUT."): value_of(cfg, key) for key in keys},
        "precision": cfg.EVAL.PRECISION,  # of everything, or of the first pass
        "code": code_version(),
        **evaluation.provenance(),
    }


def _score(cfg, evaluation, files, ranks, make_backend, wanted, groups, layout):
    """Leave all results in the folder: one pass over all blocks, and what the task adds where settings ask for it."""
    content = wanted["checkpoint"]["content"]
    backend = make_backend(content, cfg.EVAL.PRECISION)
    scorer = evaluation.scorer_class(backend, evaluation.data, batch_tokens(cfg))
    computation = {"backend": backend.name, "batch_tokens": scorer.batch_tokens, **scorer.layout}
    again = evaluation.second_pass(files, lambda precision: make_backend(content, precision), ranks)
    if again is not None:
        computation["rescored_by"] = again.backend.name
    ranks.on_main(lambda: _prepare(evaluation, files, wanted, layout, computation))
    afterwards = {} if again is None else {"afterwards": again.forecast}
    score_blocks(scorer, groups, files.path, (evaluation.matrix, BLOCKS), ranks, **afterwards)
    if again is not None:
        again.run()
    ranks.on_main(lambda: files.finish(wanted, computation))


def _prepare(evaluation, files, wanted, layout, computation):
    """Leave the folder ready for blocks: a run that can go on stays, anything else makes room."""
    forget_failures(files.path)
    if files.state(wanted, *layout, computation) == IN_PROGRESS:
        log.info("%s: going on with an evaluation that was not finished", files.path)
    else:
        files.start(evaluation.contents(), wanted, layout, computation)


def _report(evaluation, files):
    """Metrics of finished results, written to metrics.json, and the files that the task adds."""
    started = time.perf_counter()
    scores = files.scores()
    metrics = evaluation.report(scores, files)
    files.write_json("metrics.json", metrics)
    what = f"{scores.size:,} results, measured in {time.perf_counter() - started:.1f} s"
    log.info("%s (--output_dir): metrics.json and %s", files.path, what)
    return metrics
