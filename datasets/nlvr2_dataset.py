"""NLVR2 as published: `nlvr2_train.json` and its like, statements about two images (docs/reference.md, nlvr2 files)."""

import os
import re

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.questions.examples import Layout, joined_or_halves
from oscar_paddle.datasets.questions.prepare import ORIGIN, Question, image_names
from oscar_paddle.datasets.questions.records import LINES, field, read_records
from oscar_paddle.datasets.tensorize import LongestFirstBuilder, PairedLongestFirstBuilder

_SIDES = {"left", "right"}
_IMAGE_NAME = re.compile(r"(?P<set>.+)-\d+-img[01]")


def nlvr2_layout(cfg, split):
    """Layout of one split of NLVR2: two encoder rows an example, or one with the regions of both images
    (INPUT.USE_PAIR); class 1 means the statement is true.

    Args:
        cfg: the frozen config.
        split: train, val, test1 or val+test1.
    """
    pair, limit = cfg.INPUT.USE_PAIR, cfg.INPUT.MAX_REGION

    def add(examples, path, number, record, where):
        label = field(record, "label", int, where)
        if label not in (0, 1):
            raise DataError(f"{where}: the label is {label}; expected 0 or 1")
        images, tags = _sides(record, "img_id", where), _sides(record, "o", where) if cfg.INPUT.ADD_OD_LABEL else None
        rows = (_pair_rows if pair else _single_row)(images, tags)
        examples.add(path, number, field(record, "q", str, where), rows, [(label, 1.0)])

    kept = (limit, limit, PairedLongestFirstBuilder) if pair else (2 * limit, None, LongestFirstBuilder)
    return Layout(f"nlvr2_{split}", question_files(cfg, split), add, ("nlvr2",), *kept)


def question_files(cfg, split):
    """[(path, where it comes from), ...] of a split's statements; val+test1 has two where there is no joined file."""
    evaluated, labelled = cfg.DATASET.EVAL_DATA_TYPE, cfg.DATASET.DATA_LABEL_TYPE
    kinds = {"bal": "balanced_", "unbal": "unbalanced_"}
    keys = "DATASET.EVAL_DATA_TYPE and DATA_LABEL_TYPE choose among its variants"
    if split == "train":
        name, keys = "nlvr2_train.json", "DATASET.TRAIN asks for it"
    elif split == "test1":
        # Upstream: the balanced file by one setting, the unbalanced one by the other.
        name = f"nlvr2_{'balanced_' if labelled == 'bal' else kinds['unbal'] if evaluated == 'unbal' else ''}test1.json"
    else:
        both = "_test1" if split == "val+test1" and evaluated not in kinds else ""
        name = f"nlvr2_{kinds.get(evaluated, '')}dev{both}.json"
    where = "Oscar's NLVR2 data, or from tools/prepare_questions.py; DATASET.DATA_DIR is its folder"
    file = os.path.join(cfg.DATASET.DATA_DIR, name), f"it holds {split} and comes with {where}, {keys}"
    if name != "nlvr2_dev_test1.json":
        return [file]
    return joined_or_halves(file, [question_files(cfg, half)[0] for half in ("val", "test1")])


def official_statements(paths):
    """NLVR2's statements as its authors publish them, or one's own: an object on each line, with `sentence`, `label`,
    and `identifier` ("dev-850-0-1": the images are dev-850-0-img0 and -img1) or `left` and `right`."""
    for path in paths:
        for number, record in read_records(path, ORIGIN, LINES):
            where = f"{path} record {number}"
            label = {"true": 1, "false": 0, "1": 1, "0": 0}.get(str(record.get("label")).lower())
            if label is None:
                raise DataError(f"{where}: the label is {str(record.get('label'))[:40]!r}; expected true or false")
            if "identifier" in record:
                identifier = field(record, "identifier", str, where)
                pair = identifier.rpartition("-")[0]
                names = [(f"nlvr2_{pair}-img{n}", f"{pair}-img{n}", f"{pair}-img{n}.png") for n in (0, 1)]
            else:
                identifier = str(record.get("question_id", number))
                names = [image_names(str(field(record, side, (int, str), where))) for side in ("left", "right")]
            yield Question(where, field(record, "sentence", str, where), identifier, tuple(names), {label: 1.0})


def sentence_keys(examples):
    """What makes the sentences of `Examples` unique: its text and, where image names are the published ones, the set of
    image pairs that it was written for ("nlvr2_dev-850" of "nlvr2_dev-850-0-img0").
    """
    rows = len(examples.images) // len(examples.sentences)
    names = [_IMAGE_NAME.fullmatch(image_ids[0]) for image_ids in examples.images[::rows]]
    return [(name and name["set"], text) for name, text in zip(names, examples.sentences, strict=True)]


def _sides(record, name, where):
    """{"left": text, "right": text} in the order of the file."""
    sides = field(record, name, dict, where)
    if set(sides) != _SIDES or not all(isinstance(text, str) for text in sides.values()):
        raise DataError(f"{where}: the field {name!r} is {str(sides)[:60]}; expected left and right, each a text")
    return sides


def _pair_rows(images, tags):
    """Upstream: the order of the keys of `img_id` decides; with tags there always is a second sentence, if an empty
    one (the dictionary of both is never empty)."""
    return [((image_id,), tags[side] if tags else "", tags is not None) for side, image_id in images.items()]


def _single_row(images, tags):
    """Upstream: left comes first by its name here."""
    text = f"{tags['left']} {tags['right']}" if tags else ""
    return [((images["left"], images["right"]), text, bool(text))]
