"""Signals and interrupts that wait until a block of code has ended."""

import signal
import threading

import pytest

from model.training import signals


@pytest.fixture
def handler():
    """Yields a function that sets SIGTERM's handler until the end of the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda action: signal.signal(signal.SIGTERM, action)
    signal.signal(signal.SIGTERM, before)


def test_a_signal_acts_when_the_block_has_ended(handler):
    seen = []
    handler(lambda signum, frame: seen.append(signum))
    with pytest.raises(SystemExit), signals.defer_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert seen == []
    assert seen == [signal.SIGTERM]


def test_a_signal_without_an_action_also_ends_the_process(handler):
    """Signals have no default action in a container's first process on Linux."""
    handler(lambda signum, frame: None)
    with pytest.raises(SystemExit) as ended, signals.defer_signals():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_second_signal_acts_at_once(handler):
    def act(signum, frame):
        raise KeyboardInterrupt

    handler(act)
    with pytest.raises(KeyboardInterrupt), signals.defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the second signal was held back")


def test_what_is_ignored_stays_ignored(handler):
    handler(signal.SIG_IGN)
    with signals.defer_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal is None


def test_another_thread_than_the_main_one_changes_no_handler():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def block():
        with signals.defer_signals() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.signal))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [(before, None)]


@pytest.fixture
def repeated_at_once(monkeypatch):
    """Shortens the wait after which an interrupt that was swallowed is raised again."""
    monkeypatch.setattr(signals, "_REPEAT_AFTER", 0.01)


@pytest.mark.usefixtures("repeated_at_once")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_is_swallowed_is_raised_again(signum):
    before = signal.getsignal(signum)
    swallowed = 0
    with pytest.raises(KeyboardInterrupt), signals.interrupt_on_signals():
        for _ in range(2):
            try:
                if not swallowed:
                    signal.raise_signal(signum)
                signal.pause()  # waits for the alarm
            except KeyboardInterrupt:
                swallowed += 1
        signal.pause()
    assert swallowed == 2
    assert signal.getsignal(signum) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.usefixtures("repeated_at_once")
def test_an_interrupt_that_got_through_is_cancelled():
    with signals.interrupt_on_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signals.cancel_repeated_interrupt()
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.usefixtures("repeated_at_once")
def test_an_interrupt_waits_for_the_end_of_a_block_that_must_not_be_interrupted():
    ended = False
    with (
        pytest.raises(KeyboardInterrupt),
        signals.interrupt_on_signals(),
        signals.defer_signals() as stop,
    ):
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        ended = True
    assert ended
