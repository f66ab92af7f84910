"""Features and tags in the other layouts (Oscar v1, the Paddle ports, one's own files, a packed store), through their
readers: image by image, collecting what each reader complains about."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.captions.own_pictures import SharedFeatures, read_names, use_names
from oscar_paddle.datasets.checks.figures import Figures
from oscar_paddle.datasets.checks.findings import file_and_text
from oscar_paddle.datasets.checks.rows import DRAWN, check_regions
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.one_file_each import NpzFeatures
from oscar_paddle.datasets.regions.packed import find_store
from oscar_paddle.datasets.regions.source import EmptyImage

_AHEAD = 64  # images read ahead of the one that is looked at: bounds the memory


def check_other_layout(scope, path, split):
    """Check the features at a path and their tags for one split: Figures."""
    cfg, findings = scope.cfg, scope.findings
    place = cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE
    packed = cfg.DATASET.PACKED if path.endswith(".packed") else "off"  # a store beside it comes later
    try:
        source = open_regions(*place, packed, feature_dim=cfg.INPUT.IMG_FEATURE_DIM, cache_bytes=0)
    except DataError as error:
        findings.add("unreadable", path, error)
        return Figures()
    try:
        use_names(source, read_names(cfg.DATASET.DATA_DIR, split.name), cfg.DATASET.DATA_DIR)
    except DataError as error:
        findings.add("shared_features" if isinstance(error, SharedFeatures) else "bad_list", *file_and_text(error))

    def open_tags():
        return source.open_tags(cfg.DATASET.DATA_DIR, split.name, cfg.DATASET.OD_LABEL_TYPE)

    return check_source(scope, source, split, open_tags)


def check_source(scope, source, split, open_tags):
    """Check an open RegionSource for one split, and the tags that `open_tags()` opens: Figures."""
    cfg, findings, figures = scope.cfg, scope.findings, Figures()
    if source.orders_images:
        for image_id in source.image_ids():
            if image_id not in split.captions:
                findings.add("no_captions", source.path, f"image {image_id} is not in split {split.name!r}")
    images = {key: split.name for key in split.images if scope.chosen is None or key in scope.chosen}
    findings.add_absent("no_features", source.path, images, source)
    read = _read_all(scope, source, source.complete, source.path, images, None, f"features of {split.name}")
    for image_id, regions in read:
        for kind, text in check_regions(image_id, regions, figures):
            findings.add(kind, source.path, f"image {image_id}: {text}")
    for image_id in filter(images.__contains__, scope.show if isinstance(source, NpzFeatures) else ()):
        with suppress(DataError):  # what is damaged has been told
            figures.drawings[image_id] = source.labelled_boxes(image_id)[0][:DRAWN], None, None
    figures.read_bytes = sum(image.count for image in figures.features) * cfg.INPUT.IMG_FEATURE_DIM * 4
    if cfg.INPUT.ADD_OD_LABEL:
        try:
            tags = open_tags()
        except DataError as error:
            findings.add("missing_file", *file_and_text(error))
            return figures
        findings.add_absent("no_tag_row", tags.path, images, tags)
        read = tags.names
        for image_id, names in _read_all(scope, tags, read, tags.path, images, "bad_tags", f"tags of {split.name}"):
            classes = names.split() if isinstance(names, str) else names
            text = names if isinstance(names, str) else " ".join(names)
            if not text.strip():
                findings.add("no_tags", tags.path, f"image {image_id} of split {split.name!r}")
            figures.add_tags(image_id, text, classes)
    return figures


def check_store(scope, source_path, image_ids):
    """Check the packed store beside a source: its path, or None where none is read in place of the source."""

    def refused(path, reason):
        scope.findings.add("packed_stale", path, _place_and_text(reason, path))

    packed, width = scope.cfg.DATASET.PACKED, scope.cfg.INPUT.IMG_FEATURE_DIM
    store = find_store(source_path, packed, refused, feature_dim=width)
    if store is None:
        return None
    path = store.store_path
    for _ in _read_all(scope, store, store.complete, path, image_ids, "packed_damaged", "packed features"):
        pass  # what is damaged is found by reading
    return path


def _read_all(scope, source, read, path, image_ids, damage, words):
    """(image id, what `read` gives of it) of the images that a source has, in their order, read a little ahead;
    DataErrors become findings of the kind `damage` (None: as the message says) in the file at `path`."""

    def attempt(image_id):
        try:
            return read(image_id)
        except DataError as error:
            return error

    present = [image_id for image_id in image_ids if image_id in source]
    options = {"desc": f"checking {words}", "unit": " images", "delay": 1, "leave": False}
    with ThreadPoolExecutor(scope.processes) as pool, tqdm(total=len(present), **options) as progress:
        for start in range(0, len(present), _AHEAD):
            bundle = present[start : start + _AHEAD]
            for image_id, found in zip(bundle, pool.map(attempt, bundle), strict=True):
                progress.update()
                if isinstance(found, DataError):
                    kind = scope.empty_kind if isinstance(found, EmptyImage) else damage or _kind(found)
                    scope.findings.add(kind, path, _place_and_text(found, path))
                else:
                    yield image_id, found


def _place_and_text(error, path):
    """A reader's message without the file's name, but with the place in the file."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _kind(error):
    if "INPUT.IMG_FEATURE_DIM" in str(error) or "box values are missing" in str(error):
        return "width"
    return "not_finite" if "finite number" in str(error) else "bad_row"
