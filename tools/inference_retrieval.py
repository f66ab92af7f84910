#!/usr/bin/env python
"""Search the collection that a config describes: the top five images for a text, the top five captions for an image.

The collection is the split of DATASET.TEST, or its images in EVAL.EVAL_IMG_KEYS_FILE, as tools/eval_retrieval.py
scores it; the text may be any text."""

import argparse
import logging
import sys
from pathlib import Path

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.shell.command_line import run_tool

EAGER_PAIRS = 1000  # exporting the model pays for itself beyond this

EXAMPLE = """\
  python tools/inference_retrieval.py --cfg_file configs/retrieval_test.yaml --query_txt "a dog catches a frisbee"
  python tools/inference_retrieval.py --cfg_file configs/retrieval_test.yaml --query_img 391895 \\
      --html found.html --images data/val2014"""


def add_arguments(parser):
    add = parser.add_argument
    add("--query_txt", metavar="TEXT", default="", help="find the images that this text describes")
    image = "find the captions for this image: its id, or the name of its file (COCO_val2014_000000391895.jpg)"
    add("--query_img", metavar="ID", default="", help=image)
    add("--top", type=int, default=5, metavar="N", help="answers to a query (default: %(default)s)")
    add("--html", metavar="FILE", default="", help="also write a page with pictures (see --images), boxes and tags")
    add("--images", metavar="DIR", default="", help="pictures for the page, named by image id, or as DATA_DIR says")
    add("--checkpoint_dir", metavar="DIR", action=SetCheckpoint, help="sets EVAL.CHECKPOINT_DIR")


class SetCheckpoint(argparse.Action):
    """One more pair of `--opts`, so that the configuration is checked with it."""

    def __call__(self, parser, args, value, option=None):
        args.opts = [*args.opts, "EVAL.CHECKPOINT_DIR", value]


def main(cfg, args):
    if not args.query_txt.strip() and not args.query_img:
        raise ConfigError("nothing to look for: give --query_txt TEXT, --query_img ID, or both")
    if args.top < 1:
        raise ConfigError(f"--top is {args.top}; expected at least 1")
    if args.images and not args.html:
        raise ConfigError("--images: the pictures are for the page; name it with --html FILE")
    prepare(cfg.MISC.NUM_THREADS, exact=True)
    # Paddle loads here, after threads and maths path are chosen.
    from oscar_paddle.datasets.captions.own_pictures import read_names
    from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data
    from oscar_paddle.solvers.build import as_trained, load_tokenizer, model_for_evaluation
    from oscar_paddle.solvers.runtime import batch_tokens, set_device
    from oscar_paddle.solvers.search.query import Collection, image_id_of
    from oscar_paddle.tools.pages.page import write_page
    from oscar_paddle.tools.pages.query import find_pictures, query_page

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    names = read_names(cfg.DATASET.DATA_DIR)
    image_id = image_id_of(args.query_img, names) if args.query_img else None
    set_device(cfg)
    cfg = as_trained(cfg)
    tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
    data = build_evaluation_data(among_all(cfg), tokenizer, cfg.DATASET.TEST)
    pictures = find_pictures(args.images, data, names)
    pairs = max(data.num_images if args.query_txt else 0, data.num_captions if args.query_img else 0)
    backend = make_backend(cfg, model_for_evaluation(cfg, tokenizer), pairs)
    collection = Collection(data, tokenizer, backend=backend, batch_tokens=batch_tokens(cfg))
    text_query = image_query = None
    if args.query_txt.strip():
        text_query = args.query_txt, collection.images_for(args.query_txt, args.top)
        print(f"Query text: {args.query_txt}")
        for a in text_query[1]:
            name = f", {names[a.image_id]}" if a.image_id in names else ""
            print(f"Top {a.rank}: image {a.image_id}{name} (margin {a.margin:+.3f})")
    if image_id is not None:
        image_query = image_id, collection.captions_for(image_id, args.top)
        print(f"Query image: {image_id}")
        print("\n".join(f"Top {a.rank}: {a.caption} (margin {a.margin:+.3f})" for a in image_query[1]))
    if args.html:
        write_page(args.html, query_page(data, pictures, text_query, image_query))
        print(f"{args.html}: open it in a browser")


def among_all(cfg):
    """The settings with all captions in place of lists of candidates, for which a search has no use."""
    if not cfg.EVAL.EVAL_CROSS_IMAGE:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.EVAL.EVAL_CROSS_IMAGE, cfg.EVAL.EVAL_CAPTION_INDEX_FILE = True, ""
        cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV = 0
    return cfg


def make_backend(cfg, model, pairs):
    """Eager Paddle where little is to be scored, otherwise what EVAL.BACKEND says."""
    from oscar_paddle.models.checkpoints.weights import file_hash, find_weights
    from oscar_paddle.solvers.ranks import Ranks
    from oscar_paddle.solvers.scoring.backends import EagerBackend, build_backend

    if cfg.EVAL.BACKEND == "auto" and cfg.EVAL.PRECISION == "float32" and pairs <= EAGER_PAIRS:
        return EagerBackend(model)
    programs = Path(cfg.EVAL.CHECKPOINT_DIR) / ".oscar_cache"
    weights = file_hash(find_weights(cfg.EVAL.CHECKPOINT_DIR))
    return build_backend(model, cfg.EVAL.BACKEND, cfg.EVAL.PRECISION, weights, programs, Ranks())


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task="search", example=EXAMPLE, extra=add_arguments))
