"""Features and tags in the other layouts (Oscar v1, the Paddle ports, one's own files, a packed store), through their
readers: image by image, collecting what each reader complains about."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from tqdm import tqdm

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.own_pictures import read_names
from oscar_paddle.datasets.checks.figures import FileFigures
from oscar_paddle.datasets.checks.findings import file_and_text, without
from oscar_paddle.datasets.checks.rows import check_regions
from oscar_paddle.datasets.regions.layouts import find_store, open_regions
from oscar_paddle.datasets.regions.packed import PackedFeatures

_AHEAD = 64  # images read ahead of the one that is looked at: bounds the memory
_PROGRESS = {"unit": " images", "delay": 1, "leave": False}


def check_other_layout(scope, path, split):
    """Check the features at a path and their tags for one split: FileFigures."""
    cfg, findings, found = scope.cfg, scope.findings, FileFigures(path)
    place = cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE
    packed = cfg.DATASET.PACKED if path.endswith(".packed") else "off"  # a store beside it comes later
    try:
        source = open_regions(*place, packed, feature_dim=cfg.INPUT.IMG_FEATURE_DIM, cache_bytes=0)
    except DataError as error:
        findings.add("unreadable", path, without(error, path))
        return found
    if source.names_images:
        try:
            source.use_names(read_names(cfg.DATASET.DATA_DIR))
        except DataError as error:
            findings.add("bad_list", *file_and_text(error))
    if source.orders_images:
        for image_id in source.ids:
            if image_id not in split.captions:
                findings.add("no_captions", path, f"image {image_id} is not in split {split.name!r}")
    images = [key for key in split.images if scope.chosen is None or key in scope.chosen]
    _check_features(scope, source, split.name, images, found.features)
    found.read_bytes = sum(image.count for image in found.features) * cfg.INPUT.IMG_FEATURE_DIM * 4
    if cfg.INPUT.ADD_OD_LABEL:
        try:
            tags = source.open_tags(cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.OD_LABEL_TYPE)
        except DataError as error:
            findings.add("missing_file", *file_and_text(error))
        else:
            _check_tags(scope, tags, split.name, images, found.tags)
    return found


def _check_features(scope, source, split, image_ids, figures):
    findings = scope.findings
    present = _present(source, source.path, image_ids, "no_features", split, findings)
    for image_id, regions in _read_all(source, present, scope.processes, f"checking features of {split}"):
        if isinstance(regions, DataError):
            findings.add(_kind(regions), source.path, _place_and_text(regions, source.path))
            continue

        def problem(kind, text, where=f"image {image_id}"):
            findings.add(kind, source.path, f"{where}: {text}")

        check_regions(image_id, regions, figures, problem)


def _check_tags(scope, tags, split, image_ids, figures):
    findings, path = scope.findings, getattr(tags, "path", "tags")
    present = _present(tags, path, image_ids, "no_tag_row", split, findings)
    for image_id in tqdm(present, desc=f"checking tags of {split}", **_PROGRESS):
        try:
            text = tags[image_id]
        except DataError as error:
            findings.add("bad_tags", path, _place_and_text(error, path))
            continue
        if not text.strip():
            findings.add("no_tags", path, f"image {image_id} of split {split!r}")
        figures.add(image_id, text, text.split())


def check_store(scope, source_path, image_ids):
    """Check the packed store beside a source: its path, or None where none is read in place of the source."""
    cfg, findings = scope.cfg, scope.findings
    store = find_store(
        SimpleNamespace(path=source_path),
        cfg.DATASET.PACKED,
        lambda path: PackedFeatures(path, cfg.INPUT.IMG_FEATURE_DIM),
        lambda path, reason: findings.add("packed_stale", path, _place_and_text(reason, path)),
    )
    if store is None:
        return None
    path = store.store_path
    present = [image_id for image_id in image_ids if image_id in store]
    for _, regions in _read_all(store, present, scope.processes, "checking packed features"):
        if isinstance(regions, DataError):
            findings.add("packed_damaged", path, _place_and_text(regions, path))
    return path


def _present(source, path, image_ids, absence, split, findings):
    """Those of the images that a source has; the others are findings."""
    for image_id in image_ids:
        if image_id not in source:
            findings.add(absence, path, f"image {image_id} of split {split!r}")
    return [image_id for image_id in image_ids if image_id in source]


def _read_all(source, image_ids, threads, words):
    """(image id, its regions or the DataError) of every image, in their order, read a little ahead."""

    def read(image_id):
        try:
            return source.complete(image_id)
        except DataError as error:
            return error

    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(image_ids), desc=words, **_PROGRESS) as progress:
        for start in range(0, len(image_ids), _AHEAD):
            bundle = image_ids[start : start + _AHEAD]
            for image_id, regions in zip(bundle, pool.map(read, bundle), strict=True):
                progress.update()
                yield image_id, regions


def _place_and_text(error, path):
    """A reader's message without the file's name, but with the place in the file."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _kind(error):
    if "INPUT.IMG_FEATURE_DIM" in str(error) or "box values are missing" in str(error):
        return "width"
    return "not_finite" if "finite number" in str(error) else "bad_row"
