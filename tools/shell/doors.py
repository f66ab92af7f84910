"""The two doors of every task: the whole of a tools/train_<task>.py and of a tools/eval_<task>.py but its words."""

from pathlib import Path

from oscar_paddle.config.places import checkpoints_in
from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.shell.command_line import add_output_dir, run_tool, task_class


def train_door(description, name):
    """Exit code of a training tool; `name`: of the task in file names, such as "retrieval"."""
    tool = f"tools/train_{name}.py --cfg_file configs/{name}_train.yaml"
    example = f"python {tool}\npython -m paddle.distributed.launch {tool}\npython {tool} --opts PRETRAINED.RESUME auto"

    def main(cfg, args):
        machine = prepare(cfg.MISC.NUM_THREADS)
        from oscar_paddle.solvers.training import run_training  # Paddle loads here

        run_training(cfg, machine, task_class(name)(cfg))

    return run_tool(description, main, task=f"train_{name}", example=example, kept=_kept_of_training)


def eval_door(description, name, example, extra=add_output_dir, arguments=lambda args: {}, tool=""):
    """Exit code of an evaluation tool; the description is followed by what all of them have in common.

    Args:
        example: arguments that a second whole command shows, behind those of the first.
        extra: adds the tool's own arguments. arguments: function of what was parsed -> keywords for the Task.
        tool: its name where it is not eval_<name>; then it needs arguments, and only `example` shows it.
    """
    command = f"python tools/{tool or f'eval_{name}'}.py --cfg_file configs/{name}_test.yaml"
    description += (
        "\n\nA run that was stopped goes on where it was when started again. Under paddle.distributed.launch the work "
        "is divided among\nthe processes."
    )

    def main(cfg, args):
        machine = prepare(cfg.MISC.NUM_THREADS, exact=True)
        from oscar_paddle.solvers.scoring.evaluation import run_evaluation  # Paddle loads here

        run_evaluation(cfg, machine, task_class(name)(cfg, **arguments(args)), args.output_dir)

    examples = "\n".join(f"{command} {words}".rstrip() for words in [*([] if tool else [""]), *example])

    def kept(args):
        return "what was scored is kept; the same command goes on from there"

    return run_tool(description, main, task=f"eval_{name}", example=examples, extra=extra, kept=kept)


def _kept_of_training(args):
    """What a run that was stopped has lost, and how to go on."""
    folder = args.cfg and Path(args.cfg.OUTPUT.CHECKPOINT_DIR) / args.cfg.OUTPUT.SAVE_NAME
    checkpoints = checkpoints_in(folder) if folder and folder.is_dir() else {}
    if not checkpoints:
        return "nothing is kept before the first checkpoint (OUTPUT.SAVE_STEPS); the same command starts again"
    again = "" if args.cfg.PRETRAINED.RESUME == "auto" else " with --opts PRETRAINED.RESUME auto"
    return f"what came after {[*checkpoints.values()][-1]} is lost; the same command{again} goes on from there"
