"""The progress of a training and its remaining time, with clocks set by hand."""

import logging
import threading

import pytest

from model.training import progress
from model.training.progress import ImageRate, Rate, Reporter, log_if_slow
from pipeline.console import Console


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Training:
    """A training that advances the clock by the time of each action."""

    def __init__(self, caplog, epochs=3, steps=100, first=0):
        self.clock, self._caplog = Clock(), caplog
        caplog.set_level(logging.DEBUG, "model.training.progress")
        self.reporter = Reporter(
            epochs, steps, batch_size=64, first=first, clock=self.clock
        )

    def take(self, steps, seconds):
        self.clock.now += seconds
        self.reporter.add(steps, seconds)

    def last(self):
        return self._caplog.records[-1].progress

    def within(self):
        self.clock.now += 0.6  # else it is too early for another report
        self.reporter.report_within_epoch(-100.0)
        return self.last()

    def ended(self):
        self.reporter.report_epoch(-100.0, -101.0)
        return self.last()


def test_the_rate_is_that_of_the_last_ten_seconds():
    rate = Rate()
    rate.add(1, 60.0)  # the first value never counts
    assert rate.seconds_per_step() is None
    rate.add(100, 10.0)
    assert rate.seconds_per_step() == pytest.approx(0.1)
    for _ in range(20):
        rate.add(1, 0.5)
    assert rate.seconds_per_step() == pytest.approx(0.5)


def test_a_stopped_clock_gives_no_rate():
    rate = Rate()
    rate.add(1, 1.0)
    rate.add(1, 0.0)
    assert rate.seconds_per_step() is None


def test_before_a_rate_is_known_none_is_shown(caplog):
    training = Training(caplog)
    training.take(1, 70.0)
    found = training.within()
    assert (found.images_per_second, found.seconds_left) == (None, None)
    assert found.describe_pace() == []
    assert caplog.messages[-1].endswith(", - nats (eval)")


def test_start_up_is_in_neither_the_rate_nor_the_time_left(caplog):
    training = Training(caplog)
    training.take(1, 70.0)
    training.take(49, 4.9)
    found = training.within()
    assert found.images_per_second == pytest.approx(640)
    assert found.seconds_left == pytest.approx(25.0)
    assert found.describe_pace() == ["640 images/s", "at least 25 s of training left"]
    assert caplog.messages[-1].endswith(
        ", 640 images/s, at least 25 s of training left"
    )


def test_what_follows_each_epoch_is_in_the_time_left_once_it_is_known(caplog):
    training = Training(caplog, epochs=4)
    training.take(1, 50.0)
    training.take(99, 9.9)
    training.clock.now += 30.0  # evaluation and checkpoint; the first step traces
    training.ended()
    training.take(50, 5.0)
    found = training.within()
    assert not found.has_epoch_ends
    assert found.seconds_left == pytest.approx(250 * 0.1)
    training.clock.now -= 0.6  # the time that `within` added
    training.take(50, 5.0)
    training.clock.now += 2.0
    training.ended()
    training.clock.now += 1.0  # the time of the checkpoint
    training.take(50, 5.0)
    found = training.within()
    assert found.has_epoch_ends
    assert found.seconds_left == pytest.approx(150 * 0.1 + 2 * 3.0)
    assert found.describe_pace()[1] == "21 s of training left"
    training.clock.now -= 0.6
    training.take(50, 5.0)
    training.clock.now += 1.0
    found = training.ended()
    assert found.seconds_left == pytest.approx(100 * 0.1 + 1 * 3.0)


def test_a_resumed_training_counts_only_the_remaining_steps(caplog):
    training = Training(caplog, first=150)
    training.take(1, 30.0)
    training.take(10, 2.0)
    found = training.within()
    assert (found.epoch, found.step, found.steps) == (2, 161, 300)
    assert found.seconds_left == pytest.approx(139 * 0.2)


def test_at_the_end_no_training_is_left(caplog):
    training = Training(caplog, epochs=1)
    training.take(1, 9.0)
    training.take(99, 9.9)
    assert training.ended().describe_pace() == ["640 images/s", "0 s of training left"]


def test_images_that_are_measured_have_a_rate_and_a_time_left():
    clock = Clock()
    rate = ImageRate(500, clock=clock)
    clock.now += 40
    assert rate.describe(128) == ["128 of 500 images"]
    clock.now += 2
    assert rate.describe(256) == ["256 of 500 images", "64 images/s", "4 s left"]


def test_a_measurement_is_logged_every_ten_seconds(caplog):
    caplog.set_level(logging.INFO, "model.training.progress")
    clock = Clock()
    rate = ImageRate(500, clock=clock)
    for seconds, done in ((9, 100), (1, 200), (9, 300), (2, 400)):
        clock.now += seconds
        rate.log(done, f"ELBO {-done}.00 nats")
    # The rate is that of the last ten seconds of work: in the end, 200 images in 11 s.
    assert [record.getMessage() for record in caplog.records] == [
        "200 of 500 images  ELBO -200.00 nats  100 images/s  3 s left",
        "400 of 500 images  ELBO -400.00 nats  18 images/s  6 s left",
    ]


class Event(threading.Event):
    """An event whose waits end as the test decides; `with` ends when all have ended."""

    def __init__(self, waits):
        super().__init__()
        self.waits, self.seconds = waits, []
        self.over = threading.Event()

    def wait(self, timeout=None):
        self.seconds.append(timeout)
        if len(self.seconds) <= self.waits:
            return False
        self.over.set()
        return super().wait(30)


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        (0, []),
        (1, ["exporting the model"]),
        (
            3,
            [
                "exporting the model",
                "exporting the model: 32 s so far",
                "exporting the model: 62 s so far",
            ],
        ),
    ],
)
def test_slow_work_is_named_repeatedly(caplog, waits, expected):
    event = Event(waits)
    with (
        caplog.at_level(logging.INFO, "model.training.progress"),
        log_if_slow("exporting the model", done=event),
    ):
        assert event.over.wait(30)
    assert caplog.messages == expected
    assert event.seconds == [2.0, 30.0, 30.0, 30.0][: waits + 1]


def test_an_immediate_failure_is_not_logged_as_slow(caplog):
    before = threading.active_count()
    with (
        caplog.at_level(logging.INFO, "model.training.progress"),
        pytest.raises(ZeroDivisionError),
        log_if_slow("dividing"),
    ):
        raise ZeroDivisionError
    assert caplog.messages == []
    assert threading.active_count() == before


def test_messages_are_on_the_steps_line_and_between_steps_on_stderr(tmp_path, capfd):
    level = logging.getLogger("model").level
    console = Console(str(tmp_path / "log"))
    try:
        progress.logger.info("verifying version 7")
        with console.step("Trainer") as step:
            progress.logger.info("exporting the model")
            progress.logger.debug("not shown")
            step.print_result("a model")
        progress.logger.info("writing the report")
    finally:
        console.close()
    out, err = capfd.readouterr()
    assert err == "verifying version 7\nwriting the report\n"
    first, second, _ = out.splitlines()
    assert (first, second) == (
        "Trainer          ...",
        "Trainer          exporting the model",
    )
    assert logging.getLogger("model").level == level
    assert "exporting the model" in (tmp_path / "log").read_text(encoding="utf-8")
