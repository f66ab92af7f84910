#!/usr/bin/env python
"""Generate *scenes*, the built-in data set of drawn pictures with captions, in the published layout.

`make quickstart` does this by itself; use this tool for other sizes or another seed, and for questions about the
pictures. See datasets/scenes/build.py and datasets/scenes/tasks.py for what the folder holds.
"""

import sys

from oscar_paddle.datasets.scenes.model import MODEL
from oscar_paddle.datasets.scenes.tasks import TASKS
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = f"""\
python tools/make_scenes.py --root data/scenes --train 3000 --dev 100 --test 200 --seed 1
python tools/make_scenes.py --root data/scenes --tasks {" ".join(TASKS)}"""


def add_arguments(parser):
    parser.add_argument(
        "--root", required=True, metavar="DIR", help="folder to create; kept as it is where it has the same settings"
    )
    parser.add_argument("--train", type=int, default=3000, metavar="N", help="training pictures (default: 3000)")
    parser.add_argument("--dev", type=int, default=100, metavar="N", help="dev pictures, 0 or >= 4 (default 100)")
    parser.add_argument("--test", type=int, default=200, metavar="N", help="test pictures (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another data set (default: 1)")
    words = f"also write questions for {', '.join(TASKS)}, or expressions for refer (default: none of them)"
    parser.add_argument("--tasks", nargs="+", choices=(*TASKS, "refer"), default=[], metavar="TASK", help=words)
    parser.add_argument("--train_images", action="store_true", help="also write the training pictures, 83 KB each")
    parser.add_argument("--overwrite", action="store_true", help="replace scenes that were made with other settings")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core); same bytes anyway")
    model = parser.add_argument_group("init/config.json: size of a model to train from scratch")
    for name, (usual, words) in MODEL.items():
        words = f"{words} (default: {usual})"
        model.add_argument(f"--{name}", type=type(usual), default=usual, metavar="X", help=words)


def main(args):
    from oscar_paddle.datasets.scenes.asking import write_task
    from oscar_paddle.datasets.scenes.build import write_scenes

    options = {name: getattr(args, name) for name in ("seed", "train_images", "workers", "overwrite")}
    model = {name: getattr(args, name) for name in MODEL}
    root = write_scenes(args.root, args.train, args.dev, args.test, **options, model=model)
    print(f"{root}: {args.train} training, {args.dev} development, {args.test} test pictures, five captions each")
    for name in args.tasks:
        if name == "refer":
            from oscar_paddle.datasets.scenes.referring import write_referring

            print(f"{write_referring(root, overwrite=args.overwrite, workers=args.workers)}: referring expressions")
            continue
        print(f"{write_task(root, name, args.overwrite)}: questions of {name}")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
