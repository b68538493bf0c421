"""The handling of SIGINT and SIGTERM: interrupts that get through, and deferred ones.

Only the standard library is imported: the command line uses this before TensorFlow.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT_AFTER = 2.0  # seconds until an interrupt that was swallowed is raised again


@contextlib.contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt, again until it gets through.

    Once is not enough: while TensorFlow and TFX are imported, and in Beam, a bare
    `except:` may swallow it. Code that has caught the interrupt and goes on calls
    `cancel_repeated_interrupt`.
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
    """The signal that `defer_signals` holds back, if one was received."""

    def __init__(self) -> None:
        self.signal: int | None = None


@contextlib.contextmanager
def defer_signals() -> Iterator[DeferredSignal]:
    """Holds the first signal back until the block ends, and then lets it act.

    The block checks the yielded `DeferredSignal` and ends early. A second signal acts
    at once. Signals that the process ignores stay ignored.

    Raises:
      SystemExit: a signal was received, and its action did not end the block's caller.
    """
    received = DeferredSignal()
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread gets signals
        return

    def hold(signum, frame):
        if received.signal is not None:
            restore()
            signal.raise_signal(signum)
        received.signal = signum

    before = {
        signum: signal.signal(signum, hold)
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
            # Of the first process in a container Linux takes no default action.
            raise SystemExit(128 + received.signal)
