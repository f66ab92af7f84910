"""NumPy arrays to tensors on the device in use."""

from collections import deque

import paddle

_on_their_way = deque()  # (event behind the copies of a batch, what they read), oldest first


def to_device(*arrays):
    """Tensors of some arrays; on a GPU through pinned memory, without waiting for what it computes meanwhile.

    Paddle's own copy of a NumPy array waits. Pinned memory must stay until it has been read, hence the event behind it.
    """
    if not paddle.get_device().startswith("gpu"):
        return [paddle.to_tensor(array) for array in arrays]
    while _on_their_way and _on_their_way[0][0].query():
        _on_their_way.popleft()
    pinned = [paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()) for array in arrays]
    tensors = [source.cuda(blocking=False) for source in pinned]
    event = paddle.device.Event()
    event.record()
    _on_their_way.append((event, pinned))
    return tensors
