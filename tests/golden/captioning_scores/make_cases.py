#!/usr/bin/env python
"""Makes cases.json here: tokens and scores of the official toolkit (pycocoevalcap 1.2, Java 17), see README.md.

pip install pycocoevalcap==1.2; apt-get install default-jre-headless
python tests/golden/captioning_scores/make_cases.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from oscar_paddle.datasets.captions.published import read_captions

HERE = Path(__file__).resolve().parent
TOOL = HERE.parents[2] / "tools" / "make_scenes.py"


def scenes():
    """({image: caption}, {image: [captions]}): an image's caption is the second one of the next image, or its own
    first one without its third word, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--root", f"{folder}/scenes", "--train", "24", "--dev", "4", "--test", "4"]
        subprocess.run([sys.executable, TOOL, *options], check=True, stdout=subprocess.DEVNULL)
        references = list(read_captions(f"{folder}/scenes/coco_ir", "train").values())
    captions = {}
    for image, own in enumerate(references):
        words = own[0].split()
        captions[str(image)] = " ".join(words[:2] + words[3:]) if image % 2 else references[image - 1][1]
    return captions, {str(image): own for image, own in enumerate(references)}


def awkward(texts):
    """Odd captions scored against odd references: each against the next three, and itself without its first word."""
    captions = {str(place): text for place, text in enumerate(texts)}
    references = {
        str(place): [texts[(place + step) % len(texts)] for step in (1, 2, 3)] + [" ".join(text.split()[1:]) or text]
        for place, text in enumerate(texts)
    }
    return captions, references


def one_line(text):
    return {"caption": " ".join(text.split())}


def official(captions, references, meteor=True):
    found = PTBTokenizer().tokenize({image: [one_line(text)] for image, text in captions.items()})
    wanted = PTBTokenizer().tokenize({image: list(map(one_line, own)) for image, own in references.items()})
    scores, of_image = {}, {image: {} for image in captions}
    names = [[f"Bleu_{n}" for n in range(1, 5)], ["ROUGE_L"], ["CIDEr"], ["METEOR"]]
    metrics = [Bleu(4), Rouge(), Cider(), *([Meteor()] if meteor else [])]
    for metric, own_names in zip(metrics, names, strict=False):
        total, each = metric.compute_score(wanted, found)
        total, each = (total, each) if len(own_names) > 1 else ([total], [each])
        for name, value, values in zip(own_names, total, each, strict=True):
            scores[name] = float(value)
            for image, own in zip(wanted, values, strict=True):
                of_image[image][name] = float(own)
    return {"captions": captions, "references": references, "scores": scores, "images": of_image}


def main():
    texts = [" ".join(line.split()) for line in (HERE / "awkward.txt").read_text(encoding="utf-8").splitlines()]
    # A line between each two: the tokeniser looks into the next one.
    between = {"0": [{"caption": part} for text in texts for part in (text, "x")]}
    words = PTBTokenizer().tokenize(between)["0"][::2]
    cases = {
        "words": [[text, own.split(" ") if own else []] for text, own in zip(texts, words, strict=True)],
        "scenes": official(*scenes()),
        "awkward": official(*awkward(texts[:60])),
    }
    (HERE / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
