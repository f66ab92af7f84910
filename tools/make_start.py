#!/usr/bin/env python
"""Write random weights into a folder, so that several runs can start from the same ones: what PRETRAINED.FROM_SCRATCH
gives, for the encoder and the heads of pre-training. A fine-tuning run takes the encoder and starts its own head."""

import shutil
import sys
from pathlib import Path

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.shell.command_line import run_plain_tool

EXAMPLE = "python tools/make_start.py --config quickstart/scenes/init --output quickstart/start --seed 1 --alike"


def add_arguments(parser):
    parser.add_argument("--config", required=True, metavar="DIR", help="folder with config.json and vocab.txt")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to create, a PRETRAINED.DIR")
    parser.add_argument("--seed", type=int, default=1, help="of the weights (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=3, help="of the contrast head (default: %(default)s, Oscar+)")
    parser.add_argument("--alike", action="store_true", help="as PRETRAINED.SCRATCH_WEIGHTS alike")


def main(args):
    output = Path(args.output)
    if output.exists():
        raise ConfigError(f"--output {output}: is there already; remove it, or name another folder")
    from oscar_paddle.solvers.machine import load_paddle

    load_paddle()
    import paddle

    from oscar_paddle.datasets.formats.whole_files import whole_folder
    from oscar_paddle.models.checkpoints.weights import write_model
    from oscar_paddle.models.config import read_model_config
    from oscar_paddle.models.pretraining import OscarForPretraining
    from oscar_paddle.models.scratch import let_equals_attend

    config = read_model_config(args.config)
    config.num_contrast_classes = args.classes
    paddle.seed(args.seed)
    model = OscarForPretraining(config)
    if args.alike:
        let_equals_attend(model.bert)
    with whole_folder(output) as folder:
        write_model(folder, model)
        shutil.copy(Path(args.config) / "vocab.txt", folder)
    print(f"{output}: random weights of seed {args.seed}")


if __name__ == "__main__":
    sys.exit(run_plain_tool(__doc__, main, add_arguments, EXAMPLE))
