"""Pictures for a page: found by image id, shrunk, turned into text that an HTML page can hold; boxes over them."""

import base64
import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import read_names
from oscar_paddle.datasets.regions.one_file_each import NpzFeatures
from oscar_paddle.datasets.regions.source import stem
from oscar_paddle.datasets.regions.vinvl import ObjectTags

SIDE = 320  # pixels of the longer side: twice the width on the page, for sharp screens
BYTES = 30_000  # per picture; about 130 of them fit into 6 MB of base64
QUALITIES = (88, 75, 60, 40)
MAX_BOXES = 20  # drawn on one picture
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


class Thumbnail(NamedTuple):
    """A shrunk picture: a `data:` URI, width and height in pixels."""

    data: str
    width: int
    height: int


class Drawing(NamedTuple):
    """Boxes over a picture of so many pixels, in these."""

    boxes: list  # (tag, (x, y, width, height), (x, y of the tag, its end that is there: "start" or "end"))
    height: float
    width: float
    letters: float  # size of the letters


def draw_boxes(found, height, width):
    """The Drawing of the first MAX_BOXES of [(tag, [x1, y1, x2, y2] in pixels), ...] over a picture."""
    letters, boxes = 0.07 * min(height, width), []
    for tag, (x1, y1, x2, y2) in found[:MAX_BOXES]:
        line = y1 - 0.3 * letters if y1 > 1.4 * letters else y1 + letters  # above the box, where there is room
        place = (x2, line, "end") if x1 > 0.6 * width else (x1, line, "start")
        boxes.append((tag, (x1, y1, max(x2 - x1, 1), max(y2 - y1, 1)), place))
    return Drawing(boxes, height, width, letters)


class LabelledBoxes(ObjectTags):
    """Detections with their boxes, from `predictions.tsv`."""

    def labelled_boxes(self, image_id):
        """([(tag, [x1, y1, x2, y2]), ...] in shares of the picture's sides, its height, its width in pixels)."""
        boxes, height, width = self.boxes(image_id)
        _, objects, where = self._detections(image_id)
        tags = [self._value(item, "class", str, where) for item in objects]
        shares = [[x1 / width, y1 / height, x2 / width, y2 / height] for x1, y1, x2, y2 in boxes]
        return list(zip(tags, shares, strict=True)), height, width


class Pictures:
    """The pictures of one folder.

    Attributes:
        files: image id as text -> path.
        boxes: LabelledBoxes or None.

    Args:
        folder: holds `<image id>.png` (jpg, jpeg, webp, bmp, gif) or COCO's `COCO_val2014_000000391895.jpg`, or the
            pictures that `names` names; any other number in a name means nothing: photo_17.jpg need not be image 17.
        boxes: LabelledBoxes or NpzFeatures, to draw what the detector found over the pictures, or None.
        names: image id -> name of the picture's file, where the data set says it (`own_pictures.read_names`).
    Raises:
        DataError: no such folder, or no pictures in it.
    """

    def __init__(self, folder, boxes=None, names=None):
        self.folder, self.boxes, self.names = Path(folder), boxes, names or {}
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder (--images)")
        pictures = [path for path in sorted(self.folder.iterdir()) if path.suffix.lower() in _ENDINGS]
        self.files = _by_name(self.folder, pictures, self.names) or _by_id(pictures)
        if not pictures and not self.files:
            raise DataError(f"{self.folder}: no pictures here; expected <image id>.png or .jpg (--images)")
        self._thumbnails = {}

    def thumbnail(self, image_id):
        """The picture as a Thumbnail, DataError where there is none or it cannot be read."""
        if image_id not in self._thumbnails:
            self._thumbnails[image_id] = self._shrink(image_id)
        return self._thumbnails[image_id]

    def drawing(self, image_id):
        """What the detector found, as a Drawing over the thumbnail, or None where nothing is known of it."""
        if self.boxes is None:
            return None
        found, height, width = self.boxes.labelled_boxes(image_id)
        picture = self.thumbnail(image_id)
        height, width = height or picture.height, width or picture.width
        return draw_boxes(scaled(found, height, width), height, width)

    def _shrink(self, image_id):
        path = self.files.get(str(image_id))
        if path is None:
            name = self.names.get(image_id)
            expected = name or f"{image_id}.png or .jpg; where other names are meant, say which with --data_dir"
            raise DataError(f"{self.folder}: no picture of image {image_id}; expected {expected}")
        try:
            with Image.open(path) as image:
                image.draft("RGB", (2 * SIDE, 2 * SIDE))
                image = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: cannot read this picture: {error}") from None
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= BYTES:
                break
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        return Thumbnail(f"data:image/jpeg;base64,{text}", image.width, image.height)


def open_pictures(images, features="", data_dir="", eval_dir=""):
    """The pictures for the report of an evaluation, with boxes where `features` names them.

    Args:
        images: folder of pictures, see `Pictures`.
        features: see `open_boxes`; "" = no boxes.
        data_dir: DATASET.DATA_DIR, which may name the pictures' files, where the evaluation folder `eval_dir` does not.
    Raises:
        DataError: a folder or a file is missing or damaged.
    """
    names = (read_names(eval_dir) if eval_dir else {}) or (read_names(data_dir) if data_dir else {})
    return Pictures(images, open_boxes(features, names) if features else None, names)


def open_boxes(features, names):
    """What has the boxes and tags: predictions.tsv (or the features beside it), or a folder of .npz files.

    Args:
        names: image id -> name of the picture's file, or {}.
    Raises:
        DataError: there are none.
    """
    place, path = Path(features), Path(features).with_name("predictions.tsv")
    place = place if place.is_dir() else place.with_suffix("")  # of a packed store
    if path.is_file():
        boxes = LabelledBoxes(path)
        boxes.use_names(names)
        return boxes
    if not place.is_dir():
        raise DataError(f"{path}: no such file; it holds the boxes and tags, if not a folder of .npz does (--features)")
    boxes = NpzFeatures(place)
    boxes.use_names(names)
    return boxes


def scaled(found, height, width):
    """[(tag, box), ...] in pixels, whose boxes were shares of the sides of a picture."""
    return [(tag, [x1 * width, y1 * height, x2 * width, y2 * height]) for tag, (x1, y1, x2, y2) in found]


def _by_name(folder, pictures, names):
    """Image id as text -> path, for the images whose picture is there; the ending may be another one."""
    whole, short = {path.name: path for path in pictures}, {stem(path.name): path for path in pictures}
    shared = Counter(map(stem, names.values()))
    files = {}
    for image_id, name in names.items():
        inside = folder / name
        alike = short.get(stem(name)) if shared[stem(name)] == 1 else None
        files[str(image_id)] = inside if "/" in name and inside.is_file() else whole.get(name, alike)
    return {image_id: path for image_id, path in files.items() if path}


def _by_id(pictures):
    """Image id as text, a whole name or the number of one of COCO's, -> path."""
    numbers = ((re.fullmatch(r"(?:COCO_[a-z]+[0-9]+_)?([0-9]+)", path.stem), path) for path in reversed(pictures))
    return {str(int(number[1])) if number else path.stem: path for number, path in numbers}
