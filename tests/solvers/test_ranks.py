"""One process: everything is a no-op. What several do together is in test_distributed.py."""

import numpy as np
import paddle
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.ranks import Ranks


@pytest.fixture
def ranks(monkeypatch):
    for name in ("PADDLE_TRAINERS_NUM", "PADDLE_TRAINER_ID"):
        monkeypatch.delenv(name, raising=False)
    return Ranks()


def test_alone(ranks):
    assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
    assert ranks.gather({"a": 1}) == [{"a": 1}]
    assert ranks.sum([1.5, 2.0]) == [1.5, 2.0]
    assert ranks.on_main(lambda: 7) == 7


def test_errors_pass(ranks):
    def fail():
        raise DataError("row 3")

    with pytest.raises(DataError, match="row 3"):
        ranks.on_main(fail)


def test_gradients_and_tensors_stay(ranks):
    weight = paddle.create_parameter([3], "float32")
    (weight * paddle.to_tensor([1.0, 2.0, 3.0])).sum().backward()
    ranks.sum_gradients([weight])
    np.testing.assert_array_equal(weight.grad.numpy(), [1, 2, 3])
    before = weight.numpy()
    ranks.copy_from_main([weight])
    np.testing.assert_array_equal(weight.numpy(), before)


def test_buckets_cover_all_parameters(ranks, monkeypatch):
    """Gradients are summed in buckets of bounded size; a parameter without a gradient counts as zeros."""
    from oscar_paddle.solvers import ranks as module

    sizes = [3, 5, 2, 9, 1, 1, 4]
    parameters = [paddle.create_parameter([size], "float32") for size in sizes]
    for number, parameter in enumerate(parameters):
        if number != 2:
            (parameter * (number + 1.0)).sum().backward()
    reduced = []

    def all_reduce(flat):  # as if a second rank held the same gradients
        reduced.append(flat.size)
        flat.scale_(2.0)

    monkeypatch.setattr(module, "_BUCKET", 8)
    monkeypatch.setattr(module.dist, "all_reduce", all_reduce)
    ranks.world_size = 2
    ranks.sum_gradients(parameters)
    assert sum(reduced) == sum(sizes)
    assert max(reduced) <= 9  # one parameter larger than a bucket goes alone
    for number, (parameter, size) in enumerate(zip(parameters, sizes, strict=True)):
        expected = 0.0 if number == 2 else 2.0 * (number + 1)
        np.testing.assert_array_equal(parameter.grad.numpy(), np.full(size, expected, np.float32))
