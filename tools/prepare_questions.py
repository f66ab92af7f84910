#!/usr/bin/env python
"""Write the questions of VQA v2, VizWiz, GQA or NLVR2 as their authors publish them, or a JSONL of your own, in the
layout that train_<task>.py and eval_<task>.py read: question files with object tags, the list of answers, and a
template of what the evaluation server takes. docs/tasks.md has the formats."""

import sys

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.shell.command_line import run_plain_tool, task_class, task_names

EXAMPLE = """\
  python tools/prepare_questions.py --task vqa --output_dir data/mine --tags data/model_0060000 \\
    --split train v2_OpenEnded_mscoco_train2014_questions.json v2_mscoco_train2014_annotations.json \\
    --split val v2_OpenEnded_mscoco_val2014_questions.json v2_mscoco_val2014_annotations.json
  python tools/prepare_questions.py --task vqa --output_dir data/vqa/2k --tags data/vqa/test_tags/predictions.tsv \\
    --split test2015 v2_OpenEnded_mscoco_test2015_questions.json
  python tools/prepare_questions.py --task nlvr2 --output_dir data/mine --no_tags --split train train.json"""


def add_arguments(parser):
    add = parser.add_argument
    names = [name for name in task_names() if hasattr(task_class(name), "official")]
    add("--task", required=True, choices=names, help="the task that will read the files")
    words = "a split and its files: train, val, ... (VQA v2: the questions, then the annotations); may be repeated"
    add("--split", required=True, nargs="+", action="append", metavar=("NAME", "FILE"), help=words)
    add("--output_dir", required=True, metavar="DIR", help="folder to write, the DATASET.DATA_DIR of later runs")
    words = "object tags: predictions.tsv, {split}_xx_labels.pt, a folder with them, or region features that have tags"
    add("--tags", nargs="+", default=[], metavar="PATH", help=words)
    add("--no_tags", action="store_true", help="write questions without tags")
    add("--od_label_type", default="vg", help="tags of Oscar v1: {split}_xx_labels.pt (default: %(default)s)")
    words = (
        "of how many questions an answer must be the commonest to be in the list (default: VQA 9, as published; or 1)"
    )
    add("--min_count", type=int, default=0, metavar="N", help=words)
    words = "use this list of answers (pickle or JSON, answer -> label) in place of counting"
    add("--answer_list", default="", metavar="FILE", help=words)
    add("--json", action="store_true", help="write the list of answers as JSON, not as pickles")
    add("--overwrite", action="store_true", help="replace files that are there already")


def main(args):
    from oscar_paddle.datasets.questions.prepare import prepare, tag_finder

    task = task_class(args.task)
    allowed = dict.fromkeys(n for k in ("TRAIN", "DEV", "TEST") for n in task.choices[f"DATASET.{k}"] if "+" not in n)
    splits = {}
    for name, *files in args.split:
        if name not in allowed or name in splits or not files:
            one = f"{' '.join(args.split[len(splits)])!r}"
            raise ConfigError(f"--split {one}: expected one of {', '.join(allowed)}, once, and its files")
        splits[name] = files
    if bool(args.tags) == args.no_tags:
        raise ConfigError("say where the object tags are (--tags), or that there are none (--no_tags); one of them")
    made, labels = prepare(
        task,
        splits,
        args.output_dir,
        lambda split: tag_finder(args.tags, split, args.od_label_type),
        min_count=args.min_count or task.min_count,
        answer_list=args.answer_list,
        as_json=args.json,
        overwrite=args.overwrite,
    )
    for split in made:
        lost = split.answered - split.kept
        some = f"; {lost:,} have no answer in the list and do not count" if lost else ""
        print(f"{split.split}: {split.questions:,} questions, {split.answered:,} with an answer{some}")
        print("".join(f"  {path}\n" for path, _ in split.files), end="")
    if labels:
        print(f"{len(labels):,} answers in the list")
    print(f"{args.output_dir}: ready as DATASET.DATA_DIR; tools/check_dataset.py checks it together with the features")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
