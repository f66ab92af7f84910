"""Region features of VQA as rows of text: `{split}_img_frcnn_feats.tsv` with `{split}_img_frcnn_feats_offset_map.json`.

Rows are `id <tab> number of boxes <tab> base64 of float32 [boxes, 2054]`; the map gives the byte at which the row of
each id starts. Upstream: the number of boxes is not used, the bytes say how many there are (vqa.md section 2.2).
"""

import json
import os

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.source import RegionSource, decode_base64, explain_width, image_key

MAP_ENDING = "_offset_map.json"


def offset_map_of(path):
    """Where the byte-offset map of a `.tsv` file would be."""
    return os.path.splitext(str(path))[0] + MAP_ENDING


class OffsetMapFeatures(RegionSource):
    """Regions from a `.tsv` file with a byte-offset map beside it (see `RegionSource`).

    Args:
        path: the `.tsv` file.
        feature_dim, max_region, cache_bytes: as for every `RegionSource`.
    Raises:
        DataError: one of the two files is missing, or the map is not one of this file.
    """

    def __init__(self, path, feature_dim=2054, max_region=None, cache_bytes=256 << 20):
        super().__init__(path, feature_dim, max_region, cache_bytes)
        self._starts = _read_map(offset_map_of(path))
        self._open()
        last = max(self._starts.values())
        if last >= self._size:
            raise DataError(f"{offset_map_of(path)}: reaches to byte {last}, but {path} has {self._size} bytes")
        starts = sorted(self._starts.values())
        self._ends = dict(zip(starts, [*starts[1:], self._size], strict=True))

    def _open(self):
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from None

    def __del__(self):
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_descriptor"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    @property
    def ids(self):
        return list(self._starts)

    def _has(self, key):
        return key in self._starts

    def _read(self, key):
        if key not in self._starts:
            raise DataError(f"{self.path}: no row for image {key} (its map has {len(self._starts)} images)")
        start = self._starts[key]
        where = f"{self.path} byte {start} (image {key})"
        fields = os.pread(self._descriptor, self._ends[start] - start, start).split(b"\n", 1)[0].split(b"\t")
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
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it says where the row of each image starts") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict) or not found or not all(type(n) is int and n >= 0 for n in found.values()):
        raise DataError(f"{path}: expected a JSON object image id -> byte offset")
    starts = {image_key(name): offset for name, offset in found.items()}
    if len(starts) != len(found) or len(set(starts.values())) != len(starts):
        raise DataError(f"{path}: two images have one id or one offset; expected a row for each")
    return starts
