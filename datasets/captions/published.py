"""The small files of a retrieval data set as the authors published them: captions, key lists, candidate lists.

`.pt` files come from PyTorch (Oscar, VinVL), `.pd` files from the Paddle ports; both hold the same dictionaries,
with values that are lists or JSON strings of lists. Each name is looked for with both endings.
"""

import json
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.reading import first_file, read_text


def published_file(data_dir, split):
    """The path of `{split}_captions.pt` or `.pd`, None where there is neither."""
    places = [os.path.join(data_dir, f"{split}_captions{ending}") for ending in (".pt", ".pd")]
    return next(filter(os.path.isfile, places), None)


def read_captions(data_dir, split, hint=""):
    """Read `{split}_captions.pt` (or `.pd`).

    Args:
        data_dir: DATASET.DATA_DIR.
        split: "train", "val", "minival", "test", ...
        hint: what to add where there is no such file.
    Returns:
        Image id (int) -> its captions (list of str, never empty), in the order of the file.
    Raises:
        DataError: no such file, or it does not hold captions; names the image.
    """
    path = _either(os.path.join(data_dir, f"{split}_captions.pt"), "DATASET.DATA_DIR", hint)
    entries = _with_ids(path, torch_files.load_dictionary(path, "captions"), "captions")
    return {image_id: captions_of(value, image_id, path) for image_id, value in entries}


def captions_of(value, image_id, path):
    """The captions in an entry of `{split}_captions.pt`: list of str, never empty (raises as `read_captions`)."""
    found = _decoded(value, path, image_id)
    if not isinstance(found, (list, tuple)) or not found:
        raise DataError(f"{path}: image {image_id} has {_short(value)}; expected a list of captions")
    for number, text in enumerate(found, start=1):
        if not isinstance(text, str):
            raise DataError(f"{path}: caption {number} of image {image_id} is {_short(text)}; expected text")
    return list(found)


class CandidateLists(dict):
    """Image id -> [(image id, caption number), ...]; `captions`: digest of what they index, "" where the file has none
    (prepare.py writes it under the key "captions", which the reference, going by image ids, never looks up)."""

    captions = ""


def read_caption_index(path):
    """Read candidate captions per image, such as `minival_caption_indexs_top20.pt` (or `.pd`).

    Args:
        path: EVAL.EVAL_CAPTION_INDEX_FILE.
    Returns:
        CandidateLists, in the order of the file.
    Raises:
        DataError: no such file, or it does not hold such lists; names the image.
    """
    path = _either(str(path), "EVAL.EVAL_CAPTION_INDEX_FILE")
    index, entries = CandidateLists(), torch_files.load_dictionary(path, "candidate captions")
    index.captions = str(entries.pop("captions", ""))
    for image_id, value in _with_ids(path, entries, "candidate captions"):
        pairs = _decoded(value, path, image_id)
        if not isinstance(pairs, (list, tuple)) or not pairs or not all(map(_is_pair, pairs)):
            raise DataError(f"{path}: image {image_id} has {_short(value)}; expected pairs [image id, caption number]")
        index[image_id] = [(int(image), int(number)) for image, number in pairs]
    return index


def read_image_keys(path):
    """Read a key list such as `test_img_keys_1k.tsv`, one integer image id a line, in their order: list of int.

    Args:
        path: EVAL.EVAL_IMG_KEYS_FILE.
    Raises:
        DataError: no such file, no ids, a line that is no id, or an id twice.
    """
    first_lines = {}
    for number, line in enumerate(read_text(path, " (EVAL.EVAL_IMG_KEYS_FILE)").splitlines(), start=1):
        if not (text := line.strip()):
            continue
        if (image_id := as_image_id(text)) is None:
            raise DataError(f"{path} line {number}: {_short(text)}; expected one integer image id")
        if (first := first_lines.setdefault(image_id, number)) != number:
            raise DataError(f"{path} line {number}: image {image_id} is already on line {first}")
    if not first_lines:
        raise DataError(f"{path}: no image ids; expected one a line")
    return list(first_lines)


def _either(path, key, hint=""):
    """The path, or the same name with the other framework's ending."""
    stem, ending = os.path.splitext(path)
    other = {".pt": ".pd", ".pd": ".pt"}.get(ending)
    return first_file([path, stem + other] if other else [path], f" ({key}){hint}")


def _with_ids(path, entries, what):
    """(image id, value) pairs of the dictionary in a file."""
    seen = set()
    for key, value in entries.items():
        if (image_id := as_image_id(key)) is None:
            by_name = 'is no integer; where images have names, use a JSONL with "image" (docs/own_images.md)'
            why = by_name if isinstance(key, str) and key.strip() else "is no image id"
            raise DataError(f"{path}: the key {_short(key)} {why}; expected a dictionary image id -> {what}")
        if image_id in seen:
            raise DataError(f"{path}: image {image_id} is there twice, as a number and as text")
        seen.add(image_id)
        yield image_id, value


def _decoded(value, path, image_id):
    """Lists come as they are or as JSON strings; files that mix the two exist."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise DataError(f"{path}: image {image_id} has {_short(value)}; expected a list or its JSON text") from None


def as_image_id(value):
    """The integer that a key stands for (9, "9", numpy's 9), or None."""
    if type(value) is int:
        return value
    text = str(value) if isinstance(value, str) or hasattr(value, "dtype") else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _is_pair(pair):
    is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2
    return is_pair and None not in map(as_image_id, pair) and int(pair[1]) >= 0


def _short(value):
    """The value for a message, cut to what fits a line; containers only by their type, they may be huge."""
    if isinstance(value, (str, bytes, int, float, type(None))):
        return repr(value[:60] if isinstance(value, (str, bytes)) else value)[:80]
    empty = isinstance(value, (list, tuple)) and not value
    return f"an {'empty' if empty else 'object of type'} {type(value).__name__}"
