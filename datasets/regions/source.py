"""What every kind of region file has in common: image id -> [R, 2054] float32, checked, cut and kept for a while.

Shape letters: R regions of an image, D values of a region.
"""

import binascii
import hashlib
import os
import threading
import zlib

import numpy as np
from cachetools import LRUCache

from oscar_paddle.config.errors import DataError

VISUAL_DIM = 2048  # the detector's values
BOX_DIM = 6  # the box values that follow them


class RegionSource:
    """Region features by image id; the base of one class for each layout.

    May be used by many threads, after a fork and after pickling (the cache stays behind). A layout defines `_open` and
    `_read`; one whose files know no order of the images leaves `orders_images` False.

    Args:
        path: the file or folder, for messages.
        feature_dim: D, INPUT.IMG_FEATURE_DIM.
        max_region: keep only the first so many regions of an image; None keeps all.
        cache_bytes: how much decoded data to keep, least recently used first out; 0 keeps none.
    Raises:
        DataError: the file or folder cannot be opened, or is none of this layout.
    """

    orders_images = False  # Oscar v1: the images of a split come in the order of its feature file
    names_images = False  # the files may be called as the pictures are, not by image id
    _opened = ()  # what `_open` makes and pickling leaves behind, to be made again

    def __init__(self, path, *, feature_dim=VISUAL_DIM + BOX_DIM, max_region=None, cache_bytes=256 << 20):
        self.path = str(path)
        self.feature_dim, self.max_region = feature_dim, max_region
        self._cache = ArrayCache(cache_bytes)
        self._keys = {}
        self._places = self._open()

    def _open(self):
        """Open the file: {image key: where its data are}, in the order of the file."""
        return {}

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in self._opened}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self._opened:
            self._places = self._open()

    @property
    def ids(self):
        """All image ids, in the order of the files: list of int (str where an id is no number)."""
        return list(self._places)

    def _place(self, key):
        if key not in self._places:
            raise DataError(f"{self.path}: image {key} is missing (the file has {len(self._places)} images)")
        return self._places[key]

    def _read(self, key):
        """All regions of an image, before they are cut: ([R, D] float32, where they are, for messages).

        Raises:
            DataError: the id is missing, or what belongs to it is damaged.
        """
        raise NotImplementedError

    def _has(self, key):
        return key in self._places

    def open_tags(self, data_dir, split, label_type):
        """The object tags that belong to these regions: `in` and `[image_id]` -> str, classes joined by single blanks.

        Args:
            data_dir, split, label_type: DATASET.DATA_DIR, such as "train", and DATASET.OD_LABEL_TYPE, the xxx of
                `{split}_xxx_labels.pt` (Oscar v1 only).
        Raises:
            DataError: there are none.
        """
        raise NotImplementedError

    def use_names(self, names):
        """Find the regions by picture names (image id -> name of the picture's file), if the files have them."""
        keys = {image_key(image_id): image_key(stem(name)) for image_id, name in names.items()}
        self._keys = keys if any(map(self._has, keys.values())) else {}

    def _key(self, image_id):
        key = image_key(image_id)
        return self._keys.get(key, key)

    def __contains__(self, image_id):
        return self._has(self._key(image_id))

    def __getitem__(self, image_id):
        """The regions of an image: [R, feature_dim] float32, read-only, in file order.

        Raises:
            DataError: the id is missing, or its data are damaged; names the file, the place in it and the id.
        """
        key = self._key(image_id)
        regions = self._cache.get(key)
        if regions is None:
            regions, where = self._read(key)
            if self.max_region is not None and len(regions) > self.max_region:
                regions = regions[: self.max_region].copy()
            check_finite(regions, where)
            regions.flags.writeable = False
            self._cache.put(key, regions)
        return regions

    def complete(self, image_id):
        """All regions of an image whatever `max_region` is, not kept (otherwise as `[image_id]`)."""
        regions, where = self._read(self._key(image_id))
        check_finite(regions, where)
        return regions

    def fingerprint(self, image_ids):
        """Hex digest of the regions of these images, the same in every layout (raises as `[image_id]`)."""
        digest = hashlib.blake2b(digest_size=16)
        for image_id in image_ids:
            digest.update("{} {} {}\n".format(*self._signature(self._key(image_id))).encode())
        return digest.hexdigest()

    def _signature(self, key):
        """(R, D, checksum of the values)."""
        regions, _ = self._read(key)
        return *regions.shape, checksum(regions)


