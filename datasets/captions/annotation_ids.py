"""COCO annotation ids of captions, which ECCV Caption and CxC speak about."""

import json

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_text

FORMATS = """\
JSON, one of: {"<image id>": [annotation id, ...], ...} in the order of the captions;
COCO's captions_val2014.json; Karpathy's dataset_coco.json (captions of these two are matched by their text)"""


def read_annotation_ids(path, data):
    """The annotation id of every caption of a data set.

    Args:
        path: a file of one of the three FORMATS.
        data: RetrievalDataset: `caption_ids` and `captions` are used.
    Returns:
        list of int, one for each caption.
    Raises:
        DataError: the file cannot be read, or has no id for a caption.
    """
    try:
        by_image = _by_image(json.loads(read_text(path)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a file of caption annotation ids ({error!r}); expected {FORMATS}") from None
    ids = []
    for (image_id, number), caption in zip(data.caption_ids, data.captions, strict=True):
        entries = by_image.get(int(image_id), [])
        if entries and entries[0][1] is not None:
            found = [entry for entry in entries if _plain(entry[1]) == _plain(caption)][:1]
            for entry in found:  # an image may have two equal captions: each id is given once
                entries.remove(entry)
        else:
            found = entries[number : number + 1]
        if not found:
            raise DataError(f"{path}: no annotation id for caption {number} of image {image_id} ({caption!r})")
        ids.append(found[0][0])
    return ids


def _by_image(content):
    """{image id: [(annotation id, text or None), ...]}."""
    by_image = {}
    if "annotations" in content:
        for entry in content["annotations"]:
            by_image.setdefault(int(entry["image_id"]), []).append((int(entry["id"]), entry["caption"]))
    elif "images" in content:
        for image in content["images"]:
            sentences = [(int(sentence["sentid"]), sentence["raw"]) for sentence in image["sentences"]]
            by_image[int(image["cocoid"])] = sentences
    else:
        for image_id, ids in content.items():
            by_image[int(image_id)] = [(int(value), None) for value in ids]
    return by_image


def _plain(text):
    """A caption without what copies of it differ in: case, spaces, a closing full stop."""
    return " ".join(text.lower().split()).rstrip(" .")
