"""Names of a detector's classes and attributes, by number; 0 is the background."""

import json
from pathlib import Path

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_json, read_text

BACKGROUND, NO_ATTRIBUTE = "__background__", "__no_attribute__"


class LabelMap:
    """Names as the published files have them.

    Args:
        path: JSON with label_to_idx or idx_to_label, and perhaps attribute_to_idx or idx_to_attribute
            (VG-SGG-dicts-vgoi6-clipped.json; numbers from 1 on); or a text with one class a line, the first of which is
            class 1 (objects_vocab.txt, beside it attributes_vocab.txt).
    Attributes:
        classes, attributes: list of str; the first stands for none of them.
    Raises:
        DataError: no such file, another content, or numbers that are missing or doubled.
    """

    def __init__(self, path):
        self.path = Path(path)
        if self.path.suffix == ".json":
            content = read_json(path)
            if not isinstance(content, dict):
                raise DataError(f"{path}: holds a {type(content).__name__}; expected an object with label_to_idx")
            self.classes = _by_number(content, "label", BACKGROUND, path)
            self.attributes = _by_number(content, "attribute", NO_ATTRIBUTE, path)
        else:
            self.classes = [BACKGROUND, *_lines(path)]
            beside = self.path.with_name(self.path.name.replace("objects", "attributes"))
            self.attributes = [NO_ATTRIBUTE, *_lines(beside)] if beside != self.path and beside.is_file() else []

    def check(self, classes, attributes, where):
        """Raise DataError unless there is a name for every class and attribute of a network; `where`: its weights."""
        for what, names, count in (("classes", self.classes, classes), ("attributes", self.attributes, attributes)):
            if count and len(names) != count and (names or what == "classes"):
                raise DataError(
                    f"{self.path}: names {len(names) - 1} {what}, but {where} tells {count - 1} apart; expected the "
                    "file that belongs to the weights (DETECTOR.LABEL_MAP)"
                )


def find_label_map(weights):
    """The only label map beside a weights file; DataError if there is none, or several."""
    folder = Path(weights).parent
    found = [path for path in sorted(folder.glob("*.json")) if _is_label_map(path)]
    found += sorted(folder.glob("objects_vocab.txt"))
    if len(found) != 1:
        there = f"{len(found)} of them" if found else "none"
        raise DataError(f"{folder}: expected one label map beside the weights, found {there}; set DETECTOR.LABEL_MAP")
    return found[0]


def _is_label_map(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and ("label_to_idx" in content or "idx_to_label" in content)


def _lines(path):
    """Of a name with others for the same thing ("dog,puppy") the first."""
    return [line.split(",")[0].strip() for line in read_text(path).splitlines() if line.strip()]


def _by_number(content, kind, first, path):
    numbers = content.get(f"{kind}_to_idx")
    try:
        if numbers is None:
            numbers = {name: int(number) for number, name in content.get(f"idx_to_{kind}", {}).items()}
        if not numbers and kind == "attribute":
            return []
        names = {number: name for name, number in numbers.items() if number != 0}
        in_a_row = sorted(names) == list(range(1, len(names) + 1))
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {kind}_to_idx or idx_to_{kind}: expected an object of names and numbers") from error
    if not in_a_row or len(names) < len(numbers) - 1 or not names:
        raise DataError(f"{path}: {kind}_to_idx does not number {len(numbers)} names from 1 on")
    return [first, *(names[number] for number in range(1, len(names) + 1))]
