"""The question files of *scenes*: VQA, GQA and NLVR2 in their published layouts, made from `scenes_truth.jsonl`.

    <root>/vqa/    {train2014,val2014,test2015}_qla_mrcnn.json, cache/trainval_{ans2label,label2ans}.pkl
    <root>/gqa/    gqa_{bal,all}_qla_{train,val,testdev}.json, gqa_all_qla_submission.json,
                   trainval_testdev_all_{ans2label,label2ans}.pkl
    <root>/nlvr2/  nlvr2_{train,dev,test1}.json
    in each        task.json: settings, and how far guessing goes; question_kinds.json: file -> kind of each record

Images go by the scenes' ids, so that `<root>/model_0060000/features.tsv` (DATASET.FEAT_FILE) serves all tasks. What
results are measured on (VQA val, GQA test-dev, NLVR2 test1) comes from the test scenes.
"""

import json
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.pickle_writer import write_pickle
from oscar_paddle.datasets.formats.whole_files import is_kept, whole_folder
from oscar_paddle.datasets.scenes import chains, questions
from oscar_paddle.datasets.scenes.build import SETTINGS_FILE, read_truth
from oscar_paddle.datasets.scenes.guessing import guessing_scores
from oscar_paddle.datasets.scenes.statements import write_statements
from oscar_paddle.datasets.scenes.world import SPLITS, Stream

VERSION = 1  # of questions and statements: raise it whenever they would change
TASK_FILE, KINDS_FILE = "task.json", "question_kinds.json"
GQA_ANSWERS = questions.ANSWERS
VQA_ANSWERS = (*questions.ANSWERS, *questions.NUMBERS, *filter(None, questions.SYNONYMS.values()))
VQA_PER_SCENE, GQA_PER_SCENE, GQA_ALL_PER_SCENE, SENTENCES_PER_SCENE = 5, 6, 9, 2


class Entry(NamedTuple):
    """A record as the file has it, its kind, and its (answer, score) pairs, which a test file does not tell."""

    record: dict
    kind: str
    answers: tuple


def write_task(root, name, overwrite=False):
    """Write the files of a task to `<root>/<name>`, or keep them if they were made from the same scenes.

    The folder appears complete or not at all. The same scenes give the same bytes on every machine.

    Args:
        root: folder of `write_scenes`.
        name: key of `TASKS`.
        overwrite: replace a folder that was made with other settings.
    Returns:
        Path of the task's folder.
    Raises:
        DataError: no such task, `root` holds no scenes or none to train on, or the folder holds something else.
    """
    if name not in TASKS:
        raise DataError(f"scenes: no task {name!r}; expected one of {', '.join(TASKS)}")
    settings = {"name": name, "version": VERSION, "scenes": _scenes_settings(root)}
    folder = Path(root) / name
    if is_kept(folder, TASK_FILE, settings, f"{name} questions", overwrite):
        return folder
    truth = {split: read_truth(root, split) for split in SPLITS}
    if not truth["train"]:
        raise DataError(f"{root}: no training scenes, so there are no answers to learn; expected at least one")
    make, train_file = TASKS[name]
    with whole_folder(folder) as unfinished:
        files = make(unfinished, truth, settings["scenes"]["seed"])
        for file, entries in files.items():
            _write_json(unfinished / file, [entry.record for entry in entries])
        _write_json(unfinished / KINDS_FILE, {file: [entry.kind for entry in files[file]] for file in files})
        scores = {file: guessing_scores(files[train_file], entries) for file, entries in files.items()}
        _write_json(unfinished / TASK_FILE, {**settings, "files": scores}, indent=1)
    return folder


def _scenes_settings(root):
    """What of the scenes' settings the questions depend on."""
    path = Path(root) / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text(encoding="ascii"))
        return {key: settings[key] for key in ("version", "seed", *(f"num_{split}" for split in SPLITS))}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not there or not readable; write_scenes (tools/make_scenes.py) creates it") from None


def _write_json(path, value, indent=None):
    path.write_bytes(f"{json.dumps(value, indent=indent)}\n".encode())


def vqa_questions(scene, seed, num_questions=VQA_PER_SCENE):
    """Questions about a scene with soft scores: list of `Question`; a longer list begins with the shorter one."""
    stream = Stream(seed, scene.image_id, "vqa")
    asked = questions.ask(stream, scene, num_questions, questions.KINDS)
    return [questions.with_synonym(stream, question) for question in asked]


def gqa_questions(scene, seed, num_questions=GQA_PER_SCENE, part=""):
    """Compositional questions about a scene, one answer each, as `vqa_questions`; another `part` asks others."""
    return questions.ask(Stream(seed, scene.image_id, "gqa", part), scene, num_questions, chains.KINDS)


