"""The two doors of every task: the whole of a tools/train_<task>.py and of a tools/eval_<task>.py but its words."""

from oscar_paddle.solvers.machine import prepare
from oscar_paddle.tools.command_line import add_output_dir, run_tool, task_class


def train_door(description, name):
    """Exit code of a training tool.

    Args:
        description: what the tool does, for `--help`.
        name: of the task in file names, such as "retrieval".
    """
    tool = f"tools/train_{name}.py --cfg_file configs/{name}_train.yaml"
    example = f"python {tool}\npython -m paddle.distributed.launch {tool}\npython {tool} --opts PRETRAINED.RESUME auto"

    def main(cfg, args):
        machine = prepare(cfg.MISC.NUM_THREADS)
        from oscar_paddle.solvers.training import run_training  # Paddle loads here

        run_training(cfg, machine, task_class(name)(cfg))

    return run_tool(description, main, task=settings_name("train", name), example=example)


def eval_door(description, name, example, extra=add_output_dir, arguments=lambda args: {}):
    """Exit code of an evaluation tool; the description is followed by what all of them have in common.

    Args:
        example: arguments that a second whole command shows, behind those of the first.
        extra: adds the tool's own arguments. arguments: function of what was parsed -> keywords for the Task.
    """
    tool = f"python tools/eval_{name}.py --cfg_file configs/{name}_test.yaml"
    description += (
        "\n\nA run that was stopped goes on where it was when started again. Under paddle.distributed.launch the work "
        "is divided among\nthe processes."
    )

    def main(cfg, args):
        machine = prepare(cfg.MISC.NUM_THREADS, exact=True)
        from oscar_paddle.solvers.scoring.evaluation import run_evaluation  # Paddle loads here

        run_evaluation(cfg, machine, task_class(name)(cfg, **arguments(args)), args.output_dir)

    examples = "\n".join([tool, *(f"{tool} {words}" for words in example)])
    return run_tool(description, main, task=settings_name("eval", name), example=examples, extra=extra)


def settings_name(action, name):
    """What `load_config` calls the needs of this door."""
    return action if name == "retrieval" else f"{action}_{name}"
