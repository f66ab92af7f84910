"""The question files of *scenes*: VQA, GQA and NLVR2 in their published layouts, made from `scenes_truth.jsonl`.

    <root>/vqa/    {train2014,val2014,test2015}_qla_mrcnn.json, cache/trainval_{ans2label,label2ans}.pkl
    <root>/gqa/    gqa_{bal,all}_qla_{train,val,testdev}.json, gqa_all_qla_submission.json,
                   trainval_testdev_all_{ans2label,label2ans}.pkl
    <root>/nlvr2/  nlvr2_{train,dev,test1}.json
    in each        task.json: settings, and how far guessing goes; question_kinds.json: file -> kind of each record

Images go by the scenes' ids, so that `<root>/model_0060000/features.tsv` (DATASET.FEAT_FILE) serves all tasks. What
results are measured on (VQA val, GQA test-dev, NLVR2 test1) comes from the test scenes.

asking.py does the asking and writing. Nothing heavy is imported here: `--help` asks for the names.
"""

from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """What a task asks, and what its files look like.

    Attributes:
        form: "plain" or "chains" (questions.py), or "statements".
        files: name -> (split, how many of each scene, further keys of the random stream); what is asked of the same
            scenes with the same keys begins alike; the answers of the first file are learnt, and guessed.
        record: function of file name, list of image ids, number within the scene, `Question`, {image id: list of tags,
            the most confident first} and {answer: label}.
        answer_file: of the two pickles with the answers, with a place for their names; "" = none.
        shuffled: as published, the dictionary is not in numeric order: a class is an answer's place, not its number.
    """

    form: str
    files: dict
    record: Callable
    answer_file: str = ""
    shuffled: bool = False


def _vqa_record(file, images, number, question, tags, labels):
    (image_id,) = images
    record = {"q": question.text, "o": " ".join(tags[image_id]), "an": None, "s": None, "img_id": image_id}
    if file.startswith("test"):
        return {**record, "q_id": f"{image_id}{number:03d}"}  # the image and three digits, as in VQA
    return record | {"an": [labels[answer] for answer, _ in question.answers], "s": [s for _, s in question.answers]}


def _gqa_record(file, images, number, question, tags, labels):
    hidden, (image_id,) = "submission" in file, images
    # Eight digits or more, each id once. The scene's number stands backwards, so that one in ten begins with 0.
    split, index = divmod(image_id, 1_000_000)
    question_id = f"{index:05d}"[::-1] + f"{split}{number + (50 if hidden else 0):02d}"
    answer = None if hidden else [labels[question.answers[0][0]]]
    told = (";" if hidden else " ").join(tags[image_id])  # between semicolons, as published
    return {"q": question.text, "o": told, "an": answer, "img_id": str(image_id), "q_id": question_id}


def _nlvr2_record(file, images, number, statement, tags, labels):
    sides = dict(zip(("left", "right"), images, strict=True))
    return {
        "q": statement.text,
        "label": labels[statement.answers[0][0]],
        "img_id": {side: str(image_id) for side, image_id in sides.items()},
        "o": {side: " ".join(tags[image_id]) for side, image_id in sides.items()},
    }


_VQA_FILES = {
    f"{name}_qla_mrcnn.json": (split, 5)
    for name, split in (("train2014", "train"), ("val2014", "test"), ("test2015", "minival"))
}
_GQA_FILES = {
    f"gqa_{name}_qla_{part}.json": (split, limit, "")
    for split, part in (("train", "train"), ("minival", "val"), ("test", "testdev"))
    for name, limit in (("bal", 6), ("all", 9))
} | {"gqa_all_qla_submission.json": ("test", 6, "submission")}
_NLVR2_FILES = {"nlvr2_train.json": ("train", 2), "nlvr2_dev.json": ("minival", 2), "nlvr2_test1.json": ("test", 2)}
TASKS = {
    "vqa": Task("plain", _VQA_FILES, _vqa_record, "cache/trainval_{}.pkl", shuffled=True),
    "gqa": Task("chains", _GQA_FILES, _gqa_record, "trainval_testdev_all_{}.pkl"),
    "nlvr2": Task("statements", _NLVR2_FILES, _nlvr2_record),
}
