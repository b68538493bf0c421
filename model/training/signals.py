"""Puts off SIGINT and SIGTERM until what must not be lost is saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Deferred:
    """The signal that came, if one did."""

    def __init__(self) -> None:
        self.signal: int | None = None


@contextlib.contextmanager
def deferred() -> Iterator[Deferred]:
    """Holds the first signal back until the block ends, and then lets it act.

    The block looks at what this gives, and ends early. A second signal acts at once.
    What the process ignores it goes on ignoring.

    Raises:
      SystemExit: the signal came, and its action did not end the block's caller.
    """
    came = Deferred()
    if threading.current_thread() is not threading.main_thread():
        yield came  # only the main thread gets signals
        return

    def hold(signum, frame):
        if came.signal is not None:
            restore()
            signal.raise_signal(signum)
        came.signal = signum

    before = {
        signum: signal.signal(signum, hold)
        for signum in _SIGNALS
        if signal.getsignal(signum) is not signal.SIG_IGN
    }

    def restore():
        for signum, handler in before.items():
            signal.signal(signum, handler)

    try:
        yield came
    finally:
        restore()
        if came.signal is not None:
            signal.raise_signal(came.signal)
            # Of the first process in a container Linux takes no default action.
            raise SystemExit(128 + came.signal)
