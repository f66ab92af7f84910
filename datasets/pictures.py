"""Pictures to look at: a folder, a list of files, or a `.tsv` of base64 images, each under a key of its own."""

import base64
import binascii
import io
import os
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_text, reading
from oscar_paddle.datasets.formats.tsv_file import TsvFile

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PIXELS = 200_000_000  # of a picture: 600 MB when decoded
DRAFT_PIXELS = 50_000_000  # a JPEG of more is decoded at a half, a quarter or an eighth, with long sides to spare


class Pictures:
    """Pictures by number.

    Args:
        place: a folder (its pictures and those of its folders), a `.txt` with one path a line (relative to it), a
            `.tsv` with a key in the first column and a base64 image in the last, or one picture.
        upright: turn pictures as their EXIF data say; the reference does not.
    Attributes:
        keys: list of str: file names without folder and ending (with folders where there are some), or the keys.
    Raises:
        DataError: no such place, no pictures in it, or two with one key.
    """

    def __init__(self, place, upright=False):
        self.place, self.upright, self._rows = Path(place), upright, None
        suffix = self.place.suffix.lower()
        if self.place.is_dir():
            found = sorted(path for path in self.place.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
            self._take(found, [path.relative_to(self.place) for path in found])
        elif suffix == ".tsv":
            self._rows = TsvFile(place)
            self._take(range(len(self._rows)), self._rows.first_fields())
        elif suffix == ".txt":
            names = [line.strip() for line in read_text(place).splitlines() if line.strip()]
            self._take([self.place.parent / name for name in names], list(map(Path, names)))
        else:
            with reading(
                place, "; expected a folder of pictures, a list (.txt), a .tsv of base64 images, or a picture"
            ):
                os.stat(place)
            self._take([self.place], [Path(self.place.name)])
        if not self.keys:
            raise DataError(f"{place}: no pictures here; expected {', '.join(ENDINGS)}")

    def _take(self, places, names):
        self._places, self.keys, seen = list(places), [], {}
        for where, name in zip(places, names, strict=True):
            key = name if isinstance(name, str) else name.with_suffix("").as_posix()
            if key in seen:
                first, second = (f"row {each + 1}" if isinstance(each, int) else each for each in (seen[key], where))
                raise DataError(
                    f"{self.place}: {first} and {second} both have the key {key!r}; expected a name of its own for each"
                )
            seen[key] = where
            self.keys.append(key)

    def __len__(self):
        return len(self.keys)

    def where(self, number):
        """What messages call a picture."""
        return f"{self.place} row {number + 1}" if self._rows else str(self._places[number])

    def open(self, number, long_side=1000):
        """A picture as a PIL image in RGB, decoded.

        Args:
            long_side: pixels of the longer side that are needed; decides how a huge JPEG is decoded, no more.
        Raises:
            DataError: it cannot be read, is damaged, or has more than MOST_PIXELS.
        """
        source = io.BytesIO(self._bytes(number)) if self._rows else self._places[number]
        return open_picture(source, self.where(number), self.upright, long_side)

    def _bytes(self, number):
        text = self._rows.row(number)[-1]
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise DataError(
                f"{self.where(number)}: the last column is not base64 ({error}); expected an image"
            ) from None


def open_picture(source, where, upright=False, long_side=1000):
    """A picture as a PIL image in RGB (source: path or file object; the rest as for `Pictures.open`)."""
    with reading(where), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound follows
        try:
            image = Image.open(source)
            width, height = image.size
            if width * height > MOST_PIXELS:
                most = f"{MOST_PIXELS // 1_000_000} million"
                raise DataError(f"{where}: {width} x {height} pixels; expected at most {most}: shrink it first")
            if width * height > DRAFT_PIXELS:
                enough = 4 * long_side / max(width, height)
                image.draft("RGB", (int(enough * width), int(enough * height)))
            if upright:
                image = ImageOps.exif_transpose(image)
            return _eight_bits(image).convert("RGB")
        except (Image.UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            what = "not a picture" if isinstance(error, Image.UnidentifiedImageError) else f"damaged ({error})"
            raise DataError(f"{where}: {what}; expected a whole JPEG, PNG or WebP") from None


def _eight_bits(image):
    """Grey pictures of 16 bits as 8: PIL's own way to RGB would make all that is above 255 white."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
