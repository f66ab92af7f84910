"""Where in the feature files of a corpus the regions of each image lie, and reading them there."""

import hashlib
import json
import logging
import os
import threading

import ijson
import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.corpus.definition import path_from
from oscar_paddle.datasets.corpus.texts import find, hashes
from oscar_paddle.datasets.formats.reading import MissingFile, RandomAccessFile
from oscar_paddle.datasets.formats.tsv_file import TsvFile
from oscar_paddle.datasets.formats.whole_files import whole_folder
from oscar_paddle.datasets.regions.rows import box_count, columns_of, first_rows, parse_regions
from oscar_paddle.datasets.regions.source import RegionSource

log = logging.getLogger(__name__)
_MANIFEST = "features.json"
MAP = "imageid2idx.json"
_HEAD = 1 << 12  # bytes of a row that hold the number of boxes
_SAMPLED = 64  # ids of imageid2idx.json that are compared with their rows
_IDS_AT_A_TIME = 1 << 16


class Places:
    """Where the row of image k is: file number, first byte and length, arrays [K]; `files` are their paths."""

    def __init__(self, folder, manifest, root):
        self._opened = folder, manifest, root
        self.files = [path_from(root, name) for name in manifest["files"]]
        self.digest = hashlib.blake2b(
            json.dumps([(name, state[0][0]) for name, state in sorted(manifest["files"].items())]).encode(),
            digest_size=16,
        ).hexdigest()
        self.file, self.start, self.length = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("file", "start", "length")
        )

    def __reduce__(self):
        return Places, self._opened  # mapped again, not copied


def open_places(folder, corpus):
    """The Places of a corpus' images; found first where there are none of these images, or a feature file has changed.

    Raises:
        DataError: a feature file or an image is missing; names the row of the corpus that asks for it.
    """
    root = os.path.dirname(corpus.definition.path)
    manifest = _kept(folder, corpus, root)
    if manifest is None:
        manifest = _find(folder, corpus, root)
    return Places(folder, manifest, root)


def _images(corpus):
    """Hex digest of the images of a corpus in their order, which a corpus that is read again may have changed."""
    digest = hashlib.blake2b(digest_size=16)
    for values in (corpus.image_data_set, corpus.image_chunk, corpus.image_hash):
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def _kept(folder, corpus, root):
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        same = all(_states(path_from(root, name)) == states for name, states in manifest["files"].items())
        if same and manifest["images"] == _images(corpus):
            Places(folder, manifest, root)  # says so where an array is cut off
            return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _states(path):
    """[size, time of the last change] of a feature file and of the map of its ids, None where there is none."""
    found = []
    for name in (path, os.path.join(os.path.dirname(path), MAP)):
        try:
            state = os.stat(name)
            found.append([state.st_size, state.st_mtime_ns])
        except FileNotFoundError:
            found.append(None)
    return found


def _find(folder, corpus, root):
    """Look every image up: writes the arrays, returns the manifest."""
    data_set, chunk = corpus.image_data_set, corpus.image_chunk
    group = data_set.astype(np.int64) << 32 | (chunk.astype(np.int64) + 1)
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    groups = np.split(order, bounds)
    file, start, length = (np.empty(len(group), kind) for kind in (np.uint16, np.int64, np.int32))
    files = {}
    progress = tqdm(total=len(group), desc="looking up images in the features", unit=" images", delay=1)
    for images in groups:
        where = corpus.definition.data_sets[int(data_set[images[0]])]
        path = where.features(int(chunk[images[0]]))
        found = _look_up(path, images, corpus)
        start[images], length[images] = found
        file[images] = len(files)
        files[os.path.relpath(path, root)] = _states(path)
        progress.update(len(images))
    progress.close()
    manifest = {"files": files, "images": _images(corpus)}
    with whole_folder(folder) as unfinished:
        for name, values in (("file", file), ("start", start), ("length", length)):
            np.save(unfinished / f"{name}.npy", values)
        (unfinished / _MANIFEST).write_text(json.dumps(manifest))
    return manifest


def _look_up(path, images, corpus):
    """(first byte [n], length [n]) of the rows of images (numbers [n]) in a feature file."""
    first = int(corpus.image_document[images].min())
    check_there(path, int(corpus.image_chunk[images[0]]), corpus.where(first))
    rows = TsvFile(path)
    hashed, numbers = ids_and_rows(path, rows)
    found = find(hashed, corpus.image_hash[images])
    missing = found < 0
    if missing.any():
        document = int(corpus.image_document[images[missing]].min())
        others = np.count_nonzero(missing) - 1
        more = f" and {others:,} other images of the corpus are" if others else " is"
        raise DataError(
            f"{path}: no row for the image of {corpus.where(document)}, which{more} missing among its {len(rows):,} "
            "rows; add the features, or leave the rows out of the corpus"
        )
    return rows.spans(numbers[found])


