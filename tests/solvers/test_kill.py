"""A run that is killed with kill -9, at any moment, and started again equals an unbroken one, bit for bit."""

import random
import signal

import pytest

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.solvers.checkpoint import read_training_state

KILLED = -signal.SIGKILL


def assert_whole(run):
    """Every checkpoint under its final name, and so `last` and `best`, can be continued from."""
    for path in [*run.glob("checkpoint-*"), *(run / name for name in ("last", "best") if (run / name).is_symlink())]:
        try:
            read_training_state(path)
        except WeightsError as error:
            pytest.fail(f"after a kill: {error}")


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_file_operations(training, unbroken, result, tmp_path, seed):
    """Inside saves, between the rename and `last`, inside pruning, while metrics are written or trimmed, ..."""
    random_numbers, kills = random.Random(seed), 0
    run = tmp_path / "run"
    while True:
        # the first operations come at every start; later ones need progress that earlier kills may have denied
        code, stderr = training(run, kill_at=random_numbers.randrange(1, training.operations // 2))
        if code != KILLED:
            break
        kills += 1
        assert_whole(run)
        assert kills < 40
    assert code == 0, stderr
    assert kills >= 2
    assert result(run) == result(unbroken)
    assert not list(run.glob(".tmp-*"))


def test_killed_at_random_times(training, unbroken, result, tmp_path):
    """Anywhere: between steps, in the middle of a step, inside validation."""
    random_numbers = random.Random(11)
    run = tmp_path / "run"
    for _ in range(5):
        training.kill_after(run, random_numbers.uniform(0.3, 1.0) * training.seconds)
        assert_whole(run)
    code, stderr = training(run)
    assert code == 0, stderr
    assert result(run) == result(unbroken)


@pytest.mark.parametrize("moment", ["training_step", "scoring_batch", "inside_tensor_file"])
def test_killed_inside(training, unbroken, result, tmp_path, moment):
    """At named places that no file operation marks; see PLACES in training_server.py."""
    run = tmp_path / "run"
    for time_reached in (3, 1):
        code, stderr = training(run, kill_in=[moment, time_reached])
        assert code == KILLED, stderr
        assert_whole(run)
    code, stderr = training(run)
    assert code == 0, stderr
    assert result(run) == result(unbroken)
