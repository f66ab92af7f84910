"""`make install GPU=...` in words: nothing is downloaded here."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(*words):
    done = subprocess.run(["make", "-n", "install", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_gpu_wheel_replaces_the_other_one(tmp_path):
    said = commands("GPU=cu126", f"VENV={tmp_path / 'venv'}")
    removed = said.index("pip uninstall --quiet --yes paddlepaddle paddlepaddle-gpu")
    installed = said.index("paddlepaddle-gpu==3.3.1 -i https://www.paddlepaddle.org.cn/packages/stable/cu126/")
    assert removed < installed < said.index("-r requirements-gpu.txt")
    assert "-r requirements.txt" not in said
    assert "uninstall" not in commands(f"VENV={tmp_path / 'venv'}")


def test_both_wheels_are_of_the_version_that_was_read():
    for name in ("", "-gpu"):
        lines = (ROOT / f"requirements{name}.txt").read_text().splitlines()
        assert f"paddlepaddle{name}==3.3.1" in lines
