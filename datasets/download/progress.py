"""How far a download is, with rate and time left: one moving line on a terminal, now and then a line elsewhere."""

import sys
import time

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def show_size(num_bytes):
    """A number of bytes for people: 1234567 -> "1.2 MB"; None -> "unknown"."""
    if num_bytes is None:
        return "unknown"
    for unit, name in _UNITS:
        if num_bytes >= unit * 0.9995:
            return f"{num_bytes / unit:.3g} {name}" if num_bytes < 999.5 * unit else f"{num_bytes / unit:.0f} {name}"
    return f"{num_bytes} bytes"


def show_time(seconds):
    """A duration: 75 -> "1:15", 7325 -> "2:02:05"."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Progress of one file; call it with the bytes there are and the bytes there will be.

    Args:
        label: what is going on, for example the file's place.
        stream: where to write; None = stderr.
        clock: seconds, for tests.
    """

    def __init__(self, label, stream=None, clock=time.monotonic):
        self.label, self._clock = label, clock
        self._stream = stream or sys.stderr
        self._moving = self._stream.isatty()
        self._pause = 0.2 if self._moving else 30.0
        self._started = self._first = None
        self._shown, self._width = clock(), 0

    def __call__(self, have, total=None):
        """Notes that `have` bytes of `total` (None = unknown) are there, and shows it if it is time to."""
        now = self._clock()
        if self._first is None or have < self._first:  # the first call, or the file was started again
            self._started, self._first = now, have
        if now - self._shown >= self._pause:
            self._shown = now
            self._write(self.line(have, total))

    def line(self, have, total=None):
        """The text: label, amount, share, rate since the start (bytes found from an earlier run do not count)."""
        seconds = self._clock() - self._started
        rate = (have - self._first) / seconds if seconds > 0 else 0
        text = f"{self.label}: {show_size(have)}"
        if total:
            text += f" of {show_size(total)} ({100 * have // total} %)"
        if rate > 0:
            text += f", {show_size(int(rate))}/s"
            if total:
                text += f", {show_time((total - have) / rate)} left"
        return text

    def say(self, text):
        """Writes a line of its own without tearing the moving one."""
        self.clear()
        print(text, file=self._stream, flush=True)

    def clear(self):
        """Takes the moving line away."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=self._stream, flush=True)
            self._width = 0

    def _write(self, text):
        if not self._moving:
            print(text, file=self._stream, flush=True)
            return
        print("\r" + text.ljust(self._width), end="", file=self._stream, flush=True)
        self._width = len(text)
