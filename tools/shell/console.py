"""The command `oscar-paddle`: every file of tools/ by its name, `oscar-paddle train-retrieval --cfg_file ...`."""

import ast
import difflib
import re
import runpy
import sys
from pathlib import Path

import oscar_paddle

COMMAND = "oscar-paddle"


def main():
    """Runs the tool that the first word names, in either spelling, with the words behind it; the exit code."""
    word, *words = sys.argv[1:] or ["--help"]
    if word == "--version":
        print(f"{COMMAND} {oscar_paddle.__version__}")
        return 0
    tools = _tools()
    if word in ("-h", "--help"):
        print(f"usage: {COMMAND} TOOL [arguments]\n")
        print("\n".join(f"  {_shown(name):19} {_first_sentence(text)}" for name, text in tools.items()))
        print(f"\n{COMMAND} TOOL --help says more.")
        return 0
    name = word.replace("-", "_")
    if name not in tools:
        nearest = max(tools, key=lambda tool: difflib.SequenceMatcher(None, tool, name).ratio())
        print(f"error: no tool {word}; the nearest is {_shown(nearest)} ({COMMAND} --help lists all)", file=sys.stderr)
        return 2
    sys.argv = [f"{COMMAND} {_shown(name)}", *words]
    runpy.run_module(f"oscar_paddle.tools.{name}", run_name="__main__")
    return 0


def _tools():
    """{name: program}."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parents[1].glob("*.py"))}


def _shown(name):
    return name.replace("_", "-")


def _first_sentence(program):
    return re.split(r"[.:;](?:\s|$)", ast.get_docstring(ast.parse(program)) or "", maxsplit=1)[0].replace("\n", " ")
