"""Dynamic loss scaling for float16: halve on overflow, double after many good updates, remember across starts."""

from oscar_paddle.solvers.loss_scaler import LossScaler


def test_off_means_one():
    scaler = LossScaler(enabled=False)
    scaler.after_update(finite=False)
    assert (scaler.scale, scaler.skipped_updates, scaler.may_overflow) == (1.0, 0, False)


def test_halves_on_overflow_but_not_below_one():
    scaler = LossScaler(enabled=True)
    scales = []
    for _ in range(17):
        scales.append(scaler.scale)
        assert scaler.may_overflow == (scaler.scale > 1)
        scaler.after_update(finite=False)
    assert scales == [2.0**k for k in range(15, 0, -1)] + [1.0, 1.0]
    assert scaler.skipped_updates == 17


def test_doubles_after_good_updates_in_a_row():
    scaler = LossScaler(enabled=True)
    scaler.growth_interval = 3
    found = []
    for finite in (True, True, False, True, True, True, True):
        scaler.after_update(finite)
        found.append(scaler.scale)
    assert found == [2.0**k for k in (15, 15, 14, 14, 14, 15, 15)]


def test_state_goes_on_where_it_was():
    scaler, other = LossScaler(enabled=True), LossScaler(enabled=True)
    for finite in (True, False, True, True):
        scaler.after_update(finite)
    other.restore(scaler.state())
    for each in (scaler, other):
        each.growth_interval = 3
        each.after_update(finite=True)
    assert other.state() == scaler.state()
    assert other.scale == 2.0**15  # two good updates before, one after
