"""SIGTERM stays with whoever has asked for it."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def keeping_sigterm():
    """Put the handler of SIGTERM back behind imports that replace it, and let the signal wait meanwhile.

    Paddle 3.3 installs one that prints a C++ stack; PaddleNLP 2.8 takes every handler away
    (paddle.disable_signal_handler).
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