def _make_vqa(folder, truth, seed):
    labels = {answer: label for label, answer in enumerate(VQA_ANSWERS)}
    (folder / "cache").mkdir()
    # As published, the dictionary is not in numeric order: the class of an answer is its place, not its number.
    shuffled = Stream(seed, "vqa", "answers").sample(labels.items(), len(labels))
    _write_labels(folder / "cache" / "trainval_{}.pkl", dict(shuffled))
    files = {}
    for split, name in {"train": "train2014", "test": "val2014", "minival": "test2015"}.items():
        entries = files[f"{name}_qla_mrcnn.json"] = []
        for facts in tqdm(truth[split], f"vqa {split}", unit="picture"):
            image_id = facts["scene"].image_id
            for number, question in enumerate(vqa_questions(facts["scene"], seed)):
                record = {"q": question.text, "o": _tags(facts), "an": None, "s": None, "img_id": image_id}
                if split == "minival":
                    record["q_id"] = f"{image_id}{number:03d}"  # the image and three digits, as in VQA
                entries.append(Entry(record, question.kind, question.answers))
    files = _with_known_answers(files, "train2014_qla_mrcnn.json")
    for name in ("train", "val"):
        for record, _, answers in files[f"{name}2014_qla_mrcnn.json"]:
            record["an"], record["s"] = [labels[answer] for answer, _ in answers], [score for _, score in answers]
    return files


def _make_gqa(folder, truth, seed):
    labels = {answer: label for label, answer in enumerate(GQA_ANSWERS)}
    _write_labels(folder / "trainval_testdev_all_{}.pkl", labels)
    files = {}
    for split, name in {"train": "train", "minival": "val", "test": "testdev"}.items():
        bar = tqdm(truth[split], f"gqa {split}", unit="picture")
        asked = [_gqa_entries(facts, seed, GQA_ALL_PER_SCENE) for facts in bar]
        files[f"gqa_bal_qla_{name}.json"] = [entry for entries in asked for entry in entries[:GQA_PER_SCENE]]
        files[f"gqa_all_qla_{name}.json"] = [entry for entries in asked for entry in entries]
    asked = [_gqa_entries(facts, seed, GQA_PER_SCENE, "submission") for facts in truth["test"]]
    files["gqa_all_qla_submission.json"] = [entry for entries in asked for entry in entries]
    files = _with_known_answers(files, "gqa_bal_qla_train.json")
    for name, entries in files.items():
        for record, _, answers in entries:
            record["an"] = None if "submission" in name else [labels[answers[0][0]]]
    return files


def _gqa_entries(facts, seed, num_questions, part=""):
    """Questions about one scene; those of the submission have tags between semicolons, as published."""
    scene, entries = facts["scene"], []
    for number, question in enumerate(gqa_questions(scene, seed, num_questions, part)):
        # Eight digits or more, each id once. The scene's number stands backwards, so that one in ten begins with 0.
        split, index = divmod(scene.image_id, 1_000_000)
        question_id = f"{index:05d}"[::-1] + f"{split}{number + (50 if part else 0):02d}"
        record = {"q": question.text, "o": _tags(facts, ";" if part else " "), "an": None}
        record |= {"img_id": str(scene.image_id), "q_id": question_id}
        entries.append(Entry(record, question.kind, question.answers))
    return entries


def _make_nlvr2(folder, truth, seed):
    files = {}
    for split, name in {"train": "train", "minival": "dev", "test": "test1"}.items():
        tags = {facts["scene"].image_id: _tags(facts) for facts in truth[split]}
        number, entries = SENTENCES_PER_SCENE * len(tags), []
        with tqdm(total=number, desc=f"nlvr2 {split}", unit="sentence") as bar:
            statements = write_statements([facts["scene"] for facts in truth[split]], seed, number, bar.update)
        for statement in statements:
            for left, right, true in statement.pairs:
                record = {"q": statement.text, "label": int(true)}
                record["img_id"] = {"left": str(left), "right": str(right)}
                record["o"] = {"left": tags[left], "right": tags[right]}
                entries.append(Entry(record, statement.kind, (("true" if true else "false", 1.0),)))
        files[f"nlvr2_{name}.json"] = entries
    return files


def _tags(facts, separator=" "):
    """What the simulated detector saw, most confident first."""
    return separator.join(region["tag"] for region in facts["regions"])


def _with_known_answers(files, train_file):
    """Leave out answers, and questions whose true answer, no training question has (in very small data sets)."""
    known = {answer for entry in files[train_file] for answer, _ in entry.answers}
    return {
        name: [
            entry._replace(answers=tuple(pair for pair in entry.answers if pair[0] in known))
            for entry in entries
            if entry.answers[0][0] in known
        ]
        for name, entries in files.items()
    }


def _write_labels(pattern, labels):
    """The two pickles of a dictionary answer -> label; `pattern` has a place for their names."""
    for name, value in (("ans2label", labels), ("label2ans", sorted(labels, key=labels.get))):
        with open(str(pattern).format(name), "wb") as file:
            write_pickle(file, value, protocol=2)


TASKS = {  # name -> (what makes its files, the file that guesses are learnt from)
    "vqa": (_make_vqa, "train2014_qla_mrcnn.json"),
    "gqa": (_make_gqa, "gqa_bal_qla_train.json"),
    "nlvr2": (_make_nlvr2, "nlvr2_train.json"),
}
