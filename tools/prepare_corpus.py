#!/usr/bin/env python
"""Make a pre-training corpus of retrieval captions, of questions with answers, and of the tags and region features that
they are read with, in the form in which Oscar+ publishes its own. docs/pretraining.md has the form.

Features in a features.tsv stay where they are; those of other layouts are copied into one."""

import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.shell.command_line import run_plain_tool, task_class, task_names

EXAMPLE = """\
  python tools/prepare_corpus.py --output_dir data/corpus --features coco data/coco_ir/model_0060000 \\
    --captions coco data/coco_ir train
  python tools/prepare_corpus.py --output_dir data/mine \\
    --features mine pictures/features --captions mine pictures train"""


def add_arguments(parser):
    add, several = parser.add_argument, {"nargs": "+", "action": "append", "default": []}
    add("--output_dir", required=True, metavar="DIR", help="folder to write, the DATASET.DATA_DIR of later runs")
    words = "region features of a data set, in any layout; the name may be your own; may be repeated"
    add("--features", required=True, nargs=2, action="append", metavar=("NAME", "PATH"), help=words)
    words = "captions of a split in a folder that train_retrieval.py reads; may be repeated"
    add("--captions", nargs=3, action="append", default=[], metavar=("NAME", "DIR", "SPLIT"), help=words)
    words = "questions and answers as their authors publish them (docs/pretraining.md); may be repeated"
    add("--questions", metavar=("NAME TASK", "FILE"), help=words, **several)
    add("--tags", metavar=("NAME", "PATH"), help="object tags (default: those beside the features)", **several)
    add("--od_label_type", default="vg", help="tags of Oscar v1: {split}_xx_labels.pt (default: %(default)s)")
    add("--feature_dim", type=int, default=2054, help="values of a region (default: %(default)s)")


def main(args):
    from oscar_paddle.datasets.corpus.prepare import DEFINITION, Source, check_name, prepare_corpus

    sources = {}
    for name, path in args.features:
        check_name(name, "--features")
        if name in sources:
            raise ConfigError(f"--features {name}: is there twice")
        sources[name] = Source(name, path, args.feature_dim)
    for option in ("captions", "questions", "tags"):
        for name, *words in getattr(args, option):
            if name not in sources:
                raise ConfigError(f"--{option} {name}: --features names {', '.join(sources)}")
            if option == "captions":
                sources[name].captions.append(tuple(words))
            elif option == "tags":
                sources[name].tags += words
            else:
                sources[name].questions.append(_questions(name, words))
    for name, source in sources.items():
        if not (source.captions or source.questions):
            raise ConfigError(f"--features {name}: has neither --captions nor --questions")
    counts = prepare_corpus(list(sources.values()), args.output_dir, args.od_label_type)
    for name in sources:
        words = "; ".join(f"{count:,} {kind}" for (of, kind), count in counts.items() if of == name)
        print(f"{name}: {words}")
    print(f"{args.output_dir}: ready as DATASET.DATA_DIR, with CORPUS.DATASET_FILE {DEFINITION}")


def _questions(name, words):
    tasks = [each for each in task_names() if getattr(task_class(each), "label_files", ())]
    if len(words) < 2 or words[0] not in tasks:
        raise ConfigError(f"--questions {name} {' '.join(words)}: expected one of {', '.join(tasks)}, and its files")
    return task_class(words[0]).official(words[1:])


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
