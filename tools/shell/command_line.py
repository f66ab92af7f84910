"""What every tool's command line has in common: arguments, one-line errors, exit codes.

Nothing heavy is imported here, so `--help` and errors in the arguments answer at once; a tool imports Paddle inside
its `main`.
"""

import functools
import importlib
import os
import re
import sys
import textwrap
import traceback
from pathlib import Path

from oscar_paddle.config.default import KEYS, value_of
from oscar_paddle.config.errors import UserError
from oscar_paddle.config.loader import load_config
from oscar_paddle.config.signals import keeping_sigterm
from oscar_paddle.config.yaml_file import one_line
from oscar_paddle.tools.shell.options import TERMINATED, OptionParser, heeding_sigterm, rank_words

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130
REPOSITORY = Path(__file__).resolve().parents[2]
# Keys of published files -> the part that has retrieval's.
PARTS = {
    "DATASET.FEAT_FILE": "vinvl",
    "PRETRAINED.DIR": "weights",
    "DATASET.LABEL_FILE": "",
    "DATASET.DATA_DIR": "captions",
}
STARTS_AGAIN = "what was not finished is lost, nothing is left half-written; the same command starts again"


def run_tool(description, main, task, example, extra=None, argv=None, kept=lambda args: STARTS_AGAIN):
    """Reads the command line and the configuration, runs a tool, and turns what goes wrong into one line on stderr.

    A tool ends with ``sys.exit(run_tool(...))``.

    Args:
        description: what the tool does, for `--help`.
        main: called as `main(cfg, args)` with the frozen configuration and the parsed arguments.
        task: which settings must be present, as for `load_task_config`.
        example: a whole working command for `--help`, or several, one a line.
        extra: called with the argparse parser, to add the tool's own arguments.
        argv: the words after the program's name; None = those of this process.
        kept: function of the parsed arguments (`args.cfg` is the configuration) -> what an interrupted run has lost
            and how to go on, in words.
    Returns:
        int exit code: 0 success; 1 failure at run time; 2 bad arguments or configuration; 130 interrupted (Ctrl-C);
        143 terminated (SIGTERM).
    """

    def add_arguments(parser):
        which = "YAML file with the settings; configs/... is the package's own where there is none here"
        parser.add_argument("--cfg_file", required=True, metavar="FILE", help=which)
        over = "settings that override the file, for example: --opts OPTIMIZATION.LR 1e-5 MISC.SEED 7"
        parser.add_argument("--opts", nargs="*", action="extend", default=[], metavar="KEY VALUE", help=over)
        if extra:
            extra(parser)
        parser.set_defaults(cfg=None)  # `kept` is asked before there is one, too

    def configured(args):
        args.cfg, args.task = load_task_config(args.cfg_file, args.opts, task), (task or "").partition("_")[2]
        main(args.cfg, args)

    return run_plain_tool(description, configured, add_arguments, example, argv, kept)


def load_task_config(cfg_file, opts=(), task=None):
    """`load_config` that also checks what a task needs.

    `task` is "train", "eval" or "search" for retrieval, "train_<name>" or "eval_<name>" for a task with a file of that
    name in `solvers/tasks`, or None. Raises ValueError or ModuleNotFoundError where there is no such task.
    """
    if task is None:
        return load_config(cfg_file, opts)
    action, _, name = task.partition("_")
    if action not in ("train", "eval", "search"):
        raise ValueError(f"task is {task!r}; expected train..., eval..., search or None")
    return load_config(cfg_file, opts, functools.partial(task_class(name or "retrieval").needs, action=action))


def task_names():
    """The tasks there are: names of files in solvers/tasks."""
    folder = REPOSITORY / "solvers" / "tasks"
    names = sorted(os.path.splitext(name)[0] for name in os.listdir(folder) if name.endswith(".py"))
    return [name for name in names if name not in ("task", "questions")]


def task_class(name):
    """The Task of solvers/tasks/<name>.py, which loads no Paddle.

    It loads NumPy, whose threads start with SIGTERM blocked: otherwise one of them takes the signal while it waits in
    the main thread for Paddle to load, and Paddle's handler, which is there by then, ends the process.
    """
    with keeping_sigterm():
        return importlib.import_module(f"oscar_paddle.solvers.tasks.{name}").TASK


def add_output_dir(parser):
    """The argument that every evaluation has."""
    where = (
        "where to write metrics.json and the rest (default: eval/<split>... in the checkpoint folder, as the log says)"
    )
    parser.add_argument("--output_dir", metavar="DIR", default="", help=where)


