"""What training runs leave, and whether two of them are the same but for rounding."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from oscar_paddle.models.checkpoints.weights import read_state

KEYS = ("step", "epoch", "loss", "lr", "grad_norm", "score", "metrics")


def records(run, keys=KEYS):
    """The lines of metrics.jsonl, without what depends on the clock."""
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in keys if key in line} for line in lines]


def values(run, key):
    """{step: value} of one key."""
    return {line["step"]: line[key] for line in records(run) if key in line}


def assert_equal_but_for_rounding(run, other, checkpoint):
    """Two runs, from the same checkpoint, that add up the same numbers in another order.

    Adam makes steps of a whole learning rate from gradients that are rounding noise, so single weights are no measure:
    what two runs differ by is compared with the way that they have gone, tensor by tensor and over all.
    """
    start = read_state(checkpoint)
    found, wanted = (load_file(Path(folder) / "last" / "model.safetensors") for folder in (run, other))
    assert found.keys() == wanted.keys()
    apart, moved = (
        {name: float(np.square(left[name].astype(np.float64) - right[name]).sum()) ** 0.5 for name in wanted}
        for left, right in ((found, wanted), (wanted, start))
    )
    way = sum(value**2 for value in moved.values()) ** 0.5
    assert way > 0 and sum(value**2 for value in apart.values()) ** 0.5 < 1e-3 * way
    worst = max(apart, key=lambda name: apart[name] / (moved[name] + 1e-2 * way))
    assert apart[worst] < 1e-2 * (moved[worst] + 1e-2 * way), worst
    np.testing.assert_allclose(list(values(run, "loss").values()), list(values(other, "loss").values()), rtol=1e-5)
    found, wanted = (_values(values(folder, "metrics")) for folder in (run, other))
    assert found.keys() == wanted.keys()  # and then all examples, none twice
    for path, value in wanted.items():
        near = 1e-3 if path[-1] == "loss" else 1e-5
        assert found[path] == (pytest.approx(value, rel=near) if isinstance(value, float) else value), path


def _values(metrics, place=()):
    """Nested dicts as {path: value}."""
    if not isinstance(metrics, dict):
        return {place: metrics}
    return {path: value for key, inner in metrics.items() for path, value in _values(inner, (*place, key)).items()}
