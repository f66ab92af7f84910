"""From the files of a VQA, GQA or NLVR2 evaluation to its report page. No Paddle."""

import json
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.tools.pages.answers_page import Answers, Guessing, answers_page
from oscar_paddle.tools.pages.pictures import Pictures
from oscar_paddle.tools.pages.report import labelled_boxes
from oscar_paddle.tools.pages.report_curves import learning_curves, read_run
from oscar_paddle.tools.pages.report_page import write_page


def write_answers(eval_dir, images, output, features="", run_folder="", guessing="", title="", facts=(), **choice):
    """Write the report page of an evaluation folder.

    Args:
        eval_dir: evaluation folder.
        images: folder of pictures, see `Pictures`.
        output: HTML file to write.
        features: predictions.tsv, or the features.tsv beside it, for boxes and tags; "" = none.
        run_folder: folder of the training run, for learning curves; "" = none.
        guessing: folder of a scenes task, for what guessing reaches; "" = not shown.
        title: heading.
        facts: [(name, text), ...] about the run.
        choice: num_random, num_wrong and seed of `answers_page`.
    Returns:
        Path of the page.
    Raises:
        DataError: a file is missing or damaged; UserError: the page cannot be written.
    """
    answers = Answers(eval_dir)
    pictures = Pictures(images, labelled_boxes(features) if features else None)
    curves = learning_curves(read_run(run_folder)) if run_folder else ()
    guessed = read_guessing(guessing, question_file(eval_dir)) if guessing else None
    page = answers_page(answers, pictures, title, guessed, facts, curves, **choice)
    write_page(output, page)
    return Path(output)


def question_file(eval_dir):
    """Name of the question file that was evaluated."""
    path = Path(eval_dir) / "provenance.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["data"]["files"][0]
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(f"{path}: does not say which question file was evaluated; evaluate again") from None


def read_guessing(folder, question_file):
    """What `datasets.scenes.tasks` says of a question file.

    Args:
        folder: folder of a scenes task. question_file: name of one of its files.
    Returns:
        Guessing.
    Raises:
        DataError: no such folder, or no such file in it.
    """
    folder = Path(folder)
    try:
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))["files"][question_file]
        kind_of = json.loads((folder / "question_kinds.json").read_text(encoding="utf-8"))[question_file]
        kinds = {kind: found["accuracy"] for kind, found in task["by_kind"]["kinds"].items()}
        return Guessing(task["majority"]["accuracy"], kinds, kind_of)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder}: no scenes task with {question_file} here ({error}); --guessing") from None
