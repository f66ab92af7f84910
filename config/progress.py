"""The progress of every loop that may take long: a bar on a terminal, and elsewhere a line now and then."""

import sys

from tqdm import std

LINE_SECONDS = 30.0  # between two lines where no bar is drawn
_LINE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class tqdm(std.tqdm):
    """tqdm, which draws no bar into a file or a pipe."""

    def __init__(self, *args, **options):
        self.draws = sys.stderr.isatty()
        if self.draws:
            return super().__init__(*args, **options)
        lines = {"mininterval": LINE_SECONDS, "maxinterval": LINE_SECONDS, "delay": LINE_SECONDS}
        super().__init__(*args, **{**options, **lines, "bar_format": _LINE, "leave": False})
        self._instances.discard(self)  # a log line need not make room for it

    def display(self, msg=None, pos=None):
        if self.draws:
            return super().display(msg, pos)
        if msg is None:  # "" is to clear the bar away
            self.fp.write(f"{self}\n")
