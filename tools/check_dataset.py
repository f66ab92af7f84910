#!/usr/bin/env python
"""Check a data set before a day of training: what is wrong, in which file and row, and how to mend it.

Reads every image of every split that the config names and changes nothing. Exit code 0: clean; 1: problems; 2: bad
arguments or a bad config."""

import logging
import os
import re
import sys
from pathlib import Path

from oscar_paddle.config.default import KEYS, value_of
from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.tools.shell.command_line import run_tool, task_class, task_names

EXAMPLE = """\
  python tools/check_dataset.py --cfg_file configs/retrieval_train.yaml
  python tools/check_dataset.py --cfg_file configs/retrieval_train.yaml --max_images 1000
  python tools/check_dataset.py --cfg_file configs/retrieval_test.yaml --splits test --html check.html
  python tools/check_dataset.py --cfg_file configs/vqa_train.yaml"""


def add_arguments(parser):
    add, numbers = parser.add_argument, {"type": int, "default": 0, "metavar": "N"}
    add(
        "--task",
        dest="kind",
        choices=task_names(),
        help="what the data are for (default: what settings and files tell)",
    )
    add("--splits", nargs="+", metavar="NAME", help="splits to check (default: those of the config)")
    add("--html", metavar="FILE", default="", help="also write the report as a page with pictures")
    images = "pictures for the page, named by image id (default: DATA_DIR/../images where that exists)"
    add("--images", metavar="DIR", default="", help=images)
    add("--max_images", help="a quick look: features and tags of N images drawn at random (default: of all)", **numbers)
    add("--processes", help="processes that read (default: one for each core)", **numbers)
    add("--seed", type=int, default=0, help="of the random draws (default: %(default)s)")


def main(cfg, args):
    from oscar_paddle.tools.pages.dataset import find_pictures, report_text, verdict, write_dataset_page

    logging.basicConfig(level=logging.ERROR)
    for name in ("max_images", "processes", "seed"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; expected 0 or more")
    if not cfg.DATASET.DATA_DIR:
        raise ConfigError(f"{args.cfg_file}: DATASET.DATA_DIR is empty; set it to the folder of the data")
    pictures = find_pictures(args.images, cfg.DATASET.DATA_DIR)
    if args.html and not os.access(Path(args.html).absolute().parent, os.W_OK):
        raise ConfigError(f"--html {args.html}: no such folder, or it cannot be written")
    processes, files = args.processes or len(os.sched_getaffinity(0)), pictures.files if pictures else None
    task = find_task(cfg, args.kind)
    options = {"max_images": args.max_images, "processes": processes, "picture_files": files, "seed": args.seed}
    check = task.check(cfg, args.splits, **options)
    page = write_dataset_page(args.html, check, cfg, args.cfg_file, pictures) if args.html else None
    print(report_text(check, cfg, args.cfg_file))
    if page:
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB; open it in a browser")
    if check.findings.total():
        raise DataError(f"{cfg.DATASET.DATA_DIR}: {verdict(check)}")


def find_task(cfg, name=None):
    """The Task that a configuration is for: the one that is named, or else the one whose files are there, which the
    names in DATASET say, or whose own settings are set.

    Raises:
        ConfigError: that is not clear.
    """
    if name:
        return task_class(name)
    tasks = [task_class(name) for name in task_names()]
    words = re.split(r"\W|_", f"{cfg.DATASET.NAME} {cfg.DATASET.DATA_DIR}".lower())
    for signs in (
        lambda task: any(map(os.path.isfile, task.files(cfg))),
        lambda task: task.name.lower() in words,
        lambda task: any(value_of(cfg, key) != KEYS[key].default for key in task.own_keys),
    ):
        found = [task for task in tasks if signs(task)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(task.name for task in found)
            raise ConfigError(f"{cfg.DATASET.DATA_DIR}: data for {names}? Say which with --task")
    return task_class("retrieval")


if __name__ == "__main__":
    sys.exit(run_tool(__doc__, main, task=None, example=EXAMPLE, extra=add_arguments))
