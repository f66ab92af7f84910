"""Region features in an LMDB store, as ViLBERT's repositories publish them: image id -> features, pixel boxes, size.

Two kinds of records are read alike: those of vilbert_beta (a csv row: base64 text, numbers as text) and those of
vilbert-multi-task (raw arrays, integers). A store is only read: no lock file is made or needed, and nothing written.

Shape letters: n regions of an image, D values of a region.

Source: docs/reference.md, LMDB regions.
"""

import base64
import binascii
import hashlib
import os
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import restricted_pickle
from oscar_paddle.datasets.formats.kinds import describe
from oscar_paddle.datasets.formats.reading import MissingFile, reading
from oscar_paddle.datasets.regions.source import ArrayCache, EmptyImage, image_key

KEYS, DETECTOR = b"keys", b"detector"  # entries that are no image: the list of keys; ours, what made the features
_FIELDS = ("image_w", "image_h", "num_boxes", "boxes", "features")
_MAGIC = 0xBEEFC0DE
_SMALL_RECORD = 1 << 13  # bytes
# What file names say of the detector: as ViLBERT's repositories name their stores.
_NAMED = {"resnet101": ("resnet101", "res101"), "resnext152": ("resnext152", "resnext_152", "x152", "x-152")}
_open_stores, _opening = weakref.WeakValueDictionary(), threading.Lock()


class StoredRegions(NamedTuple):
    """What a store has of an image: features [n, D] and boxes [n, 4] (x1, y1, x2, y2 in pixels), float32, read-only;
    width and height of the picture in pixels."""

    features: np.ndarray
    boxes: np.ndarray
    width: int
    height: int

    @property
    def nbytes(self):
        return self.features.nbytes + self.boxes.nbytes


