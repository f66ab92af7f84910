"""What every kind of region file has in common: image id -> [R, 2054] float32, checked, cut and kept for a while.

Shape letters: R regions of an image, D values of a region.
"""

import hashlib
import logging
import os
import posixpath
import threading
import zlib
from functools import cache

import numpy as np
from cachetools import LRUCache

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.values import BOX_DIM, VISUAL_DIM, WrongWidth, check_finite

_LOG = logging.getLogger(__name__)
_LARGEST_BOX = 1e6  # pixels; bytes in another order read as far larger numbers


class EmptyImage(DataError):
    """Nothing was detected in an image."""


class ByName:
    """Images by id or by name; a subclass has `path`, `ids`, and `_has(key)`, which says whether a key is there."""

    names_images = False  # its files are called as the pictures are, also where a name is a number that could be an id
    _holder = "file"  # what messages call it
    _keys = _labels = _names = {}

    def use_names(self, names):
        """Find images by the names of their pictures (image id -> name), if more of these are there than of the ids.

        A name leads to what is called so with its folder, or else without; its ending may be there or not.

        Raises:
            DataError: two pictures lead to the same place.
        """
        names = {image_key(image_id): str(name) for image_id, name in names.items()}
        found = {image_id: self._find_name(name) for image_id, name in names.items()}
        by_name = len(found) - list(found.values()).count(None)
        if by_name <= (0 if self.names_images else sum(map(self._has, names))):
            found = {}
        owners = {}
        for image_id, key in found.items():
            other = owners.setdefault(key, image_id)
            if key is not None and other != image_id:
                pair = " and ".join(f"{names[each]} (image {each})" for each in (other, image_id))
                both = f"{pair} both read {self._shown(key)}"
                raise DataError(f"{self.path}: {both}; give what they read the folder too, or the image id as name")
        self._names = names
        self._keys = {each: image_key(stem(names[each])) if key is None else key for each, key in found.items()}
        self._labels = {self._keys.get(each, each): f"{stem(name)} (image {each})" for each, name in names.items()}

    def _find_name(self, name):
        """The key under which a picture is here, or None."""
        parts = posixpath.normpath(name.replace("\\", "/")).split("/")
        places = ["/".join(parts[start:]) for start in range(len(parts))]
        keys = [image_key(each) for place in places for each in (posixpath.splitext(place)[0], place)]
        return next(filter(self._has, keys), None)

    def _key(self, image_id):
        key = image_key(image_id)
        return self._keys.get(key, key)

    def __contains__(self, image_id):
        return self._has(self._key(image_id))

    def image_ids(self):
        """The image ids that belong to `ids`, which are names where the files are called by them."""
        images = {key: image_id for image_id, key in self._keys.items()}
        return [images.get(key, key) for key in self.ids]

    def called(self, image_id):
        """What messages call an image: "p_17 (image 1)" where names are known, else "image 1"."""
        return self._label(self._key(image_id))

    def missing(self, image_id, said="is missing"):
        """The message that an image is not here; `said` follows its name."""
        return self._missing(self._key(image_id), said)

    # Of these the argument is a key, which may be a name, and not an image id.

    def _missing(self, key, said="is missing"):
        ids = self.ids
        there = f"(the {self._holder} has {len(ids)} images); its ids look like {str(ids[0])!r}"
        return f"{self.path}: {self._label(key)} {said} {there}"

    def _label(self, key):
        return self._labels.get(key, f"image {key}")

    def _where(self, place, key):
        return f"{place}, {self._labels[key]}" if key in self._labels else f"{place} (image {key})"

    def _shown(self, key):
        return repr(key)


