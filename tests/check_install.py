#!/usr/bin/env python
"""Install a wheel beside current Hugging Face packages, in a new environment, and use it: `make test-install`.

Needs the network, two minutes and 1.5 GB. `PYTHON=python3.13 make test-install` does it with another Python."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HELPERS = Path(__file__).resolve().parent / "helpers"
sys.path.insert(0, str(HELPERS))
from wheels import copy_source  # noqa: E402

PADDLE, BESIDE = "paddlepaddle==3.3.1", ("transformers", "huggingface_hub")
USE = f"import runpy, sys, {', '.join(BESIDE)}; runpy.run_path(sys.argv[1], run_name='__main__')"
VERSIONS = f"""
from importlib import metadata
import platform
names = ["oscar-paddle", "paddlepaddle", "tokenizers", "numpy", *{BESIDE!r}]
print(*(f"{{name}} {{metadata.version(name)}}" for name in names), "Python " + platform.python_version(), sep=", ")
assert not any(metadata.distributions(name="paddlenlp"))
"""


def main(folder):
    """All of it in a folder; ends the program where something is not as expected."""
    python, oscar = folder / "environment" / "bin" / "python", folder / "environment" / "bin" / "oscar-paddle"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    (folder / "elsewhere").mkdir()

    def run(*words, code=0, says=""):
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(word) for word in words]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=folder / "elsewhere", env=clean)
        last = (done.stderr.splitlines() or [""])[-1]
        if done.returncode != code or says not in last:
            sys.exit(
                f"{done.stderr}\n{command}: exit code {done.returncode}, expected {code}, and {says!r} in the last line"
            )
        if says:
            print(f"{oscar.name} {command[1]}: {last}", flush=True)

    run(sys.executable, "-m", "venv", folder / "environment")
    source = folder / "source"
    source.mkdir()
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, copy_source(source))
    (wheel,) = folder.glob("*.whl")
    run(*pip, "install", wheel)
    scoring = ["score-pairs", "--checkpoint", "x", "--features", "x.npz", "--caption", "a dog"]
    run(oscar, *scoring, code=1, says="Paddle is not installed: pip install 'oscar-paddle[cpu]'")
    run(*pip, "install", "oscar-paddle[cpu]", PADDLE, *BESIDE)
    run(python, "-c", VERSIONS)
    run(python, "-m", "pip", "--disable-pip-version-check", "check")
    run(oscar, "eval-retrieval", "--cfg_file", "configs/retrieval_test.yaml", code=1, says="exp/retrieval_train/best")
    run(python, "-c", USE, HELPERS / "everyday.py")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
