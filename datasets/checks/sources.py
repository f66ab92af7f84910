"""Features and tags in the other layouts (Oscar v1, the Paddle ports, one's own files, a packed store), through their
readers: image by image, collecting what each reader complains about."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.checks.rows import FeatureSummary, check_regions
from oscar_paddle.datasets.regions.packed import PackedFeatures, store_path, why_not_used

_AHEAD = 64  # images read ahead of the one that is looked at: bounds the memory


def check_features(source, split, image_ids, threads, findings):
    """Read and check the regions of these images.

    Args:
        source: RegionSource.
        split: name of the split, for messages.
        image_ids: list of image ids.
        threads: how many read.
    Returns:
        FeatureSummary.
    """
    summary = FeatureSummary()
    present = []
    for image_id in image_ids:
        if image_id in source:
            present.append(image_id)
        else:
            findings.add("no_features", source.path, f"image {image_id} of split {split!r}")
    for image_id, regions in _read_all(source, present, threads, f"checking features of {split}"):
        if isinstance(regions, DataError):
            findings.add(_kind(regions), source.path, _without(regions, source.path))
        else:
            check_regions(image_id, regions, summary, _reporter(findings, source.path, image_id))
    return summary


def check_store(source_path, feature_dim, packed, image_ids, threads, findings):
    """Check the packed store beside a source, which training reads in its place.

    Args:
        source_path: features.tsv or another source.
        feature_dim: INPUT.IMG_FEATURE_DIM. packed: DATASET.PACKED.
        image_ids: list of image ids.
        threads: how many read.
    Returns:
        path of the store that is read in place of the source, or None.
    """
    for dtype in {"off": (), "float16": ("float16", "float32")}.get(packed, ("float32",)):
        path = store_path(source_path, dtype)
        if not os.path.isfile(path):
            continue
        try:
            store = PackedFeatures(path, feature_dim)
            reason = why_not_used(store, SimpleNamespace(path=source_path))
        except (DataError, OSError) as error:
            reason = _without(error, path)
        if reason is not None:
            findings.add("packed_stale", path, reason)
            continue
        present = [image_id for image_id in image_ids if image_id in store]
        for _, regions in _read_all(store, present, threads, "checking packed features"):
            if isinstance(regions, DataError):
                findings.add("packed_damaged", path, _without(regions, path))
        return path
    return None


def _read_all(source, image_ids, threads, words):
    """(image id, its regions or the DataError) of every image, in their order, read a little ahead."""

    def read(image_id):
        try:
            return source.complete(image_id)
        except DataError as error:
            return error

    with ThreadPoolExecutor(threads) as pool, _progress(words, len(image_ids)) as progress:
        for start in range(0, len(image_ids), _AHEAD):
            bundle = image_ids[start : start + _AHEAD]
            for image_id, regions in zip(bundle, pool.map(read, bundle), strict=True):
                progress.update()
                yield image_id, regions


def check_tags(tags, split, image_ids, findings):
    """Read the tags of these images.

    Args:
        tags: mapping image id -> str with a `path`.
    Returns:
        (dict image id -> tag string, Counter of words).
    """
    found, words = {}, Counter()
    path = getattr(tags, "path", "tags")
    with _progress(f"checking tags of {split}", len(image_ids)) as progress:
        for image_id in image_ids:
            progress.update()
            if image_id not in tags:
                findings.add("no_tag_row", path, f"image {image_id} of split {split!r}")
                continue
            try:
                found[image_id] = tags[image_id]
            except DataError as error:
                findings.add("bad_tags", path, _without(error, path))
                continue
            if not found[image_id].strip():
                findings.add("no_tags", path, f"image {image_id} of split {split!r}")
            words.update(found[image_id].split())
    return found, words


def _reporter(findings, path, image_id):
    return lambda kind, text: findings.add(kind, path, f"image {image_id}: {text}")


def _without(error, path):
    """A reader's message without the file's name, which the report says already."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _kind(error):
    if "INPUT.IMG_FEATURE_DIM" in str(error) or "box values are missing" in str(error):
        return "width"
    return "not_finite" if "finite number" in str(error) else "bad_row"


def _progress(words, total):
    return tqdm(total=total, desc=words, unit=" images", delay=1, leave=False)
