"""The command line of tools that read no YAML file; errors and exit codes as in `config/cli.py`."""

import argparse
import textwrap

from oscar_paddle.config import cli
from oscar_paddle.config.errors import UserError
from oscar_paddle.config.yaml_file import one_line


def run_plain_tool(description, main, add_arguments, example, argv=None):
    """Reads the command line, runs a tool, and turns what goes wrong into one line on stderr.

    A tool ends with ``sys.exit(run_plain_tool(...))``.

    Args:
        description: what the tool does, for `--help`.
        main: called as `main(args)`.
        add_arguments: called with the argparse parser.
        example: a whole working command for `--help`.
        argv: the words after the program's name; None = those of this process.
    Returns:
        int exit code: 0 success; 1 failure at run time; 2 bad arguments; 130 interrupted (Ctrl-C).
    """
    parser = cli._Parser(
        description=description, epilog="example:\n" + textwrap.indent(textwrap.dedent(example), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_arguments(parser)
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return stop.code
    try:
        main(args)
    except KeyboardInterrupt:
        return cli._report("interrupted", cli.INTERRUPTED, args.debug)
    except UserError as error:
        return cli._report(f"error: {one_line(error, limit=2000)}", error.exit_code, args.debug)
    except Exception as error:
        hint = "" if args.debug else " (run again with --debug for the traceback)"
        what = f"error: unexpected {type(error).__name__}: {cli._gist(error)}{hint}"
        return cli._report(what, cli.FAILURE, args.debug)
    return cli.SUCCESS
