"""Progress: a bar on a terminal, and a line now and then where there is none."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

PROGRAM = """
import sys, time
from oscar_paddle.config import progress
progress.LINE_SECONDS = 0.2
for leave in (True, False):
    for _ in progress.tqdm(range(50), "counting", unit=" sheep", leave=leave):
        time.sleep(0.01)
bar = progress.tqdm(total=9, desc="short")
bar.update(9)
bar.close()
progress.tqdm.write("said meanwhile", file=sys.stderr)
"""


def test_a_pipe_gets_lines_and_no_bar():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout == b"" and b"\r" not in done.stderr
    *lines, last = done.stderr.decode().splitlines()
    assert last == "said meanwhile" and 2 <= len(lines) <= 8  # 0.5 s each, a line every 0.2 s
    for line in lines:
        assert line.startswith("counting: ") and " of 50 [" in line and "sheep/s" in line and "%" not in line


def test_a_terminal_gets_a_bar():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=theirs) as running:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    assert running.returncode == 0 and b"\rcounting: 100%|" in shown


def test_every_progress_is_drawn_here(repository):
    """Nothing else imports the class of tqdm, but for the log lines that go above its bars."""
    for folder in ("config", "datasets", "models", "solvers", "tools"):
        for path in (repository / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "from tqdm import tqdm" not in text or path.name == "runtime.py", path
