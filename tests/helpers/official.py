"""Small data sets as the authors of VQA v2, VizWiz, GQA and NLVR2 publish theirs, and regions for their pictures."""

import json

import numpy as np

COLOURS = ("red", "blue", "green")


def write_regions(folder, names):
    """An .npz for each picture, with two regions and their tags."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number, name in enumerate(names):
        values = {"features": random.random((2, 2048), np.float32), "boxes": [[0, 0, 9, 9], [1, 1, 5, 5]]}
        np.savez(folder / f"{name}.npz", **values, image_w=10, image_h=10, tags=["dog", COLOURS[number % 3]])


def write_vqa(folder):
    """{split: files} of VQA v2: ten answers to each question; a picture is named by a number."""
    splits, number = {}, 0
    for split, count in (("train", 8), ("val", 4), ("test2015", 3)):
        questions, annotations = [], []
        for _ in range(count):
            number += 1
            ids = {"image_id": number, "question_id": 1000 * number}
            questions.append({**ids, "question": f"What colour is thing {number}?"})
            colour = COLOURS[number % 3]
            answers = [colour] * 7 + ["The dogs"] * 2 + ["a thing"]
            answers = [{"answer": text, "answer_confidence": "yes", "answer_id": n} for n, text in enumerate(answers)]
            annotations.append({**ids, "multiple_choice_answer": colour, "answers": answers, "answer_type": "other"})
        head = {"info": {"year": 2017}, "data_subtype": split}
        files = [_write(folder / f"{split}_questions.json", {**head, "questions": questions})]
        if split != "test2015":
            files.append(_write(folder / f"{split}_annotations.json", {**head, "annotations": annotations}))
        splits[split] = files
    return splits, list(range(1, number + 1))


def write_vizwiz(folder):
    """{split: files} of VizWiz: one list, a question for each picture."""
    splits, names = {}, []
    for split, name, count in (("train", "train", 8), ("val", "val", 4), ("test2015", "test", 3)):
        records = []
        for number in range(count):
            image, colour = f"VizWiz_{name}_{number:08d}.jpg", COLOURS[number % 3]
            answers = [{"answer": text, "answer_confidence": "yes"} for text in [colour] * 7 + ["unanswerable"] * 3]
            known = {} if name == "test" else {"answers": answers, "answer_type": "other", "answerable": 1}
            records.append({"image": image, "question": "What colour?", **known})
            names.append(image.removesuffix(".jpg"))
        splits[split] = [_write(folder / f"{name}.json", records)]
    return splits, names


def write_gqa(folder):
    """{split: files} of GQA: questions by id, half of them balanced; the training questions in two files."""
    splits, images, number = {}, [], 0
    for split, name, count in (("train", "train_all", 8), ("val", "val_all", 4), ("test", "submission_all", 3)):
        records = {}
        for _ in range(count):
            number += 1
            images.append(f"n{number}" if split == "test" else str(2000 + number))
            known = {} if split == "test" else {"answer": COLOURS[number % 3], "fullAnswer": "It is.", "groups": {}}
            question = {"question": f"What colour is thing {number}?", "imageId": images[-1]}
            records[f"0{number:07d}"] = {**question, **known, "isBalanced": number % 2 == 0}
        parts = [dict(list(records.items())[part::2]) for part in range(2)] if split == "train" else [records]
        splits[split] = [_write(folder / f"{name}_{part}.json", found) for part, found in enumerate(parts)]
    return splits, images


def write_nlvr2(folder):
    """{split: files} of NLVR2: JSON lines."""
    splits, images = {}, []
    for split, name, count in (("train", "train", 8), ("val", "dev", 4), ("test1", "test1", 4)):
        lines = []
        for number in range(count):
            images += [f"{name}-{number}-0-img{side}" for side in (0, 1)]
            label = ("True", "False")[number % 2]
            urls = {"left_url": "http://left", "right_url": "http://right"}
            record = {"sentence": f"There are {number} dogs.", "identifier": f"{name}-{number}-0-1", "label": label}
            lines.append(json.dumps({**record, **urls, "synset": "dog"}))
        path = folder / f"{name}.json"
        path.write_text("\n".join(lines) + "\n")
        splits[split] = [path]
    return splits, images


def _write(path, value):
    path.write_text(json.dumps(value))
    return path


FORMS = {  # name -> (task, what writes it)
    "vqa": ("vqa", write_vqa),
    "vizwiz": ("vqa", write_vizwiz),
    "gqa": ("gqa", write_gqa),
    "nlvr2": ("nlvr2", write_nlvr2),
}
