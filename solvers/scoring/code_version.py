"""A version of the code that makes numbers: results and compiled programs of other code are not used again."""

import functools
import hashlib
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PARTS = ("models/**/*.py", "solvers/scoring/*.py", "datasets/tensorize.py", "datasets/collate.py")


@functools.cache
def code_version():
    """Hex digest of the model's code, and of what brings text, regions and weights to it and takes scores from it."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for part in _PARTS for path in _ROOT.glob(part)):
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
