"""The local scheduler: runs a command at the times of a cron expression."""

import contextlib
import datetime
import logging
import os
import pathlib
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from model.files import filesystems
from pipeline.config.loading import ConfigError
from pipeline.exit_codes import BAD_INPUT, INTERRUPTED, OK, REFUSED
from pipeline.scheduling.cron import CronSchedule

_RESULTS = {  # exit code -> text for the log
    OK: "done",
    BAD_INPUT: "bad input",
    REFUSED: "refused by the gate",
    INTERRUPTED: "interrupted",
    # Python may end by the signal itself if it comes while Python starts or ends.
    -signal.SIGINT: "interrupted",
    -signal.SIGTERM: "interrupted",
}

_GRACE = 60.0  # seconds between SIGTERM and SIGKILL for a run
_WAKE_EVERY = 30.0  # seconds after which the scheduler reads the clock again
_RUN_ENDED = 0  # an event; all other events are numbers of signals

_UTC = datetime.timezone.utc


def run_schedule(
    schedule: CronSchedule,
    *,
    command: Sequence[str],
    log_folder: pathlib.Path,
) -> int:
    """Runs a command at a schedule's times until this process gets a signal to end.

    Skips a time that comes while the command runs. When the machine wakes from sleep,
    the command runs once for all missed times.

    Args:
      schedule: the schedule.
      command: the program and its arguments, which are run without a shell.
      log_folder: the folder of schedule.log, which gets a line for each run.

    Returns:
      The exit code: 130 after SIGINT, else 0.

    Raises:
      ConfigError: the local time zone is not in the IANA database, or the folder can't
        be written to.
    """
    schedule.find_zone()  # raises its error before the log begins
    return run_at_times(_CronTrigger(schedule), command, log_folder=log_folder)


def run_at_times(
    times: BaseTrigger,
    command: Sequence[str],
    *,
    log_folder: pathlib.Path,
    grace: float = _GRACE,
) -> int:
    """Runs a command at a trigger's times until this process gets a signal to end.

    Args:
      times: APScheduler's trigger.
      command: the program and its arguments.
      log_folder: the folder of schedule.log.
      grace: seconds between SIGTERM and SIGKILL for a run.

    Returns:
      The exit code: 130 after SIGINT, else 0.
    """
    with _open_log(log_folder) as log:
        runs = _Runs(times, command, log=log)
        scheduler = BackgroundScheduler(timezone=_UTC)
        scheduler.add_listener(runs.log_skipped_time, EVENT_JOB_MAX_INSTANCES)
        scheduler.add_job(
            runs.run, times, max_instances=1, coalesce=True, misfire_grace_time=None
        )
        with _send_signals_to(runs.events):
            runs.log_line(f"scheduled: {shlex.join(command)}")
            scheduler.start()
            event = _RUN_ENDED
            while event == _RUN_ENDED:
                try:
                    event = runs.events.get(timeout=_WAKE_EVERY)
                except queue.Empty:
                    # The scheduler's own timer stops while the machine sleeps.
                    scheduler.wakeup()
            scheduler.pause()
            runs.stop(grace)
            scheduler.shutdown()
            runs.log_line(f"stopped by {signal.Signals(event).name}")
    return INTERRUPTED if event == signal.SIGINT else OK


class _CronTrigger(BaseTrigger):
    """APScheduler's trigger for the times of a schedule."""

    def __init__(self, schedule: CronSchedule):
        self._schedule = schedule

    def get_next_fire_time(
        self, previous: datetime.datetime | None, now: datetime.datetime
    ) -> datetime.datetime:
        """Returns the first time of the schedule after `now`."""
        return self._schedule.find_next_time(now)


class _Runs:
    """The runs of a command, one at a time, and their log."""

    def __init__(
        self, times: BaseTrigger, command: Sequence[str], *, log: logging.Logger
    ):
        # _RUN_ENDED and the numbers of signals. A signal's handler may call the put()
        # of a SimpleQueue.
        self.events: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._times, self._command, self._log = times, command, log
        self._lock = threading.Lock()  # guards the two fields below
        self._is_stopping = False
        self._child: subprocess.Popen | None = None

    def run(self) -> None:
        """Runs the command, waits for its end and logs its result."""
        started = datetime.datetime.now(_UTC)
        with self._lock:
            if self._is_stopping:
                return
            try:
                # In a session of its own. Otherwise Ctrl-C would send SIGINT to the
                # run too, and SIGTERM from here would interrupt the run's clean-up.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:
                self.log_line(f"failed: could not be started: {error}")
                return
        result = _describe_result(self._child.wait())
        # In UTC, because differences of local times are wrong when the clocks change.
        seconds = (datetime.datetime.now(_UTC) - started).total_seconds()
        started = started.astimezone(self._find_next_time().tzinfo)
        self.log_line(
            f"{result}, after {seconds:.1f} s, started {_format_time(started)}"
        )
        self.events.put(_RUN_ENDED)

    def log_skipped_time(self, event: JobSubmissionEvent) -> None:
        """Logs that a time was skipped because the previous run is still active."""
        self.log_line("skipped: the previous run is still active")

    def stop(self, grace: float) -> None:
        """Stops the active run, if there is one, and prevents new runs.

        Sends SIGTERM. After `grace` seconds or at a second signal, kills the run and
        all processes that it started.

        Args:
          grace: seconds between SIGTERM and SIGKILL.
        """
        with self._lock:
            self._is_stopping = True
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.terminate()
        with contextlib.suppress(queue.Empty):
            # A second SIGHUP does not count: a closing terminal may send two.
            while self.events.get(timeout=grace) == signal.SIGHUP:
                pass
        if child.poll() is None:
            self.log_line("killed: the run did not end after SIGTERM")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def log_line(self, text: str) -> None:
        """Logs a line with the current time and the time of the next run, if any.

        Args:
          text: what happened.
        """
        following = (
            ""
            if self._is_stopping
            else f"; next {_format_time(self._find_next_time())}"
        )
        self._log.info("%s  %s%s", _format_time(self._now()), text, following)

    def _now(self) -> datetime.datetime:
        return datetime.datetime.now(self._find_next_time().tzinfo)

    def _find_next_time(self) -> datetime.datetime:
        return self._times.get_next_fire_time(None, datetime.datetime.now(_UTC))


def _describe_result(code: int) -> str:
    if code in _RESULTS:
        return _RESULTS[code]
    return f"failed ({f'exit code {code}' if code > 0 else f'by signal {-code}'})"


def _format_time(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S %Z}"


@contextlib.contextmanager
def _open_log(folder: pathlib.Path) -> Iterator[logging.Logger]:
    """Yields a logger that writes to standard output and to schedule.log."""
    try:
        filesystems.make_public_folder(str(folder.parent))  # the root
        folder.mkdir(exist_ok=True)
        file = logging.FileHandler(folder / "schedule.log", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the log folder must be writable, got {folder}: {error.strerror}"
        ) from error
    # Not by logging.getLogger, so that no other logger's level or handlers apply.
    log = logging.Logger("schedule")
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.addHandler(file)
    # APScheduler would log the same events again.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    with contextlib.closing(file):
        yield log


@contextlib.contextmanager
def _send_signals_to(events: queue.SimpleQueue[int]) -> Iterator[None]:
    """Puts the signals that end this process into a queue, while the context is open.

    Args:
      events: the queue, which gets the numbers of the signals.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
        signals.append(signal.SIGHUP)
    before = {
        signum: signal.signal(signum, lambda signum, frame: events.put(signum))
        for signum in signals
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
