"""How far training is, in log records for people."""

import logging
import time
from typing import NamedTuple

logger = logging.getLogger(__name__)

_REPORT_EVERY = 0.5  # seconds between two reports within an epoch


class Progress(NamedTuple):
    """How far training is; each log record of this module carries one."""

    epoch: int  # the running one, from 1
    epochs: int
    step: int  # steps done, of all epochs
    steps: int
    elbo: float  # nats per image: one sample, dynamic binarization, train split
    eval_elbo: float | None  # ... fixed binarization, eval split; None before one
    images_per_second: float
    seconds_left: float


class Reporter:
    """Logs the progress of a training that may have begun in another process."""

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int, first: int):
        """Starts the clock.

        Args:
          epochs: of the whole training.
          steps_per_epoch: the same in each.
          batch_size: images a step.
          first: steps that were done before.
        """
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._batch_size, self._first = batch_size, first
        self._eval_elbo: float | None = None
        self._started = self._reported = time.monotonic()

    def within_epoch(self, step: int, elbo: float) -> None:
        """Reports, if it is time to.

        Args:
          step: steps done.
          elbo: the epoch's mean so far, train split.
        """
        if time.monotonic() - self._reported >= _REPORT_EVERY:
            self._report(step, elbo, logging.DEBUG)

    def epoch_ended(self, step: int, elbo: float, eval_elbo: float) -> None:
        """Reports the epoch that ended with this step."""
        self._eval_elbo = eval_elbo
        self._report(step, elbo, logging.INFO)

    def _report(self, step: int, elbo: float, level: int) -> None:
        self._reported = time.monotonic()
        steps = self._epochs * self._steps_per_epoch
        seconds_a_step = (self._reported - self._started) / (step - self._first)
        progress = Progress(
            epoch=(step - 1) // self._steps_per_epoch + 1,
            epochs=self._epochs,
            step=step,
            steps=steps,
            elbo=elbo,
            eval_elbo=self._eval_elbo,
            images_per_second=self._batch_size / seconds_a_step,
            seconds_left=(steps - step) * seconds_a_step,
        )
        logger.log(
            level,
            "epoch %d/%d, step %d/%d, ELBO %.2f nats (train), %s nats (eval), "
            "%.0f images/s, %.0f s left",
            progress.epoch,
            progress.epochs,
            step,
            steps,
            elbo,
            "-" if self._eval_elbo is None else f"{self._eval_elbo:.2f}",
            progress.images_per_second,
            progress.seconds_left,
            extra={"progress": progress},
        )
