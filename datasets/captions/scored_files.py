"""Files of generated captions and of people's, in the forms that programs write them."""

import json
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_json, read_text

_CAPTIONS = """expected [{"image_id": ..., "caption": "..."}, ...], {image: "..."}, the same as JSON lines, or rows of \
image, tab, [{"caption": "..."}, ...]"""
_REFERENCES = """expected COCO's {"annotations": [{"image_id": ..., "caption": "..."}, ...]}, a list of such \
entries, or {image: ["...", ...]}"""


def read_generated(path):
    """One caption an image: {image id as text: str}, in the order of the file.

    Of several captions of an image the first is taken. JSON, JSON lines (*.jsonl) and `pred.*.tsv` are read.

    Raises:
        DataError: no such file, another form, an image twice; names the row.
    """
    found = {}
    for where, image, caption in _generated(path):
        if isinstance(caption, list) and caption:
            caption = caption[0]
        if isinstance(caption, dict):
            caption = caption.get("caption")
        image = _image_text(image, f"{path} {where}", _CAPTIONS)
        if not isinstance(caption, str):
            raise DataError(f"{path} {where}: image {image} has {_short(caption)}; {_CAPTIONS}")
        if image in found:
            raise DataError(f"{path} {where}: image {image} is there twice; expected one entry an image")
        found[image] = caption
    if not found:
        raise DataError(f"{path}: no captions; {_CAPTIONS}")
    return found


def read_references(path):
    """People's captions: {image id as text: [str, ...]}, none empty (raises as `read_generated`)."""
    content, found = read_json(path), {}
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, list):
        for number, entry in enumerate(content):
            image, caption = _image_and_caption(entry, f"{path} entry {number}", _REFERENCES)
            if not isinstance(caption, str):
                raise DataError(f"{path} entry {number}: caption {_short(caption)}; {_REFERENCES}")
            found.setdefault(_image_text(image, f"{path} entry {number}", _REFERENCES), []).append(caption)
    elif isinstance(content, dict):
        for image, captions in content.items():
            if not isinstance(captions, list) or not captions or not all(isinstance(text, str) for text in captions):
                raise DataError(f"{path}: image {image} has {_short(captions)}; {_REFERENCES}")
            found[image] = captions
    if not found:
        raise DataError(f"{path}: no captions; {_REFERENCES}")
    return found


def _generated(path):
    """(where, image, caption) of each row."""
    ending = os.path.splitext(path)[1]
    if ending in (".tsv", ".jsonl"):
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                yield f"line {number}", *(_tsv_row if ending == ".tsv" else _jsonl_row)(line, f"{path} line {number}")
        return
    content = read_json(path)
    if isinstance(content, dict):
        yield from ((f"image {image}", image, caption) for image, caption in content.items())
        return
    if not isinstance(content, list):
        raise DataError(f"{path}: holds {_short(content)}; {_CAPTIONS}")
    for number, entry in enumerate(content):
        yield f"entry {number}", *_image_and_caption(entry, f"{path} entry {number}", _CAPTIONS)


def _tsv_row(line, where):
    image, tab, text = line.rstrip("\r").partition("\t")
    if not tab:
        raise DataError(f"{where}: no tab; {_CAPTIONS}")
    return image, _parsed(text, where)


def _jsonl_row(line, where):
    return _image_and_caption(_parsed(line, where), where, _CAPTIONS)


def _parsed(text, where):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: malformed JSON ({error})") from None


def _image_and_caption(entry, where, expected):
    """Of an entry; `captions` is the list in our captions.json."""
    if not isinstance(entry, dict) or not {"image_id", "image"} & entry.keys():
        raise DataError(f"{where}: {_short(entry)} names no image; {expected}")
    return entry.get("image_id", entry.get("image")), entry.get("caption", entry.get("captions"))


def _image_text(image, where, expected):
    """Ids are compared as text: a row key "42" and COCO's number 42 are one image."""
    if isinstance(image, bool) or not isinstance(image, (int, str)) or image == "":
        raise DataError(f"{where}: the image id is {_short(image)}; {expected}")
    return str(image)


def _short(value):
    return f"a {type(value).__name__}" if isinstance(value, (list, dict)) and value else repr(value)[:60]
