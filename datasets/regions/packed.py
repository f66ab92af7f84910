"""The packed feature store: all regions of one source in one memory-mapped file, ready to use without decoding.

    16 bytes    "OSCAR-PACKED-1" and two zero bytes
    values      the regions of all images one after the other, float32 or float16, little-endian, row by row
    starts      int64 [images + 1], the row at which each image begins, and the number of rows
    checksums   uint32 [images], of each image's values (region_source.checksum)
    contents    JSON: ids, type and width of the values, and the state of the source they were read from
    24 bytes    length of the JSON (8 bytes), CRC-32 of starts + checksums + JSON (4), four zero bytes, "PACKED-1"

A float32 store holds the same bits as its source. float16 keeps about three decimal digits: it halves the file, is not
exact, and is used only when DATASET.PACKED asks for it.
"""

import hashlib
import json
import logging
import mmap
import os
import struct
import zlib
from functools import cache

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.regions.one_file_each import list_files
from oscar_paddle.datasets.regions.oscar_v1 import open_labels
from oscar_paddle.datasets.regions.source import OwnTags, RegionSource, checksum
from oscar_paddle.datasets.regions.vinvl import open_predictions

_LOG = logging.getLogger(__name__)
HEAD = b"OSCAR-PACKED-1\0\0"
TAIL = struct.Struct("<QII8s")
TAIL_MAGIC = b"PACKED-1"
_ENDINGS = {"float32": ".packed", "float16": ".float16.packed"}
_BLOCK, _BLOCKS = 1 << 16, 64  # what is read of a large source to tell whether it is the same


class PackedFeatures(RegionSource):
    """Regions from a packed store (see `RegionSource`); they are views of the file, so nothing is cached.

    An image's checksum is compared when it is first read. Where it does not fit, the store's source is read instead
    and the log says so; a store without its source raises.

    Args:
        path: the store.
        feature_dim, max_region: as for every `RegionSource`.
        source: the RegionSource that was packed, where it is still there: also for images the store does not have.
    Raises:
        DataError: no such file, not a store, damaged, or of another width.
    """

    _holder = "store"
    _opened = ("_places", "contents", "_starts", "_checksums", "_values", "_verified")

    def __init__(self, path, *, feature_dim=2054, max_region=None, source=None):
        self.store_path, self.source = str(path), source
        path_said = source.path if source else path
        super().__init__(path_said, feature_dim=feature_dim, max_region=max_region, cache_bytes=0)
        if self._values.shape[1] != feature_dim:
            raise DataError(f"{path}: holds {self._values.shape[1]} values a region; expected {feature_dim}")
        for name in ("orders_images", "names_images"):
            setattr(self, name, getattr(source, name) if source else self.contents[name])

    def _open(self):
        self.contents, self._starts, self._checksums, self._values = _map_store(self.store_path)
        self._verified = bytearray(len(self.contents["ids"]))
        return {key: number for number, key in enumerate(self.contents["ids"])}

    @property
    def ids(self):
        return list(self.source.ids if self.source else self._places)

    @property
    def dtype(self):
        """Of the values in the file: float32 or float16."""
        return self._values.dtype

    def use_names(self, names):
        super().use_names(names)
        if self.source:
            self.source.use_names(names)

    def open_tags(self, data_dir, split, label_type):
        if self.contents.get("tags") is not None:
            return OwnTags(self, self.store_path)
        if self.source:
            return self.source.open_tags(data_dir, split, label_type)
        folder = os.path.dirname(self.store_path)  # the source is gone: what lies beside the store
        predictions = os.path.join(folder, "predictions.tsv")
        if os.path.isfile(predictions):
            return open_predictions(predictions, self._names)
        return open_labels([folder, data_dir], split, label_type, self._names)

    def tags_of(self, key):
        """The tags that are packed, of a key (raises DataError)."""
        return self.contents["tags"][self._place(key)]

    def _has(self, key):
        return key in self._places or (self.source is not None and self.source._has(key))

    def _read(self, key):
        regions, where = self._stored(key), self._where(self.store_path, key)
        if regions is not None:
            return regions, where
        if self.source is None:
            damaged = f"{where}: the values do not fit their checksum; pack the store again"
            raise DataError(damaged if key in self._places else self._missing(key))
        if key in self._places:
            _LOG.warning("%s: the values do not fit their checksum; reading %s instead", where, self.source.path)
        return self.source._read(key)

    def read(self, image_id, allow_empty=False):
        # What is packed was checked then, and needs no copy; the base class does what is read from the source.
        regions = self._stored(self._key(image_id))
        if regions is None or not len(regions):
            return super().read(image_id, allow_empty)
        return regions if self.max_region is None else regions[: self.max_region]

    def _count(self, key):
        number = self._places.get(key)
        return super()._count(key) if number is None else int(self._starts[number + 1] - self._starts[number])

    def _stored(self, key):
        """The regions of an image as they are packed, or None where they are not or do not fit their checksum."""
        number = self._places.get(key)
        if number is None:
            return None
        regions = self._values[self._starts[number] : self._starts[number + 1]]
        if not self._verified[number]:
            if checksum(regions) != self._checksums[number]:
                return None
            self._verified[number] = 1
            self._look_for_pixels(regions, self.store_path)
        return regions if regions.dtype == np.float32 else _float32_of_all().take(regions.view("<u2"))

    def _signature(self, key):
        number = self._places.get(key)
        if number is None or self.dtype != np.float32:
            return super()._signature(key)
        return self._count(key), self._values.shape[1], int(self._checksums[number])


