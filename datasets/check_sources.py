"""Features and tags in the other layouts (Oscar v1, the Paddle ports, one's own files, a packed store), through their
readers: image by image, collecting what each reader complains about."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.check_rows import FeatureSummary, check_regions

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
    present = [image_id for image_id in image_ids if image_id in source]
    missing = set(image_ids) - set(present)
    for image_id in (image_id for image_id in image_ids if image_id in missing):
        findings.add("no_features", source.path, f"image {image_id} of split {split!r}")

    def read(image_id):
        try:
            return source.complete(image_id)
        except DataError as error:
            return error

    with ThreadPoolExecutor(threads) as pool, _progress(f"checking features of {split}", len(present)) as progress:
        for start in range(0, len(present), _AHEAD):
            bundle = present[start : start + _AHEAD]
            for image_id, regions in zip(bundle, pool.map(read, bundle), strict=True):
                progress.update()
                if isinstance(regions, DataError):
                    findings.add(_kind(regions), source.path, str(regions).removeprefix(f"{source.path}: "))
                    continue
                check_regions(image_id, regions, summary, _reporter(findings, source.path, image_id))
    return summary


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
                findings.add("bad_tags", path, str(error).removeprefix(f"{path}: "))
                continue
            if not found[image_id].strip():
                findings.add("no_tags", path, f"image {image_id} of split {split!r}")
            words.update(found[image_id].split())
    return found, words


def _reporter(findings, path, image_id):
    return lambda kind, text: findings.add(kind, path, f"image {image_id}: {text}")


def _kind(error):
    if "INPUT.IMG_FEATURE_DIM" in str(error) or "box values are missing" in str(error):
        return "width"
    return "not_finite" if "finite number" in str(error) else "bad_row"


def _progress(words, total):
    return tqdm(total=total, desc=words, unit=" images", delay=1, leave=False)
