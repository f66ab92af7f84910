"""Pictures for a report page: found by image id, shrunk, and turned into text that an HTML page can hold."""

import base64
import io
import re
from pathlib import Path

from PIL import Image, ImageOps

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.source import stem
from oscar_paddle.tools.pages.markup import element

SIDE = 320  # pixels of the longer side: twice the width on the page, for sharp screens
BYTES = 30_000  # per picture; about 130 of them fit into 6 MB of base64
QUALITIES = (88, 75, 60, 40)
MAX_BOXES = 20  # drawn on one picture
COLOURS = 6  # of boxes, in the style sheet
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


class Pictures:
    """Pictures of one folder as `<img>` elements with the data inside.

    Args:
        folder: holds `<image id>.png` (jpg, jpeg, webp, bmp, gif), or names that end in the number, as COCO's do
            (`COCO_val2014_000000391895.jpg`).
        boxes: LabelledBoxes, to draw what the detector found over the pictures, or None.
        names: image id -> name of the picture's file, where the data set says it (`own_pictures.read_names`); a number
            in a name then means nothing: photo_17.jpg need not be image 17.
    Raises:
        DataError: no such folder, or no pictures in it.
    """

    def __init__(self, folder, boxes=None, names=None):
        self.folder, self.boxes = Path(folder), boxes
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder (--images)")
        pictures = [path for path in sorted(self.folder.iterdir()) if path.suffix.lower() in _ENDINGS]
        self.files = _by_name(pictures, names or {}) or _by_number(pictures)
        if not self.files:
            raise DataError(f"{self.folder}: no pictures here; expected <image id>.png or .jpg (--images)")
        self._made = {}

    def html(self, image_id, alt):
        """A frame with the picture and, over it, the detected boxes (shown when the page's box is ticked).

        Args:
            image_id: which picture.
            alt: what it shows, in words.
        Returns:
            Html.
        Raises:
            DataError: there is no such picture, or it cannot be read.
        """
        if image_id not in self._made:
            self._made[image_id] = self._encode(image_id), self._drawing(image_id)
        (data, width, height), drawing = self._made[image_id]
        image = element("img", src=data, alt=alt, width=width, height=height, decoding="async")
        return element("div", image, drawing, class_="frame")

    def _encode(self, image_id):
        """(data URI, width, height) of the shrunk picture."""
        path = self.files.get(str(image_id))
        if path is None:
            raise DataError(f"{self.folder}: no picture of image {image_id}; expected {image_id}.png or .jpg")
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
        return f"data:image/jpeg;base64,{text}", image.width, image.height

    def _drawing(self, image_id):
        """The boxes and tags as SVG in pixels of the original picture, or nothing."""
        if self.boxes is None:
            return ""
        found, height, width = self.boxes.labelled_boxes(image_id)
        size = 0.07 * min(height, width)
        shapes = []
        for number, (tag, (x1, y1, x2, y2)) in enumerate(found[:MAX_BOXES]):
            rect = {"x": f"{x1:.0f}", "y": f"{y1:.0f}", "width": f"{max(x2 - x1, 1):.0f}"}
            line = y1 - 0.3 * size if y1 > 1.4 * size else y1 + size  # above the box, where there is room
            side, anchor = (x2, "end") if x1 > 0.6 * width else (x1, None)
            label = element("text", tag, x=f"{side:.0f}", y=f"{line:.0f}", text_anchor=anchor)
            box = element("rect", **rect, height=f"{max(y2 - y1, 1):.0f}")
            shapes.append(element("g", box, label, class_=f"box{number % COLOURS}"))
        return element(
            "svg",
            *shapes,
            class_="boxes",
            viewBox=f"0 0 {width:g} {height:g}",
            font_size=f"{size:.0f}",
            aria_hidden="true",
        )


def _by_name(pictures, names):
    """Image id as text -> path, for the images whose picture is there."""
    paths = {stem(path.name): path for path in pictures}
    return {str(image_id): paths[stem(name)] for image_id, name in names.items() if stem(name) in paths}


def _by_number(pictures):
    """Image id as text, the number that a name ends in (or the name), -> path."""
    files = {}
    for path in pictures:
        number = re.search(r"(\d+)$", path.stem)
        files.setdefault(str(int(number[1])) if number else path.stem, path)
    return files
