"""Region features as rows of text with a map of their places, as the question tasks have them.

`{split}_img_frcnn_feats.tsv` lies beside `{split}_img_frcnn_feats_offset_map.json`.
Rows are `id <tab> number of boxes <tab> base64 of float32 [boxes, 2054]`; the map gives the byte at which the row of
each id starts. Upstream: the number of boxes is not used, the bytes say how many there are.
"""

import os

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import RandomAccessFile, read_json
from oscar_paddle.datasets.regions.rows import box_count, columns_of, first_rows, parse_regions
from oscar_paddle.datasets.regions.source import RegionSource, image_key

MAP_ENDING = "_offset_map.json"
_HEAD = 1 << 14  # bytes of a row that hold the number of boxes


def offset_map_of(path):
    """Where the byte-offset map of a `.tsv` file would be."""
    return os.path.splitext(str(path))[0] + MAP_ENDING


class OffsetMapFeatures(RegionSource):
    """Regions from a `.tsv` file with a byte-offset map beside it (see `RegionSource`).

    Raises:
        DataError: one of the two files is missing, or the map is not one of this file.
    """

    def _open(self):
        map_file = offset_map_of(self.path)
        starts = _read_map(map_file)
        self._file = RandomAccessFile(self.path)
        ordered = sorted(starts.values())
        if ordered[-1] >= self._file.size:
            raise DataError(f"{map_file}: reaches to byte {ordered[-1]}, but {self.path} has {self._file.size} bytes")
        ends = dict(zip(ordered, [*ordered[1:], self._file.size], strict=True))
        self._columns = columns_of(first_rows(self.path))
        return {key: (start, ends[start]) for key, start in starts.items()}

    def _row(self, key, longest=None):
        """(the columns of an image's row, or of its first `longest` bytes; what messages call it)."""
        start, end = self._place(key)
        where = self._where(f"{self.path} byte {start}", key)
        row = self._file.read(min(end - start, longest or end), start).split(b"\n", 1)[0]
        fields = [field.strip() for field in row.split(b"\t")]
        if len(fields) < 2 or image_key(fields[0].decode(errors="replace")) != key:
            found = fields[0][:20].decode(errors="replace")
            raise DataError(f"{where}: the row begins with {found!r}; {offset_map_of(self.path)} says {key}")
        return fields, where

    def _read(self, key):
        fields, where = self._row(key)
        return parse_regions(fields, self._columns, self.feature_dim, where, trust_count=False), where

    def _count(self, key):
        fields, where = self._row(key, _HEAD)
        return box_count(fields, self._columns, where) or super()._count(key)


def _read_map(path):
    """{image key: byte offset}."""
    found = read_json(path, "; it says where the row of each image starts")
    if not isinstance(found, dict) or not found or not all(type(n) is int and n >= 0 for n in found.values()):
        raise DataError(f"{path}: expected a JSON object image id -> byte offset")
    starts = {image_key(name): offset for name, offset in found.items()}
    if len(starts) != len(found) or len(set(starts.values())) != len(starts):
        raise DataError(f"{path}: two images have one id or one offset; expected a row for each")
    return starts
