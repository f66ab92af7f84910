"""A small pre-training corpus in the published form: coco (captions), gqa (questions and a caption), oi (in chunks)."""

import base64
import json

import numpy as np

ROWS = [
    ("coco_7", "coco_7", "A dog and a cat."),
    ("coco_7", "coco_7", "The cat is red."),
    ("coco_8", "coco_8", "A man."),
    ("gqa_7", "gqa_qa_7_11", "What is the dog?"),
    ("gqa_9", "gqa_qa_9_12", "What is the man?"),
    ("gqa_9", "gqa_9", "A girl."),
    ("oi_0_a1", "oi_a1", "A boy and a dog."),
    ("oi_2_b2", "oi_b2", "A street."),
]
TAGS = {"coco": {"7": ["dog", "cat"], "8": ["man"]}, "gqa": {"9": ["girl"]}, "oi": {"a1": ["boy"], "b2": ["street"]}}
ANSWERS = {"gqa": {"11": ["red"], "12": ["yes", "green"]}}
REGIONS = {"coco": {"": ["7", "8"]}, "gqa": {"": ["7", "9"]}, "oi": {"0": ["a1"], "2": ["b2"]}}


def write_corpus(folder, rows=ROWS, tags=TAGS, answers=ANSWERS, regions=REGIONS, values=4):
    """Lay it into a folder: corpus/corpus.yaml and what it names, every region filled with its image's number."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "corpus.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    for name, found in tags.items():
        lines = {key: json.dumps({"objects": [{"class": tag} for tag in names]}) for key, names in found.items()}
        _write(corpus / f"labels_{name}" / "predictions_gt.tsv", lines)
    for name, found in answers.items():
        lines = {key: json.dumps({"labels": words}) for key, words in found.items()}
        _write(corpus / f"labels_{name}" / "QA_fileB.tsv", lines)
    number = 0
    for name, chunks in regions.items():
        for chunk, keys in chunks.items():
            lines = {}
            for key in keys:
                number += 1
                array = np.full((1 + number % 3, values), number, np.float32)
                lines[key] = f"{len(array)}\t{base64.b64encode(array.tobytes()).decode()}"
            _write(folder / "features" / name / chunk / "features.tsv", lines, "imageid2idx.json")
    lines = [f"corpus: {'_'.join(tags)}", "corpus_file: corpus.tsv"]
    for key, place in (("image_label_path", "labels_{}"), ("image_feature_path", "features/{}")):
        lines += [f"{key}:", *(f"  {name}: {place.format(name)}" for name in tags)]
    (corpus / "corpus.yaml").write_text("\n".join(lines) + "\n")


def _write(path, lines, map_file=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}\t{value}\n" for key, value in lines.items()))
    if map_file:
        (path.parent / map_file).write_text(json.dumps({key: row for row, key in enumerate(lines)}))
