"""The options of every tool, read by argparse: - and _ alike in names, what may be meant where one is wrong; SIGTERM.

The standard library alone is imported, because the download runs before anything is installed.
"""

import argparse
import contextlib
import difflib
import os
import re
import signal
import sys
import threading

BAD_USAGE, TERMINATED = 2, 143


class OptionParser(argparse.ArgumentParser):
    """argparse whose errors have the form of all ours, one line, code 2; keys: names of the settings for `--opts`."""

    def __init__(self, *args, keys=(), **options):
        as_written = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, formatter_class=as_written, allow_abbrev=False, **options)
        self._keys = keys

    def parse_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else args
        found = super().parse_args([self._as_declared(word) for word in words], namespace)
        self._check_paths(found)
        return found

    def error(self, message):
        key = message.removeprefix("unrecognized arguments: ").split()[0]
        hint = f"; did you mean --opts {key} VALUE?" if key in self._keys else ""
        self.exit(BAD_USAGE, f"error: {rank_words()}{message}{hint} (--help shows a working command)\n")

    def _as_declared(self, word):
        """A word as argparse is to see it, the name of an option in its own spelling."""
        name, equals, value = word.partition("=")
        options = {option.replace("_", "-"): option for option in self._option_string_actions}
        if not re.fullmatch(r"--?[A-Za-z][\w.-]*", name):
            return word
        if name.replace("_", "-") in options:
            return options[name.replace("_", "-")] + equals + value
        wanted = name.strip("-").replace("-", "_").upper()
        keys = [key for key in self._keys if wanted in (key, key.split(".")[1])] if "--opts" in options else []
        near = [f"--opts {key} VALUE" for key in keys] or difflib.get_close_matches(name, options.values(), 1, 0.6)
        return self.error(f"unknown option {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""))

    def _check_paths(self, args):
        """Refuse a file where a folder is meant (metavar DIR), and the other way round (FILE)."""
        wrong = []
        for option in self._actions:
            path, name = getattr(args, option.dest, None), option.option_strings[0]
            if option.metavar == "DIR" and path and os.path.isfile(path):
                wrong.append(f"{name} {path}: is a file; expected a folder")
            if option.metavar == "FILE" and path and os.path.isdir(path):
                wrong.append(f"{name} {path}: is a folder; expected a file")
        if wrong:
            self.error(", and ".join(wrong) + (": are they exchanged?" if len(wrong) > 1 else ""))


def rank_words():
    """Which of several training processes speaks; paddle.distributed.launch sets both variables."""
    many = os.environ.get("PADDLE_TRAINERS_NUM", "1") not in ("", "0", "1")
    return f"rank {os.environ.get('PADDLE_TRAINER_ID', '?')}: " if many else ""


@contextlib.contextmanager
def heeding_sigterm():
    """SIGTERM becomes KeyboardInterrupt(TERMINATED) inside, once.

    Of the class itself, as `subprocess` does not wait long for its children then. Not in one of several processes: it
    may wait for the others for ever.
    """
    alone = not rank_words() and threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `timeout` and others send it twice
        raise KeyboardInterrupt(TERMINATED)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