def check_there(path, chunk, who):
    """Raises MissingFile where a feature file is not there, which `who` asks for, a row of the corpus."""
    if not os.path.isfile(path):
        what = f"chunk {chunk} of the features" if chunk >= 0 else "the features"
        others = ", or choose chunks with CORPUS.CHUNK_START_ID and CHUNK_END_ID" if chunk >= 0 else ""
        raise MissingFile(f"{path}: no such file; {who} asks for {what}; add the file{others}")


def ids_and_rows(path, rows):
    """(hashes [n] uint64 of the image ids in a feature file, their rows [n] int64), from the map or the rows."""
    map_file = os.path.join(os.path.dirname(path), MAP)
    try:
        hashed, numbers = read_map(map_file)
    except FileNotFoundError:
        log.info("%s: taking the image ids from the rows", path)
    except (OSError, ValueError, ijson.JSONError) as error:
        log.warning("%s cannot be used (%s); taking the image ids from the rows", map_file, error)
    else:
        if _is_right(map_file, hashed, numbers, rows):
            return hashed, numbers
    return hashes([name.encode() for name in rows.first_fields()]), np.arange(len(rows))


def read_map(path):
    """(hashes [n] uint64 of the image ids, rows [n] int64) in an imageid2idx.json, which is not held in memory.

    Raises:
        OSError, ValueError, ijson.JSONError: no such file, or no such map.
    """
    parts, names, numbers = [], [], []
    with open(path, "rb") as file:
        for name, number in ijson.kvitems(file, ""):
            if type(number) is not int:
                raise ValueError(f"{name!r} is {number!r}, no row number")
            names.append(name.strip().encode())
            numbers.append(number)
            if len(names) == _IDS_AT_A_TIME:
                parts.append(hashes(names))
                names.clear()
    parts.append(hashes(names))
    return np.concatenate(parts), np.array(numbers, np.int64)


def _is_right(path, hashed, numbers, rows):
    """Whether a map can be one of these rows; some are compared."""
    inside = len(numbers) > 0 and numbers.min() >= 0 and numbers.max() < len(rows)
    if inside and len(numbers) == len(rows):
        chosen = np.unique(np.linspace(0, len(numbers) - 1, _SAMPLED).astype(int))
        if np.array_equal(hashes([rows.row(int(numbers[each]), 1)[0] for each in chosen]), hashed[chosen]):
            return True
    what = f"{len(numbers):,} ids for {len(rows):,} rows" if len(numbers) != len(rows) else "not the ids of these rows"
    log.warning("%s: %s; taking the image ids from the rows", path, what)
    return False


class CorpusFeatures(RegionSource):
    """Region features by image number of a corpus (see `RegionSource`), read where they are.

    Args:
        corpus: Corpus. places: Places of its images.
    """

    _holder = "corpus"

    def __init__(self, corpus, places, **options):
        self._corpus, self._places_of, self._files, self._lock = corpus, places, {}, threading.Lock()
        self.files_digest = places.digest
        super().__init__(corpus.path, **options)

    def __getstate__(self):
        return {**super().__getstate__(), "_lock": None, "_files": {}}

    def __setstate__(self, state):
        super().__setstate__({**state, "_lock": threading.Lock()})

    @property
    def ids(self):
        return range(len(self._places_of.file))

    def _has(self, key):
        return isinstance(key, int) and 0 <= key < len(self.ids)

    def _label(self, key):
        return f"image {self._corpus.image_key(key)}" if self._has(key) else f"image number {key}"

    def _row(self, key, longest=None):
        """(columns of an image's row, or of its first bytes; the file's Columns; what messages call the row)."""
        places = self._places_of
        path, start, length = (places.files[places.file[key]], int(places.start[key]), int(places.length[key]))
        file, columns = self._open_file(path)
        name = self._corpus.image_key(key)
        where = f"{path} byte {start} (image {name})"
        before = min(start, 1)
        data = file.read(min(length, longest or length) + before, start - before)
        fields = [field.strip() for field in data[before:].split(b"\n", 1)[0].split(b"\t")]
        if data[:before] not in (b"", b"\n") or fields[0] != name.rpartition("_")[2].encode():
            found = fields[0][:20].decode(errors="replace")
            raise DataError(
                f"{where}: the row begins with {found!r}; the file has changed, or its {MAP} or .lineidx is wrong: "
                "delete these and the folder of the corpus in DATASET.CACHE_DIR; they are made again"
            )
        return fields, columns, where

    def _open_file(self, path):
        with self._lock:
            if path not in self._files:
                self._files[path] = RandomAccessFile(path), columns_of(first_rows(path))
            return self._files[path]

    def _read(self, key):
        fields, columns, where = self._row(key)
        return parse_regions(fields, columns, self.feature_dim, where), where

    def _count(self, key):
        fields, columns, where = self._row(key, _HEAD)
        return box_count(fields, columns, where)
