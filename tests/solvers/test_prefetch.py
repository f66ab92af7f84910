"""Batches come in order, ahead of need but not without limit, and errors arrive where they belong."""

import threading

import pytest

from oscar_paddle.solvers.prefetch import prefetch


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_in_order(workers):
    assert list(prefetch(lambda number: number * number, range(50), workers)) == [n * n for n in range(50)]


def test_works_ahead_within_a_bound():
    started, release = [], threading.Event()

    def prepare(number):
        started.append(number)
        if number:
            release.wait(10)
        return number

    batches = prefetch(prepare, iter(range(1000)), workers=2)
    assert next(batches) == 0
    for _ in range(200):
        if len(started) == 3:
            break
        threading.Event().wait(0.01)
    assert sorted(started) == [0, 1, 2]  # two threads are at work on what comes next; the rest waits its turn
    release.set()
    batches.close()
    assert len(started) < 10


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_come_after_the_batches_before_them(workers):
    def prepare(number):
        if number == 3:
            raise ValueError("number 3")
        return number

    batches = prefetch(prepare, range(10), workers)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="number 3"):
        next(batches)


def test_closing_ends_the_threads():
    before = threading.active_count()
    batches = prefetch(lambda number: number, range(1000), workers=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before