@cache
def _float32_of_all():
    """float32 of all 65,536 float16 values: looking them up is several times as fast as converting them."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def store_path(source_path, dtype="float32"):
    """Where the packed store of a source lies: beside it, `features.tsv` -> `features.packed`."""
    path = os.path.normpath(str(source_path))
    return (path if os.path.isdir(path) else os.path.splitext(path)[0]) + _ENDINGS[dtype]


def find_store(source_path, packed, refused, **options):
    """The packed store beside a source that is read in its place, or None.

    Args:
        packed: DATASET.PACKED.
        refused: function (path, reason) that hears why a store is not used.
        options: as for `PackedFeatures`.
    """
    for dtype in {"off": (), "float16": ("float16", "float32")}.get(packed, ("float32",)):
        path = store_path(source_path, dtype)
        if os.path.isfile(path):
            store, reason = open_store(path, source_path, **options)
            if reason is None:
                return store
            refused(path, reason)
    return None


def open_store(path, source_path, **options):
    """(PackedFeatures or None, what speaks against reading it instead of its source: a clause for the log, or None)."""
    try:
        store = PackedFeatures(path, **options)
        return store, _why_not_used(store, source_path)
    except (DataError, OSError) as error:
        return None, str(error)


def _why_not_used(store, source_path):
    packed = store.contents["source"]
    size, newest, digest = source_state(source_path)
    name = os.path.basename(os.path.normpath(source_path))
    if size != packed["bytes"]:
        return f"{name} has {size} bytes; {packed['bytes']} when it was packed"
    if digest != packed["digest"]:
        return f"{name} has other content than when it was packed"
    if newest != packed["changed"] and newest > os.stat(store.store_path).st_mtime_ns:
        return f"{name} is newer (if it was only copied, `touch {store.store_path}`)"
    return None


def source_state(path):
    """What tells whether a source is still the same: (size in bytes, time of the latest change in ns, hex digest of
    names, sizes and up to 64 blocks of content)."""
    if not os.path.isdir(path):
        status, digest = os.stat(path), hashlib.blake2b(digest_size=16)
        with open(path, "rb") as file:
            for start in np.unique(np.linspace(0, max(0, status.st_size - _BLOCK), _BLOCKS).astype(np.int64)):
                file.seek(start)
                digest.update(file.read(_BLOCK))
        return status.st_size, status.st_mtime_ns, digest.hexdigest()
    names = sorted(name for ending in (".npy", ".npz") for name in list_files(path, ending))
    files = [(name, os.stat(os.path.join(path, name))) for name in names]
    digest = hashlib.blake2b(repr([(name, status.st_size) for name, status in files]).encode(), digest_size=16)
    for name, _ in files[:: max(1, len(files) // _BLOCKS)]:
        with open(os.path.join(path, name), "rb") as file:
            digest.update(file.read(_BLOCK))
    size = sum(status.st_size for _, status in files)
    return size, max((status.st_mtime_ns for _, status in files), default=0), digest.hexdigest()


def _map_store(path):
    """Map a store: (contents, starts, checksums, values [rows, D]), checked but for the values themselves."""
    with reading(path), open(path, "rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if buffer[: len(HEAD)] != HEAD or len(buffer) < len(HEAD) + TAIL.size:
        raise DataError(f"{path}: not a packed feature store; tools/pack_features.py writes them")
    json_bytes, expected, _, magic = TAIL.unpack(buffer[-TAIL.size :])
    end = len(buffer) - TAIL.size
    if magic != TAIL_MAGIC or json_bytes > end - len(HEAD):
        raise DataError(f"{path}: truncated; pack it again")
    try:
        contents = json.loads(buffer[end - json_bytes : end])
        _check_contents(contents)
        dtype, width, images = np.dtype(contents["dtype"]), contents["width"], len(contents["ids"])
        starts_at = len(HEAD) + contents["rows"] * width * dtype.itemsize
        checksums_at = starts_at + 8 * (images + 1)
        fits = checksums_at + 4 * images == end - json_bytes and zlib.crc32(buffer[starts_at:end]) == expected
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise DataError(f"{path}: damaged: its index does not fit its checksum; pack it again")
    starts = np.frombuffer(buffer, "<i8", images + 1, starts_at)
    checksums = np.frombuffer(buffer, "<u4", images, checksums_at)
    if starts[0] != 0 or starts[-1] != contents["rows"] or np.any(starts[1:] < starts[:-1]):
        raise DataError(f"{path}: damaged: its images do not follow each other; pack it again")
    values = np.frombuffer(buffer, dtype.newbyteorder("<"), contents["rows"] * width, len(HEAD)).reshape(-1, width)
    return contents, starts, checksums, values


def _check_contents(contents):
    """Raises ValueError, KeyError or TypeError if the JSON of a store is not what `pack` writes."""
    ids, tags = contents["ids"], contents.get("tags")
    kinds = {"rows": int, "width": int, "orders_images": bool, "names_images": bool}
    source_kinds = {"bytes": int, "changed": int, "digest": str}
    right = (
        contents["dtype"] in _ENDINGS,
        all(type(contents[name]) is kind for name, kind in kinds.items()),
        all(type(contents["source"][name]) is kind for name, kind in source_kinds.items()),
        contents["rows"] > 0 and contents["width"] > 0,
        isinstance(ids, list) and all(type(key) in (int, str) for key in ids) and len(set(ids)) == len(ids) > 0,
        tags is None or (len(tags) == len(ids) and all(isinstance(text, str) for text in tags)),
    )
    if not all(right):
        raise ValueError
