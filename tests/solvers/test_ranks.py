"""One process: everything is a no-op. What several do together is in test_distributed.py."""

import socket

import numpy as np
import paddle
import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import DataError, UserError
from oscar_paddle.solvers import ranks as module
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.runtime import set_device


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
    ranks.sum_gradients([weight], paddle.ones([2]))
    np.testing.assert_array_equal(weight.grad.numpy(), [1, 2, 3])
    before = weight.numpy()
    ranks.copy_from_main([weight])
    np.testing.assert_array_equal(weight.numpy(), before)


def test_buckets_cover_all_parameters(ranks, monkeypatch):
    """Gradients are summed in buckets of bounded size; a parameter without a gradient counts as zeros."""
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
    loss = paddle.to_tensor([0.5, 1.5])
    ranks.sum_gradients(parameters, loss)
    assert sum(reduced) == sum(sizes) + 2
    assert loss.tolist() == [1.0, 3.0]  # travels along
    assert max(reduced) <= 9  # one parameter larger than a bucket goes alone
    for number, (parameter, size) in enumerate(zip(parameters, sizes, strict=True)):
        expected = 0.0 if number == 2 else 2.0 * (number + 1)
        np.testing.assert_array_equal(parameter.grad.numpy(), np.full(size, expected, np.float32))


@pytest.fixture
def launched(monkeypatch):
    """The environment of rank 0 of two, and a communication that adds up ones; returns what was done."""
    done = []
    settings = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0", "PADDLE_MASTER": "127.0.0.1:0"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "_die_with_the_launcher", lambda: None)
    monkeypatch.setattr(module, "LAUNCHER_SECONDS", 0)
    monkeypatch.setattr(module.dist, "init_parallel_env", lambda: done.append("start"))
    monkeypatch.setattr(module.dist, "all_reduce", lambda ones: done.append("exchange") or ones.scale_(2.0))
    return done


def test_communicators_are_made_at_the_start(launched):
    assert Ranks().world_size == 2
    assert launched == ["start", "exchange"]


def test_a_paddle_with_cuda_connects_cpu_ranks_without_it(launched, monkeypatch):
    """As `init_parallel_env` of Paddle 3.3.1 chooses: NCCL and a GPU unless gloo is asked for."""
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("PADDLE_DISTRI_BACKEND", raising=False)
    device = []

    def start():
        device.append("cpu" if module.os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo" else "gpu:0")

    monkeypatch.setattr(module.dist, "init_parallel_env", start)
    monkeypatch.setattr(paddle, "get_device", lambda: device[0] if device else "cpu")
    cfg = get_cfg_defaults()
    cfg.MISC.DEVICE = "cpu"
    set_device(cfg)
    Ranks()
    assert device == ["cpu"]
    device.clear()
    monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "nccl")
    with pytest.raises(UserError, match="MISC.DEVICE chose cpu, but paddle.distributed computes on gpu:0"):
        Ranks()


def test_a_port_that_is_taken_is_named(launched, monkeypatch):
    """Paddle would end with signal 6, and other ranks might join those of the launch that has the port."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        monkeypatch.setenv("PADDLE_MASTER", f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(UserError, match=r"port \d+, .* has been taken .*PORT_RANGE"):
            Ranks()
    assert launched == []
    Ranks()


def test_ranks_of_two_launches(launched, monkeypatch):
    monkeypatch.setattr(module.dist, "all_reduce", lambda ones: ones.scale_(3.0))
    with pytest.raises(UserError, match="2 processes add up to 3"):
        Ranks()


def test_a_lost_rank_is_one_line(launched, monkeypatch):
    ranks = Ranks()

    def closed(*_, **__):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    monkeypatch.setattr(module.dist, "all_gather_object", closed)
    monkeypatch.setattr(module.dist, "all_reduce", closed)
    monkeypatch.setattr(module.dist, "broadcast", closed)
    weight = paddle.create_parameter([3], "float32")
    for talk in (
        lambda: ranks.gather(1),
        lambda: ranks.sum_gradients([weight], paddle.ones([1])),
        lambda: ranks.copy_from_main([weight]),
    ):
        with pytest.raises(UserError, match="another process has ended.*its log says why .*Connection closed by peer"):
            talk()
