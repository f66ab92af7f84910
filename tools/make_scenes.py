"""Generate *scenes*, the built-in data set of drawn pictures with captions, in the published layout.

Example (the quick start's data; about a minute and 300 MB):
    python tools/make_scenes.py --root data/scenes --train 3000 --dev 100 --test 200 --seed 1
"""

import argparse
import sys

from oscar_paddle.config.errors import UserError
from oscar_paddle.datasets.scenes import write_scenes


def parse_arguments(argv=None):
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--root", required=True, help="folder to create; kept as it is if it has the same settings")
    parser.add_argument("--train", type=int, default=3000, help="training pictures (default: %(default)s)")
    parser.add_argument("--dev", type=int, default=100, help="development pictures, 0 or >= 4 (default: %(default)s)")
    parser.add_argument("--test", type=int, default=200, help="test pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another data set (default: %(default)s)")
    parser.add_argument("--train_images", action="store_true", help="also write the training pictures (83 KB each)")
    parser.add_argument("--overwrite", action="store_true", help="replace scenes that were made with other settings")
    parser.add_argument("--workers", type=int, help="processes (default: one per core); the data do not change")
    model = parser.add_argument_group("init/config.json, the model to train from scratch")
    model.add_argument("--hidden_size", type=int, default=128, help="(default: %(default)s)")
    model.add_argument("--num_hidden_layers", type=int, default=3, help="(default: %(default)s)")
    model.add_argument("--num_attention_heads", type=int, default=4, help="(default: %(default)s)")
    model.add_argument("--intermediate_size", type=int, default=512, help="(default: %(default)s)")
    model.add_argument("--dropout", type=float, default=0.1, help="hidden and attention (default: %(default)s)")
    model.add_argument("--initializer_range", type=float, default=0.02, help="(default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    names = (*sizes, "dropout", "initializer_range")
    try:
        root = write_scenes(
            args.root,
            num_train=args.train,
            num_dev=args.dev,
            num_test=args.test,
            seed=args.seed,
            train_images=args.train_images,
            workers=args.workers,
            overwrite=args.overwrite,
            model={name: getattr(args, name) for name in names},
        )
    except UserError as error:
        if args.debug:
            raise
        print(f"make_scenes: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{root}: {args.train} training, {args.dev} development, {args.test} test pictures, five captions each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