class RegionSource(ByName):
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
    fills_empty = False  # whether `[image_id]` gives the whole picture where nothing was detected, instead of an error
    _has_warned = False
    _opened = ()  # what `_open` makes and pickling leaves behind, to be made again

    def __init__(self, path, *, feature_dim=VISUAL_DIM + BOX_DIM, max_region=None, cache_bytes=256 << 20):
        self.path = str(path)
        self.feature_dim, self.max_region = feature_dim, max_region
        self._cache = ArrayCache(cache_bytes)
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
            raise DataError(self._missing(key))
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

    def __getitem__(self, image_id):
        regions = self.read(image_id, allow_empty=self.fills_empty)
        return regions if len(regions) else whole_picture(self.feature_dim)

    def read(self, image_id, allow_empty=False):
        """The regions of an image: [R, feature_dim] float32, read-only, in file order.

        Args:
            allow_empty: return [0, feature_dim] for an image in which nothing was detected.
        Raises:
            EmptyImage: it has no regions, without `allow_empty`.
            DataError: the id is missing, or its data are damaged; names the file, the place in it and the id.
        """
        key = self._key(image_id)
        regions = self._cache.get(key)
        if regions is None:
            regions = self.complete(image_id, allow_empty)
            if self.max_region is not None and len(regions) > self.max_region:
                regions = regions[: self.max_region].copy()
            regions.flags.writeable = False
            if len(regions):
                self._cache.put(key, regions)
        return regions

    def complete(self, image_id, allow_empty=False):
        """All regions of an image whatever `max_region` is, not kept (otherwise as `read`)."""
        regions, where = self._read(self._key(image_id))
        if not (len(regions) or allow_empty):
            raise EmptyImage(f"{where}: number of boxes is 0; expected at least 1")
        check_finite(regions, where)
        self._look_for_pixels(regions, where)
        return regions

    def _look_for_pixels(self, regions, where):
        """Warns once if the box values cannot be fractions of the picture; DataError if no pixels either."""
        boxes = regions[:, VISUAL_DIM:]
        if boxes.shape[1] == BOX_DIM and len(boxes) and (largest := float(np.abs(boxes).max())) > _LARGEST_BOX:
            raise DataError(
                f"{where}: the box values reach {largest:g}: bytes in another order? expected little-endian"
            )
        if not self._has_warned and boxes.shape[1] == BOX_DIM and len(boxes) and (largest := boxes.max()) > 2:
            self._has_warned = True
            what = "pixels? expected fractions of the picture (x1/W, y1/H, x2/W, y2/H, w/W, h/H)"
            _LOG.warning("%s: the box values reach %g: %s; tools/check_dataset.py tells more", where, largest, what)

    def number_of_regions(self, image_id):
        """How many regions an image has, as its row, header or index says: int from 0 on, before `max_region` cuts.

        Raises:
            DataError: the id is missing, or what says it is damaged.
        """
        return self._count(self._key(image_id))

    def _count(self, key):
        return len(self._read(key)[0])

    def fingerprint(self, image_ids):
        """Hex digest of the regions of these images, the same in every layout (raises as `[image_id]`)."""
        digest = hashlib.blake2b(digest_size=16)
        for image_id in image_ids:
            digest.update("{} {} {}\n".format(*self._signature(self._key(image_id))).encode())
        return digest.hexdigest()

    def _signature(self, key):
        """(R, D, checksum of the values)."""
        try:
            regions, _ = self._read(key)
        except WrongWidth:  # said when they are used: another setting may be the cause
            return 0, 0, 0
        return *regions.shape, checksum(regions)


@cache
def whole_picture(feature_dim):
    """[1, feature_dim] float32, read-only: one region, all zeros but for the box of the whole picture."""
    region = np.zeros((1, feature_dim), np.float32)
    if feature_dim == VISUAL_DIM + BOX_DIM:
        region[0, VISUAL_DIM:] = 0, 0, 1, 1, 1, 1  # x1/W, y1/H, x2/W, y2/H, w/W, h/H
    region.flags.writeable = False
    return region


class OwnTags:
    """Object tags by image id that a source keeps together with the regions; its `tags_of` gives those of a key, as a
    list where it has one."""

    def __init__(self, source, path):
        self.path, self._source = path, source

    def __contains__(self, image_id):
        return self._source._key(image_id) in self._source._places

    def __getitem__(self, image_id):
        names = self.names(image_id)
        return names if isinstance(names, str) else " ".join(names)

    def names(self, image_id):
        """The same as a list where the source has one (otherwise as `[image_id]`)."""
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
