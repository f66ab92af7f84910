"""The fuzz run finds what it is for, and a short one over the readers finds nothing (`make fuzz` is the long one)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("fuzz_readers.py")

BAD_READERS = """
import ctypes, time
from fuzz_targets import Target
from oscar_paddle.config.errors import DataError

def sound():
    return [{"file": b"0123456789" * 20}]

def reader(misbehave):
    def read(folder):
        file = folder / "file"
        if not file.exists():
            raise DataError("no file")
        if not file.read_bytes().startswith(b"0123"):
            misbehave(folder)
    return read

def refuse(folder):
    raise DataError("one line")

def two_lines(folder):
    raise DataError("two\\nlines")

TARGETS = {name: Target(sound, reader(misbehave)) for name, misbehave in {
    "good": refuse,
    "crash": lambda folder: {}["key"],
    "lines": two_lines,
    "memory": lambda folder: bytearray(100 << 20),
    "loop": lambda folder: time.sleep(1000),
    "segfault": lambda folder: ctypes.string_at(0),
}.items()}
TARGETS["strict"] = Target(sound, refuse)
"""
FOUND = {
    "crash": "KeyError: 'key'",
    "lines": "not one line",
    "memory": "for files of",
    "loop": "still reading after 2 s",
    "segfault": "ended with -11",
    "strict": "sound files were refused: one line",
}


def fuzz(tmp_path, *words):
    command = [sys.executable, str(DRIVER), "--failures", str(tmp_path / "failures"), *map(str, words)]
    limits = {**os.environ, "FUZZ_SECONDS": "2", "FUZZ_MEGABYTES": "60"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=limits)


@pytest.mark.slow
def test_misbehaviour_is_found_kept_and_replayed(tmp_path):
    module = tmp_path / "bad.py"
    module.write_text(BAD_READERS)
    done = fuzz(tmp_path, "--module", module, "--targets", "good", *FOUND, "--minutes", 0.01, "--least", 150)
    assert done.returncode == 1, done.stdout + done.stderr
    for name, words in FOUND.items():
        kept = tmp_path / "failures" / f"{name}-1"
        assert words in (kept / "what.txt").read_text(), name
        assert set(json.loads((kept / "files.json").read_text())) == {"file"}
    assert not (tmp_path / "failures" / "good-1").exists()
    again = fuzz(tmp_path, "--module", module, "--replay", tmp_path / "failures" / "crash-1")
    assert again.returncode == 1 and "KeyError" in again.stderr


@pytest.mark.slow
def test_the_readers_behave(tmp_path):
    targets = ("torch_files", "lists", "features_tsv", "other_layouts")  # all of them in `make fuzz`
    done = fuzz(tmp_path, "--targets", *targets, "--minutes", 0.01, "--least", 60)
    assert done.returncode == 0 and " 0 misbehaved" in done.stdout, done.stdout + done.stderr
