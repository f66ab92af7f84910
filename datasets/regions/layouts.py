"""Finds the region features of a split, whatever layout they come in, and opens them.

VinVL         features.tsv, imageid2idx.json, predictions.tsv; rows of LXMERT and bottom-up attention, too
Oscar v1      {split}_img_{type}_feats.pt, {split}_{label type}_labels.pt
Paddle ports  {split}_img_{type}_feats/{image id}.npy, {split}_{label type}_labels.pd
captions      *.feature.tsv of JSON rows, *.label.tsv
with offsets  {split}_img_{type}_feats.tsv, {split}_img_{type}_feats_offset_map.json
one's own     features/{name}.npz, features/{folder}/{name}.npz
packed        features.packed, or any of these names with that ending, as tools/pack_features.py writes them
"""

import logging
import os
import re
from functools import partial

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import MissingFile
from oscar_paddle.datasets.regions.json_rows import JsonRegions, are_json_rows
from oscar_paddle.datasets.regions.offset_map import OffsetMapFeatures, offset_map_of
from oscar_paddle.datasets.regions.one_file_each import NpyFeatures, NpzFeatures, list_files
from oscar_paddle.datasets.regions.oscar_v1 import DictionaryFeatures
from oscar_paddle.datasets.regions.packed import PackedFeatures, find_store
from oscar_paddle.datasets.regions.rows import first_rows
from oscar_paddle.datasets.regions.vinvl import RegionFeatures

_LOG = logging.getLogger(__name__)
_V1_NAME = re.compile(r"(?P<split>.+)_img_(?P<type>.+)_feats(\.float16)?(\.pt|\.pd|\.tsv|\.packed)?")
# INPUT.IMG_FEATURE_TYPE -> how file names say it, where they differ.
_FILE_TYPES = {"faster_r-cnn": "frcnn", "mask_r-cnn": "mask_rcnn"}


def open_regions(data_dir, split, feat_file="", feature_type="frcnn", packed="auto", **options):
    """Open the region features of a split.

    Args:
        data_dir: DATASET.DATA_DIR.
        split: such as "train"; of Oscar v1's files, which are for one split each, it picks the right one.
        feat_file: DATASET.FEAT_FILE: a file or folder; empty looks at the usual places.
        feature_type: INPUT.IMG_FEATURE_TYPE, a part of Oscar v1's names.
        packed: DATASET.PACKED: whether a packed store beside the features is read in their place, "auto" (a float32
            one that is up to date), "off", or "float16" (that one too).
        options: feature_dim, max_region, cache_bytes, see `RegionSource`.
    Returns:
        RegionSource.
    Raises:
        DataError: there are none (lists where it was looked for), or they cannot be opened.
    """
    path = find_regions(data_dir, split, feat_file, feature_type)
    if str(path).endswith(".packed") and os.path.isfile(path):
        options.pop("cache_bytes", None)
        store = PackedFeatures(path, **options)
        if store.dtype != "float32" and packed != "float16":
            raise DataError(f"{path}: holds float16 values, which are not exact; set DATASET.PACKED to 'float16'")
        return store
    source = open_source(path, **options)
    options = {"feature_dim": source.feature_dim, "max_region": source.max_region, "source": source}
    store = find_store(source.path, packed, partial(_LOG.warning, "%s is not used: %s"), **options)
    if store is not None:
        _LOG.info("the regions of %s are read from %s (%s)", source.path, store.store_path, store.dtype)
        return store
    if packed == "float16":
        _LOG.warning("%s: no packed float16 features in use (tools/pack_features.py --dtype float16)", source.path)
    return source


def open_source(path, **options):
    """Open the region features of a file or folder itself, whatever is packed beside it.

    Args:
        path: features.tsv, a `.tsv` with an offset map, a `.pt` or `.pd` of Oscar v1, a folder of `.npy` or of
            `.npz` files.
        options: feature_dim, max_region, cache_bytes, see `RegionSource`.
    Raises:
        DataError: it cannot be opened.
    """
    path = str(path)
    if os.path.isdir(path):
        kind = NpyFeatures if list_files(path, ".npy") else NpzFeatures
        return kind(path, **options)
    if path.endswith(".tsv") and os.path.isfile(offset_map_of(path)):
        return OffsetMapFeatures(path, **options)
    if path.endswith((".pt", ".pd")):
        return DictionaryFeatures(path, orders_images=bool(_V1_NAME.fullmatch(os.path.basename(path))), **options)
    if are_json_rows(first_rows(path)):
        return JsonRegions(path, **options)
    return RegionFeatures(path, **options)


def find_regions(data_dir, split, feat_file="", feature_type="frcnn"):
    """The path of the region features of a split (arguments and errors as for `open_regions`)."""
    feature_type = _FILE_TYPES.get(feature_type, feature_type)
    if feat_file:
        place = _of_split(str(feat_file), split)
        looked, key = [place], "DATASET.FEAT_FILE"
        found = [place] if os.path.isfile(place) else _in_folder(place, split, feature_type)
        if not found and _holds_arrays(place):
            found = [place]
    else:
        looked, key = [str(data_dir), os.path.join(str(data_dir), "..", "model_0060000")], "set DATASET.FEAT_FILE"
        looked = [os.path.normpath(place) for place in looked]
        found = [path for place in looked for path in _in_folder(place, split, feature_type)]
        found.sort(key=lambda path: os.path.basename(path) != "features.tsv")  # VinVL's first, wherever they are
    if not found:
        names = (
            f"features.tsv, {split}_img_{feature_type}_feats.pt (or .pd, .tsv), "
            f"{split}_img_{feature_type}_feats/<image id>.npy, features/<name>.npz"
        )
        there = sorted(os.listdir(looked[0]))[:3] if feat_file and os.path.isdir(looked[0]) else []
        there = f", only {', '.join(there)}" if there else ""
        raise MissingFile(f"{' and '.join(looked)}: no such file{there}; expected the region features: {names} ({key})")
    return found[0]


def _of_split(place, split):
    """Oscar v1's name with the split that is asked for in place of the one it has."""
    folder, name = os.path.split(os.path.normpath(place))
    match = _V1_NAME.fullmatch(name)
    return os.path.join(folder, split + name[match.end("split") :]) if match else place


def _in_folder(folder, split, feature_type):
    """The region features in a folder, the preferred ones first."""
    v1, own = os.path.join(folder, f"{split}_img_{feature_type}_feats"), os.path.join(folder, "features")
    files = [own + ".tsv", v1 + ".pt", v1 + ".pd", v1 + ".tsv"]
    packed = [own + ".packed", v1 + ".packed"]
    return [*filter(os.path.isfile, files), *filter(_holds_arrays, (v1, own)), *filter(os.path.isfile, packed)]


def _holds_arrays(folder):
    return os.path.isdir(folder) and any(list_files(folder, ending) for ending in (".npy", ".npz"))
