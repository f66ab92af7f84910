#!/usr/bin/env python
"""Pack region features into one memory-mapped file beside them, which is read many times as fast; with DATASET.PACKED
auto, training and evaluation use it from then on."""

import logging
import os
import sys

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.config.loader import load_config
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = """\
  python tools/pack_features.py --cfg_file configs/retrieval_train.yaml
  python tools/pack_features.py --feat_file data/model_0060000/features.tsv --bench"""


def add_arguments(parser):
    add = parser.add_argument
    add("--cfg_file", metavar="FILE", help="pack what this configuration trains and evaluates with")
    add("--opts", nargs="*", action="extend", default=[], metavar="KEY VALUE", help="settings that override the file")
    add("--feat_file", metavar="PATH", help="pack this: a .tsv, a .pt of Oscar v1, a folder of .npy or .npz")
    add("--feature_dim", type=int, default=2054, help="with --feat_file: values a region (default: %(default)s)")
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="float16 halves the file, is not exact, and is read only if DATASET.PACKED says so (default: %(default)s)",
    )
    add("--output", metavar="FILE", help="where to write, for DATASET.FEAT_FILE (default: beside the source)")
    add("--overwrite", action="store_true", help="pack again even if the store is up to date")
    add("--verify", action="store_true", help="afterwards, compare every value with the source")
    add("--bench", action="store_true", help="afterwards, measure how fast both are read")


def main(args):
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sources = sources_of(args)
    if args.output and len(sources) > 1:
        raise ConfigError(f"--output names one file, but the configuration has {len(sources)} sources of regions")
    for source in sources:
        pack_one(source, args)


def sources_of(args):
    """The RegionSources to pack, each once."""
    from oscar_paddle.datasets.regions.layouts import find_regions, open_source

    if bool(args.cfg_file) == bool(args.feat_file):
        raise ConfigError("give either --cfg_file or --feat_file")
    paths, width = [args.feat_file], args.feature_dim
    if args.cfg_file:
        cfg = load_config(args.cfg_file, args.opts, None)
        data, kind, width = cfg.DATASET, cfg.INPUT.IMG_FEATURE_TYPE, cfg.INPUT.IMG_FEATURE_DIM
        splits = dict.fromkeys((data.TRAIN, data.DEV, data.TEST))
        paths = dict.fromkeys(find_regions(data.DATA_DIR, split, data.FEAT_FILE, kind) for split in splits)
    for path in paths:
        if path.endswith(".packed"):
            raise DataError(f"{path}: is packed itself, and the features it was made of are not beside it")
    return [open_source(path, feature_dim=width, cache_bytes=0) for path in paths]


def pack_one(source, args):
    from oscar_paddle.datasets.regions.packed import open_store, store_path
    from oscar_paddle.datasets.regions.packing import pack, reading_times, verify

    path = args.output or store_path(source.path, args.dtype)
    options = {"feature_dim": source.feature_dim, "source": source}
    if args.overwrite or not os.path.exists(path) or open_store(path, source.path, **options)[1]:
        images, size = pack(source, path, args.dtype)
        print(f"{path}: {images} images, {size / 1e6:,.1f} MB, {args.dtype}")
    else:
        print(f"{path}: is up to date")
    store, problem = open_store(path, source.path, **options)
    if problem:
        raise ConfigError(f"{path}: {problem}")
    if args.verify:
        print(f"compared with {source.path}: largest difference {verify(source, store):g}")
    if args.bench:
        times = reading_times(source, store)
        print(f"{source.path}: {times['source']:.3f} ms an image")
        print(
            f"{path}: {times['store']:.3f} ms an image, {times['source'] / times['store']:.1f} times as fast "
            f"({times['first']:.3f} ms when its checksum is compared at the first touch)"
        )


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
