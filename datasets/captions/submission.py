"""Files of captions for the evaluation servers of COCO and NoCaps (docs/reference.md, caption submissions)."""

import json
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_json
from oscar_paddle.datasets.formats.whole_files import whole_file

KINDS = ("coco", "nocaps")


def write_submission(path, captions, image_info, kind):
    """Write the captions of all images of a split, whole or not at all.

    Args:
        captions: {image id as text: str}.
        image_info: the split's JSON file with "images": COCO's image_info_*.json or captions_*.json, or
            nocaps_{split}_image_info.json, which maps Open Images' keys to ids.
        kind: "coco": [{"image_id": int, "caption": str}, ...]; "nocaps": with "id", a running number, as well.
    Returns:
        number of images.
    Raises:
        DataError: an image without a caption or twice, one that is not of the split, an empty caption, an id that is no
            integer. Nothing is written then.
    """
    ids = _ids(image_info, kind)
    _check(captions, ids, image_info)
    entries = [{"image_id": number, "caption": " ".join(captions[key].split())} for key, number in ids.items()]
    if kind == "nocaps":
        entries = [{**entry, "id": place} for place, entry in enumerate(entries)]
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return len(entries)


def _ids(path, kind):
    """{image key as captions name it: image_id of the server}, in the file's order."""
    images = read_json(path)
    images = images.get("images") if isinstance(images, dict) else None
    key_name = "open_images_id" if kind == "nocaps" else "id"
    expected = f'expected "images": [{{"id": integer{", " + repr(key_name) + ": text" if kind == "nocaps" else ""}}}]'
    if not isinstance(images, list) or not images:
        raise DataError(f"{path}: lists no images; {expected}")
    found, seen = {}, set()
    for number, image in enumerate(images):
        image_id = image.get("id") if isinstance(image, dict) else None
        if type(image_id) is not int or image.get(key_name) in (None, ""):
            raise DataError(f"{path} image {number}: {repr(image)[:80]}; {expected}")
        key = os.path.splitext(str(image[key_name]))[0]
        if key in found or image_id in seen:
            raise DataError(f"{path} image {number}: {key} (id {image_id}) is there twice")
        found[key] = image_id
        seen.add(image_id)
    return found


def _check(captions, ids, path):
    missing, extra = ids.keys() - captions.keys(), captions.keys() - ids.keys()
    if extra:
        raise DataError(
            f"{len(extra)} captions are of images that {path} does not list, such as {min(extra)!r}"
            "; is it the file of this split?"
        )
    if missing:
        raise DataError(f"{len(missing)} of {len(ids)} images of {path} have no caption, such as {min(missing)!r}")
    for image, caption in captions.items():
        if not caption.strip():
            raise DataError(f"image {image}: the caption is empty; the servers want words for every image")
