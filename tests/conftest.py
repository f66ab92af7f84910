"""What tests share: the golden folder, the real data when it is there, and one way to compute.

Helpers that are no fixtures lie in tests/helpers and are imported by their names (pytest's `pythonpath`).
"""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from oscar_paddle.solvers.machine import cpu_vendor

# As solvers.machine.prepare would, and before anything loads Paddle: a tool that runs in this process must not choose
# another maths path for the processes that are started after it.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
if cpu_vendor() == "AuthenticAMD":
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")

# Below a script's "&" Ctrl-C is ignored, and so it would be by everything that starts here; tools are to heed it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: an example that writes files takes as long as the machine lets it.
hypothesis.settings.register_profile("untimed")
hypothesis.settings.load_profile("untimed")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def pytest_runtest_setup(item):
    needs_shared = item.get_closest_marker("shared") or "shared" in item.fixturenames
    if needs_shared and not (SHARED / "golden" / "retrieval").is_dir():  # other folders of that name may lie there
        pytest.skip(f"{SHARED} is not here: real photographs and full golden sets are not part of the project")


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def shared():
    return SHARED


@pytest.fixture(scope="session")
def golden():
    """The retrieval golden set: a tiny checkpoint, tiny data, and what the reference computed with them."""
    return REPOSITORY / "tests" / "golden" / "retrieval"


@pytest.fixture
def write(tmp_path):
    """Writes a file below the test's folder and returns its path: write(text, name="exp.yaml")."""

    def write(text, name="exp.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
