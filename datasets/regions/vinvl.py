"""Regions and tags of images: image id -> [regions, 2054] float32, and image id -> "dog frisbee grass".

The published layout (VinVL): `features.tsv` rows are `id <tab> number of boxes <tab> ... <tab> base64 of float32` (for
other column orders see `rows.py`), `imageid2idx.json` beside it maps ids to rows; `predictions.tsv` rows are `id <tab>
JSON of the detections`.
"""

import json
import logging
import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.kinds import foreign
from oscar_paddle.datasets.formats.reading import MissingFile, first_file, read_json
from oscar_paddle.datasets.formats.tsv_file import TsvFile
from oscar_paddle.datasets.regions.rows import (
    box_count,
    check_count,
    columns_of,
    first_rows,
    parse_regions,
    usual_count,
)
from oscar_paddle.datasets.regions.source import ByName, RegionSource, image_key
from oscar_paddle.datasets.regions.values import FRACTIONS, are_fractions

_LAYOUTS = (
    "a .tsv of VinVL, LXMERT or bottom-up attention, a .pt or .pd of Oscar v1 (image id -> tensor), a .packed store, "
    "or a folder of <image id>.npy or <name>.npz files"
)
DEFAULT_SIZE = {"image_h": 600, "image_w": 800}  # upstream: of the picture, where a row of tags does not say
_LOG = logging.getLogger(__name__)


def parse_detections(fields, where, columns=2):
    """A row of predictions.tsv: (its JSON value, a list or an object; the list of detections in it).

    `fields` are the row's columns, `columns` is how many the other rows have.
    """
    if len(fields) < 2:
        raise DataError(f"{where}: one column; expected id and JSON")
    check_count(fields, columns, where)
    try:
        value = json.loads(fields[1])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: malformed JSON ({error})") from None
    objects = value.get("objects") if isinstance(value, dict) else value
    if not isinstance(objects, list):
        raise DataError(f"{where}: expected a list of detections or an object with 'objects'")
    return value, objects


class Rows(ByName):
    """Rows by image id (see `ByName`), from `imageid2idx.json` or else from the first fields of the rows."""

    def _open_rows(self, fewest, expected, map_path=None):
        """Open the file at `path`; `expected` says what else it should be, where no row has the `fewest` columns."""
        self._first = first_rows(self.path)
        most = max(map(len, self._first))
        few = f"its rows have {most} columns with tabs between them, fewer than {fewest}" if 0 < most < fewest else None
        if what := foreign(self.path) or few:  # before anything is written beside it
            raise DataError(f"{self.path}: {what}; {expected}")
        self._tsv = TsvFile(self.path)
        self._numbers = self._read_map(map_path) if map_path else None
        self._from_rows = False
        if self._numbers is None:
            self._rebuild()

    @property
    def ids(self):
        return list(self._numbers)

    def row_keys(self):
        """The first fields as the file has them, row by row: list of str."""
        return self._tsv.first_fields()

    def _has(self, key):
        return self._find(key) is not None

    def _find(self, key):
        """The row number of an image, or None."""
        found, rows = len(self._numbers), len(self._tsv)
        if key not in self._numbers and not self._from_rows and found != rows:
            _LOG.warning("%s: imageid2idx.json has %d ids for %d rows", self.path, found, rows)
            self._rebuild()
        return self._numbers.get(key)

    def _row(self, key, count=None):
        """(the fields of an image's row, or the first `count`; what messages call it); the row's own id decides.

        Raises:
            DataError: no row has this id.
        """
        number = self._find(key)
        fields = None if number is None else self._tsv.row(number, count)
        if fields and image_key(fields[0].decode(errors="replace")) != key:
            _LOG.warning("%s: row %d is not image %s as imageid2idx.json says", self.path, number + 1, key)
            self._rebuild()
            number = self._numbers.get(key)
            fields = None if number is None else self._tsv.row(number, count)
        if fields is None:
            there = f"(the file has {len(self._tsv)} rows); its ids look like {str(self.ids[0])!r}"
            raise DataError(f"{self.path}: no row for {self._label(key)} {there}")
        return fields, self._where(f"{self.path} row {number + 1}", key)

    def _rebuild(self):
        self._numbers = {image_key(field): number for number, field in enumerate(self._tsv.first_fields())}
        self._from_rows = True
        repeated = len(self._tsv) - len(self._numbers)
        if repeated:
            _LOG.warning("%s: %d rows repeat the id of another row; the last one counts", self.path, repeated)

    def _read_map(self, path):
        """The mapping in the JSON file, or None if there is none that can be right."""
        try:
            numbers = read_json(path)
        except MissingFile:
            _LOG.info("%s: taking the image ids from the rows", self.path)
            return None
        except DataError as error:
            _LOG.warning("%s cannot be used (%s)", path, error)
            return None
        rows = len(self._tsv)
        if not isinstance(numbers, dict) or not all(type(n) is int and 0 <= n < rows for n in numbers.values()):
            _LOG.warning("%s does not map image ids to the %d rows of %s", path, rows, self.path)
            return None
        return {image_key(name): number for name, number in numbers.items()}


