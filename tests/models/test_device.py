"""Batches on their way to a GPU, whose calls are stubbed here; tools/check_gpu.py tries them on a card."""

import numpy as np
import paddle

from oscar_paddle.models import device


def test_on_a_cpu():
    ids, values = device.to_device(np.array([3, 1]), np.ones(2, np.float32))
    assert ids.tolist() == [3, 1] and values.dtype == paddle.float32


def test_pinned_memory_stays_until_it_was_read(monkeypatch):
    events, copies = [], []

    class Event:
        def __init__(self):
            self.recorded = self.reached = False
            events.append(self)

        def record(self):
            self.recorded = True

        def query(self):
            return self.reached

    class Pinned:
        def __init__(self, array, place):
            self.array = array

        def cuda(self, blocking):
            copies.append((self.array, blocking))
            return self.array

    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned")
    monkeypatch.setattr(paddle, "to_tensor", Pinned)
    monkeypatch.setattr(paddle.device, "Event", Event)
    monkeypatch.setattr(device, "_on_their_way", type(device._on_their_way)())
    assert device.to_device(1, 2) == [1, 2]
    device.to_device(3)
    assert copies == [(1, False), (2, False), (3, False)]
    assert all(event.recorded for event in events) and len(device._on_their_way) == 2
    events[0].reached = True
    device.to_device(4)
    assert [[source.array for source in pinned] for _, pinned in device._on_their_way] == [[3], [4]]