def run_plain_tool(description, main, add_arguments, example, argv=None, kept=lambda args: STARTS_AGAIN):
    """The same for a tool that reads no YAML file.

    `main` is called as `main(args)`, `add_arguments` with the argparse parser; the rest as for `run_tool`.
    """
    parser = OptionParser(
        keys=KEYS,
        description=description,
        epilog="example:\n" + textwrap.indent(_as_typed(textwrap.dedent(example)), "  "),
    )
    add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, or bad arguments: argparse has said all there is to say
        return stop.code
    try:
        with heeding_sigterm():
            _heeding_stops(main, args)
    except KeyboardInterrupt as stop:
        what, code = ("terminated", TERMINATED) if stop.args else ("interrupted", INTERRUPTED)
        return _report(f"{what}: {rank_words()}{kept(args)}", code, args.debug)
    except UserError as error:
        line = one_line(error, limit=2000)
        return _report(f"error: {rank_words()}{line}{_about_missing(line, args)}", error.exit_code, args.debug)
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {_gist(error)}"
        hint = "" if args.debug else " (run again with --debug for the traceback)"
        return _report(f"error: {rank_words()}{what}{hint}", FAILURE, args.debug)
    return SUCCESS


def _heeding_stops(main, args):
    """`main(args)`; what Paddle makes of a stop that reaches it while it loads is that stop again."""
    try:
        main(args)
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


def _about_missing(line, args):
    """What a person needs to know of "<path>: no such ...": who names it and has it, where it was looked for and is."""
    found = re.match(r"(?:--?\w+:? )?(\S.*?)(?: and .*?)?: no such (?:file|folder|checkpoint folder)", line)
    if not found:
        return ""
    path, cfg, hints = Path(found[1]), getattr(args, "cfg", None), []
    values = {key: value_of(cfg, key) for key in KEYS} if cfg else {}
    named = {key: Path(value) for key, value in values.items() if value and isinstance(value, str)}
    inside = [key for key, place in named.items() if path == named.get("DATASET.DATA_DIR", path) / place != place]
    if inside and named[inside[0]].name != values[inside[0]]:
        hints.append(f"{inside[0]} is the name of a file in DATASET.DATA_DIR")
    above = [key for key, place in named.items() if place in (path, *path.parents)]
    key = max([*above, *inside], key=lambda key: len(values[key]), default="")
    hints += [f"{key} says so"] if key and key not in line and not hints else []
    hints += [f"{place} is a file, where a folder is meant" for place in path.parents if os.path.isfile(place)]
    asked = next((each for each in PARTS if each in (key, *re.findall(r"[A-Z]+\.[A-Z_]+", line))), "")
    if asked:
        task, weights = getattr(args, "task", "").replace("retrieval", ""), asked == "PRETRAINED.DIR"
        usual = PARTS[asked] if not task else "task-weights" if weights else task
        hints.append(f"published files: ./download_dataset.sh --what {_published_part(path, weights) or usual}")
    if not path.is_absolute():
        places = [REPOSITORY, *Path(getattr(args, "cfg_file", None) or ".").absolute().parents]
        there = next((place for place in places if os.path.exists(place / path)), None)
        hints.append(f"looked for in {os.getcwd()}" + (f", it is in {there}: start the tool there" if there else ""))
    return "".join(f"; {hint}" for hint in hints)


def _published_part(path, weights):
    """Part of the download that fills the place of a missing path; "": none, as for a person's own folders."""
    from oscar_paddle.tools.fetch_files import TABLE

    places = {place: value.split()[0] for place, value in TABLE["files"].items()}
    for value in TABLE["files"].values():  # archives that fill other places than their own
        for place in re.findall(r">(\w+)/\{", value):
            places.setdefault(place, value.split()[0])
    found = [place for place in places if f"/{place}/" in f"/{path}/" and place.startswith("pretrained") == weights]
    return places[max(found, key=len)] if found else ""


def _report(line, code, debug):
    if debug:
        traceback.print_exc()
    print(line, file=sys.stderr, flush=True)
    if rank_words():  # at once: a communicator of NCCL waits at its end for ranks that wait for this one
        try:
            sys.stdout.flush()
        finally:
            os._exit(code)
    return code


def _gist(error):
    """An exception's message in one line; of Paddle's long ones, the part after the C++ stack."""
    return one_line(str(error).rpartition("Error Message Summary:")[2].strip(" -\n"), limit=500)


def _as_typed(example):
    """The same for who started tools/shell/console.py, and has no tools/ perhaps."""
    if not sys.argv[0].startswith("oscar-paddle "):
        return example
    launched = example.replace("launch tools/", "launch $(command -v oscar-paddle) ")
    return launched.replace("python tools/", "oscar-paddle ").replace(".py ", " ")
