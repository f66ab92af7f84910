#!/usr/bin/env python
"""Move a checkpoint between frameworks, without PyTorch and without changing a bit of a weight.

Reads every kind of checkpoint folder: Oscar/VinVL/BERT for PyTorch (pytorch_model.bin), Hugging Face BERT
(model.safetensors), VinVL-Paddle (paddle_model.bin), ViLBERT for PyTorch (pytorch_model_8.bin, pretrained_model.bin)
and for Paddle (paddle_model_8.pdparams), and this project's own. Base and large, with any task's head.

Writes one of five forms (--to):
  oscar-paddle             this project: model.safetensors, config.json, vocab.txt
  pytorch                  the reference implementation: pytorch_model.bin, config.json, vocab.txt, training_args.bin
  vinvl-paddle             VinVL-Paddle, as it saves and evaluates: paddle_model.bin with "epoch" and "model"
  vinvl-paddle-pretrained  VinVL-Paddle, as its training starts (PRETRAINED.DIR): paddle_model.bin with the weights only
  vilbert-paddle           ViLBERT-Paddle: paddle_model_0.pdparams, for a ViLBERT of any of the above
"""

import logging
import sys

from oscar_paddle.tools.shell.command_line import run_plain_tool

FORMATS = ("oscar-paddle", "pytorch", "vinvl-paddle", "vinvl-paddle-pretrained", "vilbert-paddle")

EXAMPLE = """\
  python tools/convert_weights.py --input exp/retrieval_train/best --output exp/for_pytorch --to pytorch
  python tools/convert_weights.py --input data/pretrained/vinvl_base --output vinvl_base --to oscar-paddle --dry-run"""


def add_arguments(parser):
    add = parser.add_argument
    add("--input", required=True, metavar="DIR", help="checkpoint folder to read")
    add("--output", metavar="DIR", default="", help="folder to write; nothing is overwritten")
    add("--to", required=True, choices=FORMATS, help="form to write, see above")
    add("--vocab", metavar="FILE", default="", help="vocab.txt, where the input folder has none")
    look = "only print every tensor, its new shape and what is done"
    add("--dry-run", "--dry_run", action="store_true", help=look)


def main(args):
    from oscar_paddle.config.errors import ConfigError
    from oscar_paddle.solvers.machine import load_paddle

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if not args.output and not args.dry_run:
        raise ConfigError("--output: name the folder to write, or look first with --dry-run")
    load_paddle()
    from oscar_paddle.models.checkpoints.conversion import check_target, convert, plan_lines, read_source, summary

    source = read_source(args.input, args.vocab)
    if args.output:
        check_target(source, args.output, args.to)
    if args.dry_run:
        print("\n".join(plan_lines(source, args.to)))
        return
    convert(source, args.output, args.to)
    print(f"{args.output}: {summary(source)}")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