class RegionFeatures(Rows, RegionSource):
    """Region features by image id, from `features.tsv` (see `RegionSource`)."""

    def _open(self):
        map_path = os.path.join(os.path.dirname(self.path), "imageid2idx.json")
        self._open_rows(3, f"the regions are read from {_LAYOUTS}", map_path)
        self._columns = columns_of(self._first)
        return {}

    def open_tags(self, data_dir, split, label_type):
        return open_predictions(os.path.join(os.path.dirname(self.path), "predictions.tsv"), self._names)

    def _read(self, key):
        fields, where = self._row(key)
        return parse_regions(fields, self._columns, self.feature_dim, where), where

    def _count(self, key):
        fields, where = self._row(key, self._columns.num_boxes + 1)
        return box_count(fields, self._columns, where)


def open_predictions(path, names):
    """ObjectTags of a file, with `names` as for `ByName.use_names`."""
    tags = ObjectTags(path)
    tags.use_names(names)
    return tags


class ObjectTags(Rows):
    """Object tags by image id, from `predictions.tsv`; DataError if it is missing or holds no rows."""

    def __init__(self, predictions_file):
        self.path = str(predictions_file)
        first_file([self.path], "; it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for")
        self._open_rows(2, "expected rows of image id and JSON")
        self._columns = usual_count(self._first, (2,))

    def __getitem__(self, image_id):
        """The classes of all detections in file order, duplicates kept, joined by single blanks.

        Raises:
            DataError: the id is missing, or its row is damaged; names the file, the row (from 1) and the id.
        """
        return " ".join(self.names(image_id))

    def names(self, image_id):
        """The same as a list (otherwise as `[image_id]`)."""
        _, objects, where = self._detections(image_id)
        return [self._value(item, "class", str, where) for item in objects]

    def boxes(self, image_id):
        """The detections' boxes, for drawing: ([[x1, y1, x2, y2] in pixels, ...], image height, image width).

        Upstream: a row that is a bare list has no size, `DEFAULT_SIZE` is assumed.
        """
        row, objects, where = self._detections(image_id)
        rects = [self._value(item, "rect", list, where) for item in objects]
        if any(len(rect) != 4 or not all(type(x) in (int, float) for x in rect) for rect in rects):
            raise DataError(f"{where}: a 'rect' is not four numbers")
        size = {**DEFAULT_SIZE, **(row if isinstance(row, dict) else {})}
        if not all(type(size[name]) in (int, float) and size[name] > 0 for name in ("image_h", "image_w")):
            raise DataError(f"{where}: image_h and image_w are {size['image_h']!r} and {size['image_w']!r}, not sizes")
        if are_fractions(rects, size["image_w"], size["image_h"]):
            raise DataError(f"{where}: {FRACTIONS} ('rect')")
        return rects, size["image_h"], size["image_w"]

    def _detections(self, image_id):
        fields, where = self._row(self._key(image_id))
        return *parse_detections(fields, where, self._columns), where

    @staticmethod
    def _value(item, key, kind, where):
        value = item.get(key) if isinstance(item, dict) else None
        if not isinstance(value, kind):
            raise DataError(f"{where}: a detection has no '{key}' ({kind.__name__} expected)")
        return value
