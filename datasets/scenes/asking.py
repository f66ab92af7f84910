"""Asks about *scenes* for a task, writes its folder (tasks.py says what is in it), and tells how far guessing goes."""

import json
from collections import Counter, defaultdict
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.pickle_writer import write_pickle
from oscar_paddle.datasets.formats.whole_files import is_kept, whole_folder
from oscar_paddle.datasets.scenes import questions
from oscar_paddle.datasets.scenes.build import SETTINGS_FILE, read_truth, write_json
from oscar_paddle.datasets.scenes.captions import Words
from oscar_paddle.datasets.scenes.statements import write_statements
from oscar_paddle.datasets.scenes.tasks import TASKS
from oscar_paddle.datasets.scenes.world import SPLITS, Stream

VERSION = 1  # of questions and statements: raise it whenever they would change


def write_task(root, name, overwrite=False):
    """Write the files of a task of `TASKS` to `<root>/<name>`, or keep them if they were made from the same scenes.

    The folder, whose path is returned, appears complete or not at all. The same scenes give the same bytes on every
    machine. `overwrite` replaces a folder that was made with other settings.

    Raises:
        DataError: no such task, `root` holds no scenes or none to train on, or the folder holds something else.
    """
    if name not in TASKS:
        raise DataError(f"scenes: no task {name!r}; expected one of {', '.join(TASKS)}")
    path, folder = Path(root) / SETTINGS_FILE, Path(root) / name
    try:
        scenes = json.loads(path.read_text(encoding="ascii"))
        scenes = {key: scenes[key] for key in ("version", "seed", *(f"num_{split}" for split in SPLITS))}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not there or not readable; write_scenes (tools/make_scenes.py) creates it") from None
    settings = {"name": name, "version": VERSION, "scenes": scenes}
    if is_kept(folder, "task.json", settings, f"{name} questions", overwrite):
        return folder
    truth = read_truth(root)
    if not truth["train"]:
        raise DataError(f"{root}: no training scenes, so there are no answers to learn; expected at least one")
    pictures = [facts for found in truth.values() for facts in found]
    tags = {facts["scene"].image_id: [region["tag"] for region in facts["regions"]] for facts in pictures}
    task = TASKS[name]
    labels = {answer: label for label, answer in enumerate(questions.ANSWERS[task.form])}
    with whole_folder(folder) as unfinished:
        if task.answer_file:
            items = Stream(scenes["seed"], name, "answers").sample(labels.items(), len(labels))
            pickles = {"ans2label": dict(items) if task.shuffled else labels, "label2ans": list(labels)}
            for what, value in pickles.items():
                path = unfinished / task.answer_file.format(what)
                path.parent.mkdir(exist_ok=True)
                with open(path, "wb") as file:
                    write_pickle(file, value, protocol=2)
        files = _ask(name, truth, scenes["seed"])
        for file, asked in files.items():
            write_json(unfinished / file, [task.record(file, *item, tags, labels) for item in asked])
        files = {file: [question for _, _, question in asked] for file, asked in files.items()}
        kinds = {file: [question.kind for question in asked] for file, asked in files.items()}
        write_json(unfinished / "question_kinds.json", kinds)
        train = files[next(iter(files))]
        scores = {file: guessing_scores(train, asked) for file, asked in files.items()}
        write_json(unfinished / "task.json", {**settings, "files": scores}, indent=1)
    return folder


def _ask(name, truth, seed):
    """{file: [(list of image ids, number within the scene, Question), ...]} of a task.

    Answers, and questions whose true answer, no training question has (in very small data sets) are left out.
    """
    task, asked, files = TASKS[name], {}, {}
    known = set() if task.answer_file else set(questions.ANSWERS[task.form])
    for file, (split, limit, *part) in task.files.items():
        key = (split, *part)
        if key not in asked:
            asked[key] = list(_ask_split(name, [facts["scene"] for facts in truth[split]], seed, *key))
        found = [item for item in asked[key] if item[1] < limit]
        known = known or {answer for _, _, question in found for answer, _ in question.answers}
        files[file] = [
            (images, number, question._replace(answers=[pair for pair in question.answers if pair[0] in known]))
            for images, number, question in found
            if question.answers[0][0] in known
        ]
    return files


def _ask_split(name, scenes, seed, split, *part):
    """Yields image ids, number within the scene, and `Question`; a statement is one for each of its pairs."""
    form, number = TASKS[name].form, max(limit for _, limit, *_ in TASKS[name].files.values())
    if form == "statements":
        number *= len(scenes)
        for statement in tqdm(write_statements(scenes, seed, number), f"{name} {split}", number, unit="sentence"):
            for *images, true in statement.pairs:
                answers = (("true" if true else "false", 1.0),)
                yield images, 0, questions.Question(statement.text, statement.kind, answers)
        return
    for scene in tqdm(scenes, f"{name} {split}", unit="picture", disable=any(part)):
        asked = questions.ask(Words(seed, scene.image_id, name, *part), scene, number, form)
        yield from (([scene.image_id], k, question) for k, question in enumerate(asked))


def guessing_scores(train, entries):
    """Scores of two guessers, who know the commonest answer of the `Question`s `train`, over all or for each kind.

    Returns:
        {"questions": number of entries, "majority": {"answer", "accuracy"}, "by_kind": {"accuracy", "kinds"}}, where
        kinds maps a kind to {"questions", "answer", "accuracy"}; accuracies, the mean scores of the answers, are in
        [0, 1], None without questions.
    """
    sums = defaultdict(Counter)
    for entry in train:
        for kind in (None, entry.kind):
            sums[kind].update(dict(entry.answers))
    best = {kind: max(sorted(answers), key=answers.get) for kind, answers in sums.items()}
    usual, kinds, by_kind = best.get(None), {}, 0.0
    for kind in sorted({entry.kind for entry in entries}):
        asked = [dict(entry.answers) for entry in entries if entry.kind == kind]
        answer = best.get(kind, usual)
        points = sum(scores.get(answer, 0.0) for scores in asked)
        kinds[kind] = {"questions": len(asked), "answer": answer, "accuracy": round(points / len(asked), 4)}
        by_kind += points
    majority = sum(dict(entry.answers).get(usual, 0.0) for entry in entries)
    majority, by_kind = (round(points / len(entries), 4) if entries else None for points in (majority, by_kind))
    return {
        "questions": len(entries),
        "majority": {"answer": usual, "accuracy": majority},
        "by_kind": {"accuracy": by_kind, "kinds": kinds},
    }