class OwnTags:
    """Object tags by image id that a source keeps together with the regions; its `tags_of` gives those of a key."""

    def __init__(self, source, path):
        self.path, self._source = path, source

    def __contains__(self, image_id):
        return self._source._key(image_id) in self._source._places

    def __getitem__(self, image_id):
        return self._source.tags_of(self._source._key(image_id))


def image_key(image_id):
    """One form for 9, "9" and numpy's 9; ids that are no numbers stay text."""
    if type(image_id) is int:
        return image_id
    text = str(image_id).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def stem(name):
    """The name of a file without its folders and its last ending."""
    return os.path.splitext(os.path.basename(str(name)))[0]


def checksum(regions):
    """A quick checksum of [R, D] float32 or float16: CRC-32 of the sums of the columns and of the rows, as whole
    numbers. A damaged value, column or row changes the sums, and so do exchanged ones."""
    regions = np.ascontiguousarray(regions, regions.dtype.newbyteorder("<"))
    row_bytes = regions.shape[1] * regions.itemsize
    words = regions.view("<u8" if row_bytes % 8 == 0 else "<u4" if row_bytes % 4 == 0 else "<u2")
    columns, rows = (np.add.reduce(words, axis, words.dtype) for axis in (0, 1))  # they wrap around
    return zlib.crc32(rows, zlib.crc32(columns))


def as_regions(array, feature_dim, where):
    """An array from a file (expected: [R, feature_dim] of a float type) as the regions of an image.

    Args:
        where: file and image, for messages.
    Returns:
        [R, feature_dim] float32.
    Raises:
        DataError: another shape or type.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim != 2:
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{where}: the regions are {found}; expected float32 [regions, {feature_dim}]")
    if len(array) < 1:
        raise DataError(f"{where}: number of boxes is 0; expected at least 1")
    if array.shape[1] != feature_dim:
        raise DataError(f"{where}: {explain_width(array.shape[1], feature_dim)}")
    return np.ascontiguousarray(array, "<f4")


def decode_base64(text, where):
    """The bytes behind a column of base64; DataError if it is not whole."""
    try:
        data = binascii.a2b_base64(text)
    except binascii.Error as error:
        raise DataError(f"{where}: broken base64 in the last column ({error}; {len(text)} characters)") from None
    # a2b_base64 passes over characters that are not base64; then there are too few bytes for the text.
    if len(text) != (len(data) + 2) // 3 * 4:
        raise DataError(f"{where}: broken base64 in the last column ({len(text)} characters, {len(data)} bytes)")
    return data


def explain_width(width, feature_dim):
    """What is wrong with regions of `width` values, in words."""
    if width == VISUAL_DIM and feature_dim == VISUAL_DIM + BOX_DIM:
        return "regions have 2048 values: the six box values are missing (expected 2054, INPUT.IMG_FEATURE_DIM)"
    return f"regions have {width} values; expected {feature_dim} (INPUT.IMG_FEATURE_DIM)"


def check_finite(regions, where):
    """Raises DataError, naming region and column (from 1), if a value is NaN or infinite."""
    finite = np.isfinite(regions)
    if not finite.all():
        region, column = np.argwhere(~finite)[0]
        value = regions[region, column]
        raise DataError(f"{where}: region {region + 1} column {column + 1} is {value}; expected a finite number")


class ArrayCache:
    """Keeps the most recently used arrays within a number of bytes. Safe for threads, forks and pickling."""

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self._start()

    def _start(self):
        # A fork while another thread holds the lock would leave it locked for ever in the child.
        self._process, self._lock = os.getpid(), threading.Lock()
        self._arrays = LRUCache(self.max_bytes, getsizeof=lambda array: array.nbytes)

    def __reduce__(self):
        return ArrayCache, (self.max_bytes,)

    def get(self, key):
        if self._process != os.getpid():
            self._start()
        with self._lock:
            return self._arrays.get(key)

    def put(self, key, array):
        if array.nbytes <= self.max_bytes:
            with self._lock:
                self._arrays[key] = array
