"""The recorder of a run: the only code that changes the run's record."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence

from pipeline.runs import run_record
from pipeline.runs.run_record import RunRecord, RunStatus, StepTime

_LONGEST_ERROR = 10_000  # characters; longer records would not be read


class RunRecorder:
    """Changes the record of one run.

    The start of a step and a push are written to the record's file at once. So the
    record of a killed run names the step that ran and the version that was pushed.
    """

    def __init__(
        self,
        root: pathlib.Path,
        record: RunRecord,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._root = root
        self._record = record
        self._clock = clock  # monotonic, because the wall clock may jump
        self._start = clock()

    @property
    def record(self) -> RunRecord:
        """Returns the record with all changes so far."""
        return self._record

    def write(self) -> None:
        """Writes the record to its file; removes the file if there was nothing to do.

        Raises:
          OSError: it could not be written.
        """
        if self._record.status == RunStatus.NOTHING_TO_DO:
            run_record.discard(self._root, self._record)
        else:
            run_record.write(self._root, self._record)

    def record_run_started(self) -> None:
        """Records that the run starts now, so that its time excludes the lock wait."""
        self._start = self._clock()
        self._change(started=run_record.timestamp())

    def record_step_started(self, name: str) -> None:
        """Records the name of the step that starts, and writes the record."""
        self._change(step=name)
        self._write_if_possible()

    def record_step_completed(
        self, name: str, seconds: float, *, is_cached: bool = False
    ) -> None:
        """Records that a step completed, and its wall time in seconds."""
        step_time = StepTime(name=name, seconds=round(seconds, 3), cached=is_cached)
        self._change(steps=[*self._record.steps, step_time], step=None)

    def record_restart(self, kept_steps: Sequence[str]) -> None:
        """Removes all completed steps but `kept_steps`, because they run again."""
        kept = [step for step in self._record.steps if step.name in kept_steps]
        self._change(steps=kept)

    def record_inputs(self, *, fingerprint: str, run_key: str, baseline: str) -> None:
        """Records the data's fingerprint, the run key and the baseline."""
        self._change(fingerprint=fingerprint, run_key=run_key, baseline=baseline)

    def record_served_version(self, number: int | None) -> None:
        """Records the version that is served now."""
        self._change(served_version=number)

    def record_version_count(self, count: int | None) -> None:
        """Records the number of complete versions at the push destination."""
        self._change(versions=count)

    def record_candidate(
        self,
        *,
        elbo: float | None,
        reconstruction: float | None,
        kl: float | None,
        independent_pixels: float | None,
        estimate: str | None,
    ) -> None:
        """Records the candidate's ELBO, its terms and the log-likelihood beside it.

        All are in nats per image; `independent_pixels` is their log-likelihood.
        """
        self._change(
            elbo=elbo,
            reconstruction=reconstruction,
            kl=kl,
            independent_pixels=independent_pixels,
            estimate=estimate,
        )

    def record_baseline(self, *, elbo: float, version: int | None) -> None:
        """Records the baseline's ELBO and its difference from the candidate's.

        `record_candidate` must come first.
        """
        candidate = self._record.elbo
        self._change(
            baseline_elbo=elbo,
            baseline_version=version,
            difference=None if candidate is None else candidate - elbo,
        )

    def record_elbo_fall(self, nats: float, *, standard_errors: float) -> None:
        """Records the fall of the baseline's ELBO; a rise is negative.

        Args:
          nats: nats per image.
          standard_errors: the same in standard errors.
        """
        self._change(elbo_fall=nats, elbo_fall_standard_errors=standard_errors)

    def record_push(self, version: int) -> None:
        """Records that this run pushed a version, and writes the record."""
        self._change(status=RunStatus.PUSHED, version=version, served_version=version)
        self._write_if_possible()

    def record_refusal(self, reasons: Sequence[str]) -> None:
        """Records why the gate refused the model."""
        self._change(status=RunStatus.REFUSED, refusals=list(reasons))

    def record_unchanged(self) -> None:
        """Records that the blessed model is the served one, so nothing was pushed."""
        self._change(status=RunStatus.UNCHANGED)

    def record_nothing_to_do(self) -> None:
        """Records that the run would have repeated an earlier one and did nothing."""
        self._change(status=RunStatus.NOTHING_TO_DO)

    def record_interrupt(self) -> None:
        """Records SIGINT or SIGTERM, unless the run already has its result."""
        if self._record.status == RunStatus.RUNNING:
            self._change(status=RunStatus.INTERRUPTED, error="SIGINT or SIGTERM")

    def record_failure(self, status: RunStatus, error: str) -> None:
        """Records a failure; the status stays `pushed` after a push."""
        if self._record.status == RunStatus.PUSHED:
            status = RunStatus.PUSHED
        if len(error) > _LONGEST_ERROR:
            error = f"{error[:_LONGEST_ERROR]} (shortened)"
        self._change(status=status, error=error)

    def record_end(self) -> None:
        """Records that the run ends now, and its wall time."""
        if self._record.status == RunStatus.RUNNING:
            self.record_failure(RunStatus.FAILED, "it ended without a result")
        self._change(
            ended=run_record.timestamp(),
            seconds=round(self._clock() - self._start, 3),
        )

    def _change(self, **fields: object) -> None:
        self._record = dataclasses.replace(self._record, **fields)  # type: ignore[arg-type]

    def _write_if_possible(self) -> None:
        # The lifecycle writes the record again at the end of the run.
        with contextlib.suppress(OSError):
            self.write()


def record_death(root: pathlib.Path, record: RunRecord) -> RunRecord:
    """Records that a run's process died, and returns the new record.

    Raises:
      OSError: it could not be written.
    """
    reason = "its process died: killed, out of memory, or the machine ended"
    dead = dataclasses.replace(record, error=reason)
    run_record.write(root, dead)
    return dead
