"""What every tool's command line has in common: arguments, one-line errors, exit codes.

Nothing heavy is imported here, so `--help` and errors in the arguments answer at once; a tool imports Paddle inside
its `main`.
"""

import argparse
import functools
import importlib
import os
import sys
import textwrap
import traceback

from oscar_paddle.config.errors import UserError
from oscar_paddle.config.loader import load_config
from oscar_paddle.config.yaml_file import one_line

SUCCESS, FAILURE, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def run_tool(description, main, task, example, extra=None, argv=None):
    """Reads the command line and the configuration, runs a tool, and turns what goes wrong into one line on stderr.

    A tool ends with ``sys.exit(run_tool(...))``.

    Args:
        description: what the tool does, for `--help`.
        main: called as `main(cfg, args)` with the frozen configuration and the parsed arguments.
        task: which settings must be present, as for `load_task_config`.
        example: a whole working command for `--help`, or several, one a line.
        extra: called with the argparse parser, to add the tool's own arguments.
        argv: the words after the program's name; None = those of this process.
    Returns:
        int exit code: 0 success; 1 failure at run time; 2 bad arguments or configuration; 130 interrupted (Ctrl-C).
    """

    def add_arguments(parser):
        parser.add_argument("--cfg_file", required=True, metavar="FILE", help="YAML file with the settings")
        over = "settings that override the file, for example: --opts OPTIMIZATION.LR 1e-5 MISC.SEED 7"
        parser.add_argument("--opts", nargs="*", action="extend", default=[], metavar="KEY VALUE", help=over)
        if extra:
            extra(parser)

    def configured(args):
        main(load_task_config(args.cfg_file, args.opts, task), args)

    return run_plain_tool(description, configured, add_arguments, example, argv)


def load_task_config(cfg_file, opts=(), task=None):
    """`load_config` that also checks what a task needs.

    `task` is "train" or "eval" for retrieval, "train_<name>" or "eval_<name>" for a task with a file of that name in
    `solvers/tasks`, or None. Raises ValueError or ModuleNotFoundError where there is no such task.
    """
    if task is None:
        return load_config(cfg_file, opts)
    action, _, name = task.partition("_")
    if action not in ("train", "eval"):
        raise ValueError(f"task is {task!r}; expected train..., eval... or None")
    return load_config(cfg_file, opts, functools.partial(task_class(name or "retrieval").needs, action=action))


def task_names():
    """The tasks there are: names of files in solvers/tasks."""
    folder = os.path.join(os.path.dirname(__file__), "..", "solvers", "tasks")
    names = sorted(os.path.splitext(name)[0] for name in os.listdir(folder) if name.endswith(".py"))
    return [name for name in names if name not in ("task", "questions")]


def task_class(name):
    """The Task of solvers/tasks/<name>.py, which loads no Paddle."""
    return importlib.import_module(f"oscar_paddle.solvers.tasks.{name}").TASK


def add_output_dir(parser):
    """The argument that every evaluation has."""
    where = "where to write metrics.json and the rest (default: eval/ in the checkpoint folder)"
    parser.add_argument("--output_dir", metavar="DIR", default="", help=where)


def run_plain_tool(description, main, add_arguments, example, argv=None):
    """The same for a tool that reads no YAML file.

    `main` is called as `main(args)`, `add_arguments` with the argparse parser; the rest as for `run_tool`.
    """
    parser = _Parser(
        description=description,
        epilog="example:\n" + textwrap.indent(textwrap.dedent(example), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, or bad arguments: argparse has said all there is to say
        return stop.code
    try:
        main(args)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED, args.debug)
    except UserError as error:
        return _report(f"error: {_rank()}{one_line(error, limit=2000)}", error.exit_code, args.debug)
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {_gist(error)}"
        hint = "" if args.debug else " (run again with --debug for the traceback)"
        return _report(f"error: {_rank()}{what}{hint}", FAILURE, args.debug)
    return SUCCESS


class _Parser(argparse.ArgumentParser):
    """argparse, with errors in the form of all our errors: one line, code 2."""

    def error(self, message):
        self.exit(BAD_USAGE, f"error: {_rank()}{message} (--help shows a working command)\n")


def _report(line, code, debug):
    if debug:
        traceback.print_exc()
    print(line, file=sys.stderr, flush=True)
    return code


def _rank():
    """Which of several training processes speaks; paddle.distributed.launch sets both variables."""
    many = os.environ.get("PADDLE_TRAINERS_NUM", "1") not in ("", "0", "1")
    return f"rank {os.environ.get('PADDLE_TRAINER_ID', '?')}: " if many else ""


def _gist(error):
    """An exception's message in one line; of Paddle's long ones, the part after the C++ stack."""
    return one_line(str(error).rpartition("Error Message Summary:")[2].strip(" -\n"), limit=500)
