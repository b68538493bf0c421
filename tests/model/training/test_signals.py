import signal

import pytest

from model.training import signals


@pytest.fixture
def handler():
    """Sets SIGTERM's, for a test."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda action: signal.signal(signal.SIGTERM, action)
    signal.signal(signal.SIGTERM, before)


def test_a_signal_acts_when_the_block_has_ended(handler):
    seen = []
    handler(lambda signum, frame: seen.append(signum))
    with pytest.raises(SystemExit), signals.deferred() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert seen == []
    assert seen == [signal.SIGTERM]


def test_a_signal_whose_action_is_nothing_ends_the_process_all_the_same(handler):
    """As Linux has it for the first process of a container."""
    handler(lambda signum, frame: None)
    with pytest.raises(SystemExit) as ended, signals.deferred():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_second_signal_acts_at_once(handler):
    def act(signum, frame):
        raise KeyboardInterrupt

    handler(act)
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the second signal was held back")


def test_what_is_ignored_stays_ignored(handler):
    handler(signal.SIG_IGN)
    with signals.deferred() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal is None
