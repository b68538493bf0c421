"""The run lifecycle, from the lock on the root to the notification at the end."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterator

from model.files import safe_paths
from model.training import signals
from model.training.progress import log_if_slow
from pipeline.config.loading import PipelineConfig
from pipeline.exit_codes import describe_cause
from pipeline.runs import lock, notify, prometheus, recorder, run_record
from pipeline.runs.recorder import RunRecorder
from pipeline.runs.run_record import RunRecord, RunStatus

PrintLine = Callable[[str], None]


@contextlib.contextmanager
def record_run(
    config: PipelineConfig,
    root: pathlib.Path,
    *,
    run_id: str,
    should_wait: bool,
    print_line: PrintLine,
) -> Iterator[RunRecorder]:
    """Locks the root, writes the run record of the block, and sends notifications.

    This also sends a notification of each earlier run that was killed. If the record,
    the metrics or a notification fails, a line is printed, and the run is not affected.

    Args:
      config: the settings of the run.
      root: the folder of the state of local runs.
      run_id: the id of the run.
      should_wait: whether to wait for another run that uses the root.
      print_line: prints a line for people.

    Yields:
      The recorder of the run, whose methods the block calls.

    Raises:
      LockedError: another run uses the root.
    """
    for problem in notify.find_problems(config.notify):
        print_line(problem)
    record = RunRecorder(root, run_record.create_record(config, run_id))
    with (
        _notify_at_end(config, record, print_line=print_line),
        _record_end(config, record, print_line=print_line),
        lock.hold_lock(root, should_wait=should_wait, print_line=print_line),
    ):
        record.record_run_started()
        _try_to_write("record", record.write, print_line=print_line)
        _try_to_write(
            "notification of an earlier run",
            lambda: _notify_of_deaths(config, root, print_line=print_line),
            print_line=print_line,
        )
        yield record


def _notify_of_deaths(
    config: PipelineConfig, root: pathlib.Path, *, print_line: PrintLine
) -> None:
    """Sends one notification of each earlier run that was killed before its end."""
    for record in run_record.read_all(root)[0]:
        is_dead = record.ended is None and record.process.has_ended()
        if is_dead and record.error is None:
            dead = recorder.record_death(root, record)
            if dead.status != RunStatus.PUSHED:
                dead = dataclasses.replace(dead, status=RunStatus.FAILED)
            notify.send(
                config.notify, dead, text=summarize(dead), print_line=print_line
            )


@contextlib.contextmanager
def _notify_at_end(
    config: PipelineConfig, record: RunRecorder, *, print_line: PrintLine
) -> Iterator[None]:
    """Sends the notifications of the run when the block ends."""

    def send() -> None:
        text = summarize(record.record)
        notify.send(config.notify, record.record, text=text, print_line=print_line)

    try:
        yield
    finally:
        signals.cancel_repeated_interrupt()
        with log_if_slow("sending notifications"):
            _try_to_write("notification", send, print_line=print_line)


@contextlib.contextmanager
def _record_end(
    config: PipelineConfig, record: RunRecorder, *, print_line: PrintLine
) -> Iterator[None]:
    """Records how the block ends, and writes the record and the metrics file."""
    has_started = True
    try:
        yield
    except KeyboardInterrupt:
        record.record_interrupt()
        raise
    except lock.LockedError as error:
        has_started = False  # the metrics file is that of the run that has the lock
        record.record_failure(RunStatus.FAILED, str(error))
        raise
    except BaseException as error:
        record.record_failure(RunStatus.FAILED, describe_cause(error))
        raise
    finally:
        signals.cancel_repeated_interrupt()
        with signals.defer_signals():
            record.record_end()
            _try_to_write("record", record.write, print_line=print_line)
            has_run = has_started and record.record.status != RunStatus.NOTHING_TO_DO
            if config.metrics.textfile and has_run:
                path = pathlib.Path(safe_paths.expand_home(config.metrics.textfile))
                _try_to_write(
                    "metrics",
                    lambda: prometheus.write_metrics(path, record.record),
                    print_line=print_line,
                )


def _try_to_write(
    what: str, write: Callable[[], None], *, print_line: PrintLine
) -> None:
    """Calls `write`, and prints and logs an exception instead of raising it."""
    try:
        write()
    except Exception as error:
        logging.exception("the run's %s could not be written", what)
        print_line(f"the run's {what} could not be written: {describe_cause(error)}")


def summarize(record: RunRecord) -> str:
    """Returns one line with the model, the run id, the status and the reason for it."""
    what = f"vae-pipeline: {record.model}, run {record.run_id}: "
    status = record.status.value.replace("_", " ")
    if record.status == RunStatus.PUSHED:
        then = f"; then: {record.error}" if record.error else ""
        return f"{what}pushed version {record.version}, ELBO {_elbo(record)}{then}"
    if record.status == RunStatus.REFUSED:
        return f"{what}refused: {'; '.join(record.refusals)}"
    if record.status in (RunStatus.FAILED, RunStatus.BAD_DATA):
        return f"{what}{status}: {record.error}"
    step = f" in {record.step}" if record.step else ""
    return f"{what}{status}{step}"


def _elbo(record: RunRecord) -> str:
    text = f"{record.elbo:.2f} nats per image ({record.estimate})"
    if record.independent_pixels is not None:
        text += f", independent pixels: {record.independent_pixels:.2f}"
    if record.difference is not None:
        text += f", {record.difference:+.2f} against version {record.baseline_version}"
    return text