class LmdbRegions:
    """Regions by image id: `in`, `[image_id]` -> StoredRegions. May be used by many threads, after a fork and after
    pickling: every process opens the store for itself.

    Args:
        path: the folder with data.mdb, or such a file itself.
        cache_bytes: decoded data to keep, least recently used first out; 0 keeps none.
        hint: what a message says behind "no such file", such as the setting that names it.
    Raises:
        DataError: it is missing, none of LMDB's, cut off, or without images.
    """

    fills_empty = False  # whether an image in which nothing was detected has no regions, instead of an error

    def __init__(self, path, cache_bytes=256 << 20, hint=""):
        self.path, self._cache = str(path), ArrayCache(cache_bytes)
        self.file = self._find_file(hint)
        check_whole(self.file)
        self._keys = {image_key(key.decode("latin-1")): key for key in self._all_keys()}
        if not self._keys:
            raise DataError(f"{self.path}: a store without images; expected one entry for each image id")

    def _find_file(self, hint):
        path = Path(self.path)
        if not path.exists():
            raise MissingFile(f"{path}: no such file{hint}")
        if path.is_dir():
            if not (path / "data.mdb").is_file():
                inside = ", ".join(sorted(os.listdir(path))[:3]) or "nothing"
                raise DataError(f"{path}: no LMDB store: no data.mdb in this folder (it has {inside})")
            path = path / "data.mdb"
        return str(path)

    @property
    def ids(self):
        """All image ids, in the order of the store (of the keys as text)."""
        return list(self._keys)

    @property
    def detector(self):
        """What made the features, as an entry of the store or its name says it: "resnet101", "resnext152", another
        name, or "" where nothing does."""
        said = self._get(DETECTOR)
        if said is not None:
            return said.decode("utf-8", "replace")
        name = f"{Path(self.path).parent.name}/{Path(self.path).name}".lower()
        found = [detector for detector, words in _NAMED.items() if any(word in name for word in words)]
        return found[0] if len(found) == 1 else ""

    def __contains__(self, image_id):
        return image_key(image_id) in self._keys

    def __getitem__(self, image_id):
        """
        Raises:
            EmptyImage: it has no regions.
            DataError: the image is missing, or its record is damaged; names store and image.
        """
        key = image_key(image_id)
        found = self._cache.get(key)
        if found is None:
            where = f"{self.path}, image {key}"
            if key not in self._keys:
                raise DataError(self.missing(image_id))
            found = parse_record(self._record(key, where), where, self.fills_empty)
            self._cache.put(key, found)
        return found

    def missing(self, image_id, said="is missing"):
        """The message that an image is not here; `said` follows its name."""
        there = f"(the store has {len(self._keys)} images); its ids look like {str(next(iter(self._keys)))!r}"
        return f"{self.path}: image {image_id} {said} {there}"

    def is_empty(self, image_id):
        """Whether nothing was detected in an image that is here. Reads small records only: a region has kilobytes."""
        key = image_key(image_id)
        with self._reading(buffers=True) as transaction:
            if len(transaction.get(self._keys[key]) or b"") > _SMALL_RECORD:
                return False
        where = f"{self.path}, image {key}"
        return _whole_number(self._record(key, where), "num_boxes", where) == 0

    def fingerprint(self, image_ids):
        """Hex digest of what the store has of these images (their number of bytes and values)."""
        digest = hashlib.blake2b(digest_size=16)
        for image_id in image_ids:
            found = self[image_id]
            digest.update(f"{image_key(image_id)} {found.features.shape} {found.width} {found.height}\n".encode())
            digest.update(np.ascontiguousarray(found.boxes))
            digest.update(np.ascontiguousarray(found.features))
        return digest.hexdigest()

    def _record(self, key, where):
        value = self._get(self._keys[key])
        if value is None:
            raise DataError(f"{where}: its entry is gone: the store has changed since it was opened")
        record = restricted_pickle.load(value, where)
        if not isinstance(record, dict):
            raise DataError(f"{where}: holds a {type(record).__name__}; expected a dict with {', '.join(_FIELDS)}")
        return record

    def _get(self, key):
        with self._reading() as transaction:
            return transaction.get(key)

    def _all_keys(self):
        with self._reading() as transaction, transaction.cursor() as cursor:
            return [key for key in cursor.iternext(values=False) if key not in (KEYS, DETECTOR)]

    def _reading(self, **options):
        """A transaction on the store, which one process opens once, whoever reads it."""
        return _Transaction(self.path, self._store(), options)

    def _store(self):
        mine = self.__dict__.get("_opened")
        if mine is None or mine.environment is None:
            with _opening:
                place = os.path.realpath(self.file), _version(self.file)
                mine = _open_stores.get(place) or _open_stores.setdefault(place, _Store(self.path, self.file))
            self._opened = mine
        return mine

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}


class _Store:
    """An open environment; none after a fork, in the child: LMDB's must not be used there."""

    environment = None

    def __init__(self, path, file):
        import lmdb  # here: what reads other layouts does without

        self.error = lmdb.Error
        options = {"readonly": True, "lock": False, "readahead": False, "meminit": False, "create": False}
        try:
            self.environment = lmdb.open(file, subdir=False, **options)
        except lmdb.Error as error:
            raise DataError(f"{path}: LMDB cannot open it ({error}); copy or make the store again") from None

    def close(self):
        environment, self.environment = self.environment, None
        if environment is not None:
            environment.close()

    __del__ = close


def _after_fork():
    """In the child: close what it inherited, which without a lock file touches nothing but its own memory; the library
    would refuse to open these files again. The lock may be that of a thread which is not here."""
    global _opening
    _opening = threading.Lock()
    for store in list(_open_stores.values()):
        store.close()
    _open_stores.clear()


os.register_at_fork(after_in_child=_after_fork)


class _Transaction:
    """`with` a read transaction; what LMDB says becomes a DataError."""

    def __init__(self, path, store, options):
        self.path, self.store, self.options = path, store, options

    def __enter__(self):
        self.transaction = self.store.environment.begin(**self.options)
        return self.transaction

    def __exit__(self, kind, error, trace):
        self.transaction.abort()
        if isinstance(error, self.store.error):
            raise DataError(f"{self.path}: damaged ({error}); copy or make the store again") from None


