"""How a run begins and ends: the lock, its record, its metrics, who is told of it."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

from model.files import safe_paths
from model.training import signals
from model.training.progress import log_if_slow
from pipeline.config.loading import PipelineConfig
from pipeline.exit_codes import cause
from pipeline.runs import lock, notify, prometheus
from pipeline.runs import run_record as records
from pipeline.runs.run_record import (
    BAD_DATA,
    FAILED,
    INTERRUPTED,
    NOTHING_TO_DO,
    PUSHED,
    REFUSED,
    RUNNING,
    RunRecord,
)

Say = Callable[[str], None]


@contextlib.contextmanager
def recorded(
    config: PipelineConfig, root: pathlib.Path, run_id: str, wait: bool, say: Say
) -> Iterator[RunRecord]:
    """Keeps the root to a run, records its end, whatever that is, and tells of it.

    The block fills in the record. Nothing that goes wrong with the record, the metrics
    or a notification changes the block's outcome: it is said in a line.

    Args:
      config: what is run.
      root: where its state goes.
      run_id: the run's name.
      wait: for another run on the root to end.
      say: prints a line.

    Raises:
      LockedError: another run is using the root.
    """
    for problem in notify.problems(config.notify):
        say(problem)
    record = records.begun(config, run_id)
    with (
        _told_of(config, record, say),
        _ended(config, root, record, say),
        lock.held(root, wait, say),
    ):
        record.begin()  # the wait was not the run
        _attempt("record", say, lambda: records.write(root, record))
        _attempt("end of an earlier one", say, lambda: _tell_of_died(config, root, say))
        yield record


def _tell_of_died(config: PipelineConfig, root: pathlib.Path, say: Say) -> None:
    """Tells once of each run that could not tell of its own end: it was killed."""
    for died in records.read_all(root)[0]:
        gone = died.ended is None and died.process.is_gone()
        if gone and died.error is None:
            died.error = "its process died: killed, out of memory, or the machine ended"
            records.write(root, died)
            verdict = PUSHED if died.verdict == PUSHED else FAILED
            told = dataclasses.replace(died, verdict=verdict)
            notify.send(config.notify, told, summary(told), say)


@contextlib.contextmanager
def _told_of(config: PipelineConfig, record: RunRecord, say: Say) -> Iterator[None]:
    try:
        yield
    finally:
        signals.cancel_repeated_interrupt()
        with log_if_slow("sending notifications"):
            _attempt(
                "end",
                say,
                lambda: notify.send(config.notify, record, summary(record), say),
            )


@contextlib.contextmanager
def _ended(
    config: PipelineConfig, root: pathlib.Path, record: RunRecord, say: Say
) -> Iterator[None]:
    began = True
    try:
        yield
    except KeyboardInterrupt:
        if record.verdict == RUNNING:  # else it had done its work
            record.failed(INTERRUPTED, "SIGINT or SIGTERM")
        raise
    except lock.LockedError as error:
        began = False  # the metrics are those of the run that has the lock
        record.failed(FAILED, str(error))
        raise
    except BaseException as error:
        record.failed(FAILED, cause(error))
        raise
    finally:
        signals.cancel_repeated_interrupt()
        with signals.deferred():
            record.end()
            _attempt("record", say, lambda: _leave(root, record))
            ran = began and record.verdict != NOTHING_TO_DO
            if config.metrics.textfile and ran:
                path = pathlib.Path(safe_paths.expand_home(config.metrics.textfile))
                _attempt("metrics", say, lambda: prometheus.write(path, record))


def _leave(root: pathlib.Path, record: RunRecord) -> None:
    """Writes the record; of a run that had nothing to do there is none."""
    if record.verdict == NOTHING_TO_DO:
        records.discard(root, record)
    else:
        records.write(root, record)


def _attempt(what: str, say: Say, write: Callable[[], None]) -> None:
    try:
        write()
    except Exception as error:
        say(f"the run's {what} could not be written: {cause(error)}")


def summary(record: RunRecord) -> str:
    """Returns in a line what came of a run that ended."""
    what = f"vae-pipeline: {record.model}, run {record.run_id}: "
    if record.verdict == PUSHED:
        then = f"; then: {record.error}" if record.error else ""
        return f"{what}pushed version {record.version}, ELBO {_elbo(record)}{then}"
    if record.verdict == REFUSED:
        return f"{what}refused: {'; '.join(record.refusals)}"
    if record.verdict in (FAILED, BAD_DATA):
        return f"{what}{record.verdict.replace('_', ' ')}: {record.error}"
    step = f" in {record.step}" if record.step else ""
    return f"{what}{record.verdict}{step}"


def _elbo(record: RunRecord) -> str:
    text = f"{record.elbo:.2f} nats per image ({record.estimate})"
    if record.difference is not None:
        text += f", {record.difference:+.2f} against version {record.baseline_version}"
    return text
