"""The handling of SIGINT and SIGTERM: repeated interrupts and deferred signals.

This module imports only the standard library, because the command line uses it before
it imports TensorFlow.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT_AFTER = 2.0  # seconds until an interrupt is raised again


@contextlib.contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt in the block, every two seconds.

    The exception is repeated until the block ends, because a bare `except:` in Beam or
    in the imports of TensorFlow and TFX may swallow it. Code that catches the exception
    and continues must call `cancel_repeated_interrupt`.
    """

    def interrupt(signum, frame):
        signal.setitimer(signal.ITIMER_REAL, _REPEAT_AFTER)
        raise KeyboardInterrupt

    handled = (*_SIGNALS, signal.SIGALRM)
    before = {signum: signal.signal(signum, interrupt) for signum in handled}
    try:
        yield
    finally:
        cancel_repeated_interrupt()
        for signum, handler in before.items():
            signal.signal(signum, handler)


def cancel_repeated_interrupt() -> None:
    """Stops `interrupt_on_signals` from raising an interrupt again."""
    signal.setitimer(signal.ITIMER_REAL, 0)


class DeferredSignal:
    """The number of the signal that `defer_signals` holds back; None if none came."""

    def __init__(self) -> None:
        self.signal: int | None = None


@contextlib.contextmanager
def defer_signals() -> Iterator[DeferredSignal]:
    """Delays the first SIGINT or SIGTERM until the block ends.

    The block can check the yielded `DeferredSignal` and end early. A second signal acts
    at once. Signals that the process ignores stay ignored. Outside the main thread this
    function does nothing.

    Raises:
      SystemExit: a signal was received, and its normal action did not end the process
        or raise another exception.
    """
    received = DeferredSignal()
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread gets signals
        return

    def defer(signum, frame):
        if received.signal is not None:
            restore()
            signal.raise_signal(signum)
        received.signal = signum

    before = {
        signum: signal.signal(signum, defer)
        for signum in _SIGNALS
        if signal.getsignal(signum) is not signal.SIG_IGN
    }

    def restore():
        for signum, handler in before.items():
            signal.signal(signum, handler)

    try:
        yield received
    finally:
        restore()
        if received.signal is not None:
            signal.raise_signal(received.signal)
            # Linux takes no default action for the first process of a container.
            raise SystemExit(128 + received.signal)
