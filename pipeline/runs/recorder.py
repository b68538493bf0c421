"""The one writer of a run's record: it changes the record with what happens."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence

from pipeline.runs import run_record
from pipeline.runs.run_record import RunRecord, RunStatus, StepTime


class RunRecorder:
    """Changes the record of one run.

    A step's start and a push are written at once: the record of a run that is killed
    then names the step, and the version that it pushed.
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
        self._clock = clock  # no wall clock, which may jump
        self._start = clock()

    @property
    def record(self) -> RunRecord:
        """The record as it is now."""
        return self._record

    def write(self) -> None:
        """Writes the record; of a run that had nothing to do there is none.

        Raises:
          OSError: it could not be written.
        """
        if self._record.status == RunStatus.NOTHING_TO_DO:
            run_record.discard(self._root, self._record)
        else:
            run_record.write(self._root, self._record)

    def record_run_started(self) -> None:
        """Records that the run starts now: a wait for the lock is no part of it."""
        self._start = self._clock()
        self._change(started=run_record.timestamp())

    def record_step_started(self, name: str) -> None:
        """Records the step that runs, and writes the record if that is possible."""
        self._change(step=name)
        self._write_if_possible()

    def record_step_completed(
        self, name: str, seconds: float, *, is_cached: bool = False
    ) -> None:
        """Records that the step that ran completed."""
        time_taken = StepTime(name=name, seconds=round(seconds, 3), cached=is_cached)
        self._change(steps=[*self._record.steps, time_taken], step=None)

    def record_restart(self, kept_steps: Sequence[str]) -> None:
        """Records that all completed steps but these run again."""
        kept = [step for step in self._record.steps if step.name in kept_steps]
        self._change(steps=kept)

    def record_inputs(self, *, fingerprint: str, run_key: str, baseline: str) -> None:
        """Records the data, the digest of all inputs and the baseline."""
        self._change(fingerprint=fingerprint, run_key=run_key, baseline=baseline)

    def record_served_version(self, number: int | None) -> None:
        """Records the version that is served now."""
        self._change(served_version=number)

    def record_version_count(self, count: int | None) -> None:
        """Records how many complete versions the push destination has."""
        self._change(versions=count)

    def record_candidate(
        self,
        *,
        elbo: float | None,
        reconstruction: float | None,
        kl: float | None,
        estimate: str | None,
    ) -> None:
        """Records the candidate's ELBO and its terms, in nats per image."""
        self._change(elbo=elbo, reconstruction=reconstruction, kl=kl, estimate=estimate)

    def record_baseline(self, *, elbo: float, version: int | None) -> None:
        """Records the baseline's ELBO, after the candidate's."""
        candidate = self._record.elbo
        self._change(
            baseline_elbo=elbo,
            baseline_version=version,
            difference=None if candidate is None else candidate - elbo,
        )

    def record_push(self, version: int) -> None:
        """Records that this run pushed a version, and writes the record."""
        self._change(status=RunStatus.PUSHED, version=version, served_version=version)
        self._write_if_possible()

    def record_refusal(self, reasons: Sequence[str]) -> None:
        """Records why the gate refused the model."""
        self._change(status=RunStatus.REFUSED, refusals=list(reasons))

    def record_unchanged(self) -> None:
        """Records that the gate blessed a model that is no new one."""
        self._change(status=RunStatus.UNCHANGED)

    def record_nothing_to_do(self) -> None:
        """Records that the run would only repeat the last one."""
        self._change(status=RunStatus.NOTHING_TO_DO)

    def record_interrupt(self) -> None:
        """Records SIGINT or SIGTERM, unless the run had done its work."""
        if self._record.status == RunStatus.RUNNING:
            self._change(status=RunStatus.INTERRUPTED, error="SIGINT or SIGTERM")

    def record_failure(self, status: RunStatus, error: str) -> None:
        """Records why the run ended early; a version that it pushed stays pushed."""
        if self._record.status == RunStatus.PUSHED:
            status = RunStatus.PUSHED
        self._change(status=status, error=error)

    def record_end(self) -> None:
        """Records that the run ends now."""
        if self._record.status == RunStatus.RUNNING:
            self.record_failure(RunStatus.FAILED, "it ended without a verdict")
        self._change(
            ended=run_record.timestamp(),
            seconds=round(self._clock() - self._start, 3),
        )

    def _change(self, **fields: object) -> None:
        self._record = dataclasses.replace(self._record, **fields)  # type: ignore[arg-type]

    def _write_if_possible(self) -> None:
        with contextlib.suppress(OSError):  # it is written again at the end
            self.write()


def record_death(root: pathlib.Path, record: RunRecord) -> RunRecord:
    """Writes why a run has no end, and returns its record with the reason.

    Raises:
      OSError: it could not be written.
    """
    reason = "its process died: killed, out of memory, or the machine ended"
    dead = dataclasses.replace(record, error=reason)
    run_record.write(root, dead)
    return dead
