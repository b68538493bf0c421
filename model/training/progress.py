"""How far long work is, in log records for people."""

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

logger = logging.getLogger(__name__)

_REPORT_EVERY = 0.5  # seconds between two reports within an epoch
_WINDOW = 10.0  # seconds of work that a rate is taken over
_FIRST_LOG_AFTER = 2.0  # seconds after which work is named
_LOG_EVERY = 30.0  # ... and then seconds between two lines


@contextlib.contextmanager
def log_if_slow(doing: str, *, done: threading.Event | None = None) -> Iterator[None]:
    """Logs what the block does once it has taken two seconds, and then twice a minute.

    Args:
      doing: such as `exporting the model`.
      done: is set when the block ends; a test gives one whose clock it turns.
    """
    done = done or threading.Event()

    def log():
        seconds = _FIRST_LOG_AFTER
        if done.wait(_FIRST_LOG_AFTER):
            return
        logger.info("%s", doing)
        while not done.wait(_LOG_EVERY):
            seconds += _LOG_EVERY
            logger.info("%s: %.0f s so far", doing, seconds)

    thread = threading.Thread(target=log, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Rate:
    """How fast steps are done, over the last ten seconds of them.

    The first ones to be added never count: they trace and compile.
    """

    def __init__(self) -> None:
        self._blocks: collections.deque[tuple[int, float]] = collections.deque()
        self._steps, self._seconds = 0, 0.0  # of them
        self._has_begun = False

    def add(self, steps: int, seconds: float) -> None:
        """Adds steps that were done, and the seconds that they took."""
        if not self._has_begun:
            self._has_begun = True
            return
        self._blocks.append((steps, seconds))
        self._steps, self._seconds = self._steps + steps, self._seconds + seconds
        while self._seconds - self._blocks[0][1] >= _WINDOW:
            steps, seconds = self._blocks.popleft()
            self._steps, self._seconds = self._steps - steps, self._seconds - seconds

    def seconds_per_step(self) -> float | None:
        """Returns the mean; None as long as it is not known."""
        if not self._steps or self._seconds <= 0:
            return None
        return self._seconds / self._steps


class ImageRate:
    """How fast images are measured, and how long the others will take, in words."""

    def __init__(self, total: int, *, clock: Callable[[], float] = time.monotonic):
        """Starts the clock.

        Args:
          total: images to measure.
          clock: gives seconds.
        """
        self._total, self._clock = total, clock
        self._rate, self._done, self._last = Rate(), 0, clock()

    def describe(self, done: int) -> list[str]:
        """Returns `128 of 500 images`, and rate and time left once they are known.

        Args:
          done: images so far; each batch is to be reported.
        """
        now = self._clock()
        self._rate.add(done - self._done, now - self._last)
        self._done, self._last = done, now
        texts = [f"{done:,} of {self._total:,} images"]
        seconds = self._rate.seconds_per_step()
        if seconds is not None:
            texts.append(f"{1 / seconds:,.0f} images/s")
            texts.append(f"{(self._total - done) * seconds:.0f} s left")
        return texts


class Progress(NamedTuple):
    """How far training is; a log record of `Reporter` carries one."""

    epoch: int  # the running one, from 1
    epochs: int
    step: int  # steps done, of all epochs
    steps: int
    elbo: float  # nats per image: one sample, dynamic binarization, train split
    eval_elbo: float | None  # ... fixed binarization, eval split; None before one
    images_per_second: float | None  # of the last steps; None before it is known
    seconds_left: float | None  # of training; what comes after it is not known
    has_epoch_ends: bool  # whether that counts evaluations and checkpoints, too

    def describe_pace(self) -> list[str]:
        """Returns the rate and the time left in words; nothing before they are known.

        How long exporting takes is known of no training, as each has one export.
        """
        if self.images_per_second is None:
            return []
        least = "" if self.has_epoch_ends else "at least "
        return [
            f"{self.images_per_second:,.0f} images/s",
            f"{least}{self.seconds_left:.0f} s of training left",
        ]


class Reporter:
    """Logs the progress of a training that may have begun in another process."""

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        *,
        batch_size: int,
        first: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the clock.

        Args:
          epochs: of the whole training.
          steps_per_epoch: the same in each.
          batch_size: images a step.
          first: steps that were done before.
          clock: gives seconds.
        """
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._batch_size, self._step = batch_size, first
        self._eval_elbo: float | None = None
        self._clock = clock
        self._reported = clock()
        self._rate = Rate()
        self._steps_ended: float | None = None  # when an epoch's last step was done
        self._ends: list[float] = []  # seconds from there to the next epoch's first

    def add(self, steps: int, seconds: float) -> None:
        """Adds steps that have just been done, and the seconds that they took."""
        now = self._clock()
        if self._steps_ended is not None:
            self._ends.append(now - seconds - self._steps_ended)
        self._step += steps
        self._rate.add(steps, seconds)
        of_epoch = self._step % self._steps_per_epoch
        self._steps_ended = None if of_epoch else now

    def report_within_epoch(self, elbo: float) -> None:
        """Reports, if it is time to.

        Args:
          elbo: the epoch's mean so far, train split.
        """
        if self._clock() - self._reported >= _REPORT_EVERY:
            self._report(elbo, logging.DEBUG)

    def report_epoch(self, elbo: float, eval_elbo: float) -> None:
        """Reports the epoch that ended with the last step."""
        self._eval_elbo = eval_elbo
        self._report(elbo, logging.INFO)

    def _report(self, elbo: float, level: int) -> None:
        self._reported = self._clock()
        step, steps = self._step, self._epochs * self._steps_per_epoch
        seconds_per_step = self._rate.seconds_per_step()
        ended = step // self._steps_per_epoch
        # The first one traces the evaluation: it never counts.
        end = self._ends[-1] if len(self._ends) > 1 else None
        seconds_left = None
        if seconds_per_step is not None:
            seconds_left = (steps - step) * seconds_per_step
            seconds_left += (self._epochs - ended) * (end or 0.0)
        progress = Progress(
            epoch=(step - 1) // self._steps_per_epoch + 1,
            epochs=self._epochs,
            step=step,
            steps=steps,
            elbo=elbo,
            eval_elbo=self._eval_elbo,
            images_per_second=seconds_per_step and self._batch_size / seconds_per_step,
            seconds_left=seconds_left,
            has_epoch_ends=end is not None or ended == self._epochs,
        )
        logger.log(
            level,
            "epoch %d/%d, step %d/%d, ELBO %.2f nats (train), %s nats (eval)%s",
            progress.epoch,
            progress.epochs,
            step,
            steps,
            elbo,
            "-" if self._eval_elbo is None else f"{self._eval_elbo:.2f}",
            "".join(f", {text}" for text in progress.describe_pace()),
            extra={"progress": progress},
        )
