"""Region features as rows of text with a map of their places, as the question tasks have them.

`{split}_img_frcnn_feats.tsv` lies beside `{split}_img_frcnn_feats_offset_map.json`.
Rows are `id <tab> number of boxes <tab> base64 of float32 [boxes, 2054]`; the map gives the byte at which the row of
each id starts. Upstream: the number of boxes is not used, the bytes say how many there are.
"""

import os

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import RandomAccessFile, read_json
from oscar_paddle.datasets.regions.source import RegionSource, decode_base64, explain_width, image_key

MAP_ENDING = "_offset_map.json"


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
        return {key: (start, ends[start]) for key, start in starts.items()}

    def _read(self, key):
        start, end = self._place(key)
        where = f"{self.path} byte {start} (image {key})"
        fields = self._file.read(end - start, start).split(b"\n", 1)[0].split(b"\t")
        if len(fields) < 3 or image_key(fields[0].decode(errors="replace")) != key:
            found = fields[0][:20].decode(errors="replace")
            raise DataError(f"{where}: the row begins with {found!r}; {offset_map_of(self.path)} says {key}")
        data = decode_base64(fields[-1].strip(), where)
        row_bytes = 4 * self.feature_dim
        if not data or len(data) % row_bytes:
            raise DataError(f"{where}: {self._explain(data, fields[1])}")
        return np.frombuffer(data, "<f4").reshape(-1, self.feature_dim), where

    def _explain(self, data, count):
        """What is wrong with a number of bytes that is not a multiple of a region's."""
        boxes = int(count) if count.strip().isdigit() else 0
        if boxes and data and len(data) % (4 * boxes) == 0:
            return explain_width(len(data) // (4 * boxes), self.feature_dim)
        return f"{len(data)} bytes; expected a multiple of {4 * self.feature_dim} (INPUT.IMG_FEATURE_DIM x 4)"


def _read_map(path):
    """{image key: byte offset}."""
    found = read_json(path, "; it says where the row of each image starts")
    if not isinstance(found, dict) or not found or not all(type(n) is int and n >= 0 for n in found.values()):
        raise DataError(f"{path}: expected a JSON object image id -> byte offset")
    starts = {image_key(name): offset for name, offset in found.items()}
    if len(starts) != len(found) or len(set(starts.values())) != len(starts):
        raise DataError(f"{path}: two images have one id or one offset; expected a row for each")
    return starts
