"""COCO annotation ids of captions, which ECCV Caption and CxC speak about."""

import json
from collections import defaultdict

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_text

FORMATS = """\
JSON, one of: {"<image id>": [annotation id, ...], ...} in the order of the captions;
COCO's captions_val2014.json; Karpathy's dataset_coco.json (captions of these two are matched by their text)"""


def read_annotation_ids(path, data):
    """The annotation id of every caption of a data set: list of int.

    Args:
        path: a file of one of the three FORMATS.
        data: RetrievalDataset: `caption_ids` and `captions` are used.
    Raises:
        DataError: the file cannot be read, or has no id for a caption.
    """
    try:
        by_image = _by_image(json.loads(read_text(path)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a file of caption annotation ids ({error!r}); expected {FORMATS}") from None
    ids = []
    for (image_id, number), caption in zip(data.caption_ids, data.captions, strict=True):
        entries = by_image.get(int(image_id), {})
        found = [entry for entry, text in entries.items() if text in (number, _plain(caption))]
        if not found:
            raise DataError(f"{path}: no annotation id for caption {number} of image {image_id} ({caption!r})")
        ids.append(found[0])
        del entries[found[0]]  # an image may have two equal captions: each id is given once
    return ids


def _by_image(content):
    """{image id: {annotation id: its plain text, or the number of its caption}}."""
    by_image = defaultdict(dict)
    if "annotations" in content:
        for entry in content["annotations"]:
            by_image[int(entry["image_id"])][int(entry["id"])] = _plain(entry["caption"])
    elif "images" in content:
        for image in content["images"]:
            by_image[int(image["cocoid"])] = {int(item["sentid"]): _plain(item["raw"]) for item in image["sentences"]}
    else:
        for image_id, ids in content.items():
            by_image[int(image_id)] = {int(value): number for number, value in enumerate(ids)}
    return by_image


def _plain(text):
    """A caption without what copies of it differ in: case, spaces, a closing full stop."""
    return " ".join(text.lower().split()).rstrip(" .")
