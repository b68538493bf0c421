"""Progress reports of long work: log records with rates and remaining times."""

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

logger = logging.getLogger(__name__)

_REPORT_EVERY = 0.5  # seconds between two reports within an epoch
_MEASURED_EVERY = 10.0  # seconds between two lines of a measurement
_WINDOW = 10.0  # seconds of work that a rate is the mean of
_FIRST_LOG_AFTER = 2.0  # seconds before the first line of `log_if_slow`
_LOG_EVERY = 30.0  # seconds between two later lines of `log_if_slow`


@contextlib.contextmanager
def log_if_slow(doing: str, *, done: threading.Event | None = None) -> Iterator[None]:
    """Logs the block's work after two seconds, and then every 30 seconds until it ends.

    Args:
      doing: description of the work, such as `exporting the model`.
      done: event to set when the block ends; tests pass one with a controlled clock.
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
    """The mean time per step over the last ten seconds of work.

    The first steps that are added are ignored, because TensorFlow traces and compiles
    in them.
    """

    def __init__(self) -> None:
        self._blocks: collections.deque[tuple[int, float]] = collections.deque()
        self._steps, self._seconds = 0, 0.0  # sums over the blocks
        self._has_begun = False

    def add(self, steps: int, seconds: float) -> None:
        """Adds a number of finished steps and the seconds that they took together."""
        if not self._has_begun:
            self._has_begun = True
            return
        self._blocks.append((steps, seconds))
        self._steps, self._seconds = self._steps + steps, self._seconds + seconds
        while self._seconds - self._blocks[0][1] >= _WINDOW:
            steps, seconds = self._blocks.popleft()
            self._steps, self._seconds = self._steps - steps, self._seconds - seconds

    def seconds_per_step(self) -> float | None:
        """Returns the mean seconds per step; None until the second call of `add`."""
        if not self._steps or self._seconds <= 0:
            return None
        return self._seconds / self._steps


class ImageRate:
    """The rate at which images are measured, and the time for the remaining images."""

    def __init__(self, total: int, *, clock: Callable[[], float] = time.monotonic):
        """Starts the clock.

        Args:
          total: number of images to measure.
          clock: returns the time in seconds.
        """
        self._total, self._clock = total, clock
        self._rate, self._done, self._last = Rate(), 0, clock()
        self._logged = self._last

    def describe(self, done: int) -> list[str]:
        """Returns texts: `128 of 500 images`, and, if known, rate and remaining time.

        Must be called after each batch.

        Args:
          done: number of images measured so far.
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

    def log(self, done: int, result: str) -> None:
        """Logs a progress line if ten seconds have passed since the last one.

        Must be called after each batch, in place of `describe`.

        Args:
          done: number of images measured so far.
          result: what was measured so far.
        """
        images, *pace = self.describe(done)
        if self._last - self._logged >= _MEASURED_EVERY:
            self._logged = self._last
            logger.info("%s", "  ".join([images, result, *pace]))


class Progress(NamedTuple):
    """The progress of a training, which each log record of `Reporter` carries."""

    epoch: int  # number of the current epoch, from 1
    epochs: int
    step: int  # number of finished steps, over all epochs
    steps: int
    elbo: float  # train split, random binarization, one sample; nats per image
    eval_elbo: float | None  # eval split, fixed binarization; None if not yet measured
    images_per_second: float | None  # in the last steps; None until it is known
    seconds_left: float | None  # until training ends; the export comes on top
    has_epoch_ends: bool  # whether seconds_left includes evaluations and checkpoints

    def describe_pace(self) -> list[str]:
        """Returns texts with the rate and the remaining time; [] until they are known.

        The time does not include the export, whose duration is not known in advance.
        """
        if self.images_per_second is None:
            return []
        least = "" if self.has_epoch_ends else "at least "
        return [
            f"{self.images_per_second:,.0f} images/s",
            f"{least}{self.seconds_left:.0f} s of training left",
        ]


class Reporter:
    """Logs the progress of a training, which may have begun in an earlier process."""

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
          epochs: number of epochs of the whole training.
          steps_per_epoch: number of steps in each epoch.
          batch_size: number of images per step.
          first: number of steps that earlier processes finished.
          clock: returns the time in seconds.
        """
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._batch_size, self._step = batch_size, first
        self._eval_elbo: float | None = None
        self._clock = clock
        self._reported = clock()
        self._rate = Rate()
        self._steps_ended: float | None = None  # time of the last step of an epoch
        self._ends: list[float] = []  # seconds between two epochs' steps

    def add(self, steps: int, seconds: float) -> None:
        """Adds steps that have just finished, and the seconds that they took."""
        now = self._clock()
        if self._steps_ended is not None:
            self._ends.append(now - seconds - self._steps_ended)
        self._step += steps
        self._rate.add(steps, seconds)
        of_epoch = self._step % self._steps_per_epoch
        self._steps_ended = None if of_epoch else now

    def report_within_epoch(self, elbo: float) -> None:
        """Logs the progress at level DEBUG, at most twice a second.

        Args:
          elbo: mean ELBO of the current epoch's steps, train split, nats per image.
        """
        if self._clock() - self._reported >= _REPORT_EVERY:
            self._report(elbo, logging.DEBUG)

    def report_epoch(self, elbo: float, eval_elbo: float) -> None:
        """Logs the progress at the end of an epoch, at level INFO.

        Args:
          elbo: mean ELBO of the epoch's steps, train split, nats per image.
          eval_elbo: mean ELBO of the eval split, nats per image.
        """
        self._eval_elbo = eval_elbo
        self._report(elbo, logging.INFO)

    def _report(self, elbo: float, level: int) -> None:
        self._reported = self._clock()
        step, steps = self._step, self._epochs * self._steps_per_epoch
        seconds_per_step = self._rate.seconds_per_step()
        ended = step // self._steps_per_epoch
        # The first one is ignored, because TensorFlow traces the evaluation in it.
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
