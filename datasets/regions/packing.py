"""Writes the packed feature store, compares it with its source, and measures how much faster it is."""

import json
import os
import shutil
import time
import zlib
from contextlib import suppress

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.whole_files import whole_file
from oscar_paddle.datasets.regions.packed import HEAD, TAIL, TAIL_MAGIC, PackedFeatures, source_state
from oscar_paddle.datasets.regions.source import checksum

_SPARE_BYTES = 64 << 20  # room for the index, and for others


def pack(source, path, dtype="float32", progress=True):
    """Write the regions of every image of a source, and its tags if they are in the same files, to one store, which
    appears complete or not at all.

    Args:
        source: RegionSource without `max_region`.
        path: file to write.
        dtype: "float32" (same bits) or "float16" (half the size, not exact).
    Returns:
        (images, size of the store in bytes).
    Raises:
        DataError: an image's data are damaged or too large for float16, or the disk is full.
    """
    ids = source.ids
    state = source_state(source.path)
    _check_space(source, ids, path, dtype)
    try:
        with whole_file(path) as unfinished:
            with open(unfinished, "wb") as file:
                _write(file, source, ids, state, np.dtype(dtype).newbyteorder("<"), progress)
            if source_state(source.path) != state:
                raise DataError(f"{source.path}: changed while it was being packed; pack it again")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    return len(ids), os.path.getsize(path)


def verify(source, store, progress=True):
    """The largest difference of a value of a store from its source, image by image: 0.0 for a sound float32 store.

    Raises:
        DataError: ids differ, or an image is damaged or (float32) has other bits.
    """
    if source.ids != list(store.contents["ids"]):
        raise DataError(f"{store.store_path}: has other images than {source.path}; pack it again")
    largest = 0.0
    for image_id in tqdm(source.ids, "comparing", unit=" images", disable=not progress):
        expected, found = (each.complete(image_id, allow_empty=True) for each in (source, store))
        if expected.shape != found.shape or (store.dtype == np.float32 and expected.tobytes() != found.tobytes()):
            where = f"{store.store_path} (image {image_id})"
            raise DataError(f"{where}: has other values than {source.path}; pack it again")
        largest = max(largest, float(np.abs(expected - found).max(initial=0)))
    return largest


def reading_times(source, store, num_images=200, rounds=5):
    """How long reading takes, with the files in the page cache and every value copied, as a batch copies it.

    Args:
        source: RegionSource with `cache_bytes` 0. store: PackedFeatures of it.
        num_images: how many, evenly spaced. rounds: measured so many times in turn; the fastest one counts.
    Returns:
        dict: ms per image from the "source", from the "store", and from the store at "first" touch, where the
        checksums are compared.
    """
    ids = source.ids
    ids = ids[:: max(1, len(ids) // num_images)][:num_images]
    batch = np.empty((max(len(store[image_id]) for image_id in ids), store.feature_dim), np.float32)
    fresh = [PackedFeatures(store.store_path, feature_dim=store.feature_dim) for _ in range(rounds)]
    times = {"source": [], "first": [], "store": []}
    for first in fresh:
        for name, regions in (("source", source), ("first", first), ("store", store)):
            start = time.perf_counter()
            for image_id in ids:
                rows = regions[image_id]
                batch[: len(rows)] = rows
            times[name].append((time.perf_counter() - start) / len(ids) * 1000)
    return {name: min(values) for name, values in times.items()}


def _write(file, source, ids, state, dtype, progress):
    file.write(HEAD)
    tags = source.open_tags("", "", "") if source.names_images else None
    starts, checksums, strings = [0], [], []
    for image_id in tqdm(ids, f"packing {os.path.basename(source.path)}", unit=" images", disable=not progress):
        regions = source.complete(image_id, allow_empty=True)
        values = _converted(regions, dtype, f"{source.path} (image {image_id})")
        file.write(values.tobytes())
        starts.append(starts[-1] + len(values))
        checksums.append(checksum(values))
        if tags is not None:
            with suppress(DataError):
                strings.append(tags[image_id])
    contents = {
        "dtype": dtype.name,
        "width": source.feature_dim,
        "rows": starts[-1],
        "ids": ids,
        "orders_images": source.orders_images,
        "names_images": source.names_images,
        "source": {
            "name": os.path.basename(os.path.normpath(source.path)),
            **dict(zip(("bytes", "changed", "digest"), state, strict=True)),
        },
    }
    if tags is not None and len(strings) == len(ids):  # of all images or of none: they may not be wanted at all
        contents["tags"] = strings
    text = json.dumps(contents).encode()
    index = np.array(starts, "<i8").tobytes() + np.array(checksums, "<u4").tobytes() + text
    file.write(index)
    file.write(TAIL.pack(len(text), zlib.crc32(index), 0, TAIL_MAGIC))


def _converted(regions, dtype, where):
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(regions, dtype)
    if dtype.name == "float16" and not np.isfinite(values).all():
        largest = float(np.abs(regions).max())
        raise DataError(f"{where}: {largest:g} is too large for float16 (65504); pack with --dtype float32")
    return values


def _check_space(source, ids, path, dtype):
    """Raises DataError if the disk has less room than the store will need, judged by a few of its images."""
    sample = ids[:: max(1, len(ids) // 16)]
    mean = sum(map(source.number_of_regions, sample)) / len(sample) * source.feature_dim * np.dtype(dtype).itemsize
    needed, folder = int(mean * len(ids)), os.path.dirname(os.path.abspath(path))
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DataError(f"{folder}: cannot be used ({error.strerror})") from None
    if free < needed + _SPARE_BYTES:
        raise DataError(
            f"{folder}: {free / 1e9:.1f} GB free; the packed features need about {needed / 1e9:.1f} GB "
            "(another place: --output; half of it: --dtype float16)"
        )
