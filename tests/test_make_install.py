"""`make install`: the environment follows PYTHON. Pythons that only note what they are asked stand for real ones."""

import os
import subprocess

import pytest

PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c import"*) echo {version};;
    "-m venv")
        for place; do :; done
        if [ "$3" = --clear ]; then rm -r "$place"; fi
        mkdir -p "$place/bin"; cp "$0" "$place/bin/python"; echo "version = {version}.4" > "$place/pyvenv.cfg";;
esac
echo "{version} $*" >> {log}
"""


@pytest.fixture
def install(repository, tmp_path):
    """make install with a Python of this version; what it printed, and what was asked of which Python."""
    log = tmp_path / "log"

    def run(version):
        python = tmp_path / f"python{version}"
        python.write_text(PYTHON.format(version=version, log=log))
        python.chmod(0o755)
        log.write_text("")
        words = [f"PYTHON={python}", f"VENV={tmp_path}/venv"]
        clean = {name: value for name, value in os.environ.items() if "MAKE" not in name}  # we may be below `make test`
        done = subprocess.run(["make", "-C", repository, "install", *words], capture_output=True, text=True, env=clean)
        assert done.returncode == 0, done.stderr
        return done.stdout, [line for line in log.read_text().splitlines() if " -c " not in line]

    return run


def test_another_python_makes_the_environment_anew(install, tmp_path):
    place, pip = tmp_path / "venv", "-m pip install --quiet"
    packages = [f"{pip} --upgrade pip setuptools wheel", f"{pip} -r requirements.txt"]
    assert install("3.12")[1] == [f"3.12 {words}" for words in [f"-m venv {place}", *packages]]
    (place / "left").touch()
    assert install("3.12")[1] == []
    said, asked = install("3.13")
    assert asked == [f"3.13 {words}" for words in [f"-m venv --clear {place}", *packages]]
    assert f"== making {place} anew: it was made with Python 3.12 and PYTHON is 3.13\n" in said
    assert not (place / "left").exists() and install("3.13")[1] == []


def test_a_folder_that_make_did_not_make_is_not_cleared(install, tmp_path):
    place = tmp_path / "venv"
    install("3.12")
    (place / "pyvenv.cfg").unlink()  # as in a conda environment
    (place / ".installed").unlink()
    (place / "left").touch()
    assert not [words for words in install("3.13")[1] if "venv" in words] and (place / "left").exists()