def _version(file):
    with reading(file):
        stat = os.stat(file)
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def check_whole(file):
    """Raise DataError if a data.mdb is none, or shorter than its own header says: LMDB would take the whole process
    down at the first page that is not there."""
    with reading(file), open(file, "rb") as stream:
        head, size = stream.read(4096), os.path.getsize(file)
        if len(head) < 152 or int.from_bytes(head[16:20], "little") != _MAGIC:
            is_start = head[16:20] == _MAGIC.to_bytes(4, "little")
            what = f"cut off after {size} bytes" if is_start else describe(head) or "not LMDB's"
            raise DataError(f"{file}: {what}; expected LMDB's data.mdb, written on a little-endian machine")
        page = int.from_bytes(head[40:44], "little")
        if page < 512 or page > 65536 or page & (page - 1):
            raise DataError(f"{file}: its header says pages of {page} bytes: damaged; copy the store again")
        stream.seek(page)
        second = stream.read(152)
    metas = [head[:152]] + [second] * (len(second) == 152 and int.from_bytes(second[16:20], "little") == _MAGIC)
    # Bytes 136 and 144: the last page in use, and the number of the transaction that wrote so; the newer one counts.
    last, _ = max(((_int64(meta, 136), _int64(meta, 144)) for meta in metas), key=lambda found: found[1])
    if len(metas) < 2 or size < (last + 1) * page:
        expected = max(last + 1, 2) * page
        raise DataError(f"{file}: {size:,} bytes; its header needs {expected:,}: cut off; copy or download it again")


def _int64(data, place):
    return int.from_bytes(data[place : place + 8], "little")


def parse_record(record, where, allow_empty=False):
    """A record of either kind as StoredRegions; with `allow_empty` of an image without boxes [0, 0] and [0, 4].

    Raises:
        EmptyImage: no boxes. DataError: a field is missing, of another size, or holds NaN; names the field.
    """
    missing = [name for name in _FIELDS if name not in record]
    if missing:
        there = ", ".join(map(str, record)) or "nothing"
        raise DataError(f"{where}: no field {missing[0]!r} (it has {there:.120}); expected {', '.join(_FIELDS)}")
    width, height, count = (_whole_number(record, name, where) for name in _FIELDS[:3])
    if width < 1 or height < 1:
        raise DataError(f"{where}: the picture is {width} x {height}; expected its size in pixels")
    if not count and not allow_empty:
        raise EmptyImage(f"{where}: num_boxes is 0; expected at least 1")
    if not count:
        return StoredRegions(np.zeros((0, 0), np.float32), np.zeros((0, 4), np.float32), width, height)
    boxes = _numbers(record, "boxes", (count, 4), where)
    features = _numbers(record, "features", (count, None), where)
    for name, values in (("boxes", boxes), ("features", features)):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise DataError(f"{where}: {name} of region {int(bad.argmax())} hold NaN or infinity; extract it again")
    if (np.abs(boxes) > 1e6).any():
        raise DataError(f"{where}: boxes reach {np.abs(boxes).max():g}; expected pixels of {width} x {height}")
    return StoredRegions(features, boxes, width, height)


def _whole_number(record, name, where):
    """A field that is a number or its decimal text."""
    value = record.get(name)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    try:
        number = int(value)
        if number != float(value) or number < 0:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: {name} is {str(value)[:40]!r}; expected a whole number from 0 on") from None
    return number


def _numbers(record, name, shape, where):
    """A field of float32, as base64 or an array, in this shape (None: whatever the bytes make)."""
    value, (count, width) = record[name], shape
    if isinstance(value, (str, bytes, bytearray)):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{where}: {name}: broken base64 ({error})") from None
        if len(data) % 4:
            raise DataError(f"{where}: {name} have {len(data)} bytes, not a whole number of float32 values")
        values = np.frombuffer(data, "<f4")
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        values = np.array(value, np.float32).reshape(-1)  # a copy: of the record nothing else stays
    else:
        raise DataError(f"{where}: {name} are a {type(value).__name__}; expected base64 text or an array of numbers")
    if values.size % count or not values.size or (width and values.size != count * width):
        expected = f"{count} x {width}" if width else f"{count} rows of equal width"
        raise DataError(f"{where}: {name} have {values.size:,} values; expected {expected} (num_boxes is {count})")
    values = values.reshape(count, -1)
    values.flags.writeable = False
    return values
