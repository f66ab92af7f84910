"""Prepare batches ahead of the step that needs them."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


def prefetch(prepare, requests, workers):
    """Yield `prepare(request)` for every request, in order, computed ahead by a pool of threads.

    Threads share the decoded features and the token tables, leave nothing behind when the process is killed, and hand
    an error of `prepare` to the caller as it is. Decoding and packing are NumPy work, which runs beside the step.

    Args:
        prepare: function of one request.
        requests: iterable; it is read only as far as needed.
        workers: threads; 0 prepares each batch when it is asked for.
    """
    if workers == 0:
        yield from map(prepare, requests)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    pending, requests = deque(), iter(requests)
    try:
        for request in requests:
            pending.append(pool.submit(prepare, request))
            if len(pending) > workers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
