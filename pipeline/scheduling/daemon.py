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

_RESULTS = {  # of exit codes
    OK: "done",
    BAD_INPUT: "bad input",
    REFUSED: "refused by the gate",
    INTERRUPTED: "interrupted",
    # These end a Python that is interrupted where it cannot handle the signal.
    -signal.SIGINT: "interrupted",
    -signal.SIGTERM: "interrupted",
}

_GRACE = 60.0  # seconds that a run has to end after SIGTERM
_WAKE_EVERY = 30.0  # seconds between two looks of the scheduler at the clock
_RUN_ENDED = 0  # the event, among the numbers of signals

_UTC = datetime.timezone.utc


def run(
    schedule: CronSchedule,
    *,
    command: Sequence[str],
    log_folder: pathlib.Path,
) -> int:
    """Runs a command at a schedule's times, one at a time, until a signal ends this.

    A time that comes while the command runs is skipped. If the machine sleeps, the
    command runs once for all missed times when the machine wakes.

    Args:
      schedule: gives the times.
      command: the program and its arguments; no shell runs it.
      log_folder: the folder of schedule.log, which gets a line for each run.

    Returns:
      The exit code: 130 after SIGINT, else 0.

    Raises:
      ConfigError: the local time zone or the folder is bad.
    """
    schedule.find_zone()  # raises, before the log begins
    return run_at_times(_CronTrigger(schedule), command, log_folder=log_folder)


def run_at_times(
    times: BaseTrigger,
    command: Sequence[str],
    *,
    log_folder: pathlib.Path,
    grace: float = _GRACE,
) -> int:
    """Runs a command at the times of a trigger until a signal ends this.

    Args:
      times: gives the times.
      command: the program and its arguments.
      log_folder: the folder of schedule.log.
      grace: seconds that a run has to end after SIGTERM.

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
        with _signals_to(runs.events):
            runs.log_line(f"to run here: {shlex.join(command)}")
            scheduler.start()
            event = _RUN_ENDED
            while event == _RUN_ENDED:
                try:
                    event = runs.events.get(timeout=_WAKE_EVERY)
                except queue.Empty:
                    # The scheduler's own wait stands still while a machine sleeps.
                    scheduler.wakeup()
            scheduler.pause()
            runs.stop(grace)
            scheduler.shutdown()
            runs.log_line(f"stopped by {signal.Signals(event).name}")
    return INTERRUPTED if event == signal.SIGINT else OK


class _CronTrigger(BaseTrigger):
    """Gives a schedule's times to APScheduler."""

    def __init__(self, schedule: CronSchedule):
        self._schedule = schedule

    def get_next_fire_time(
        self, previous: datetime.datetime | None, now: datetime.datetime
    ) -> datetime.datetime:
        """Returns the first time after `now`: APScheduler asks when one has come."""
        return self._schedule.find_next_time(now)


class _Runs:
    """The runs of a command, one at a time, and the log of them."""

    def __init__(
        self, times: BaseTrigger, command: Sequence[str], *, log: logging.Logger
    ):
        # _RUN_ENDED and the numbers of signals. A signal's handler may call the put()
        # of a SimpleQueue.
        self.events: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._times, self._command, self._log = times, command, log
        self._lock = threading.Lock()  # guards the two fields below
        self._stopping = False
        self._child: subprocess.Popen | None = None

    def run(self) -> None:
        """Runs the command, waits for its end and logs its result."""
        started = datetime.datetime.now(_UTC)
        with self._lock:
            if self._stopping:
                return
            try:
                # In a session of its own. Otherwise Ctrl-C would reach it too, and
                # SIGTERM from here would then interrupt its cleaning up.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:
                self.log_line(f"failed: could not be started: {error}")
                return
        result = _describe_result(self._child.wait())
        # In UTC, because local times have no difference across a change of the clocks.
        seconds = (datetime.datetime.now(_UTC) - started).total_seconds()
        started = started.astimezone(self._next().tzinfo)
        self.log_line(f"{result}, after {seconds:.1f} s, started {_format(started)}")
        self.events.put(_RUN_ENDED)

    def log_skipped_time(self, event: JobSubmissionEvent) -> None:
        """Logs that a time came while the command ran."""
        self.log_line("skipped this time: the run before is still going")

    def stop(self, grace: float) -> None:
        """Ends the run that goes on, if there is one, and lets no other begin.

        A run that goes on after `grace` seconds, or at a second signal, is killed with
        all processes that it started.
        """
        with self._lock:
            self._stopping = True
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.terminate()
        with contextlib.suppress(queue.Empty):
            # A terminal that closes may send SIGHUP twice.
            while self.events.get(timeout=grace) == signal.SIGHUP:
                pass
        if child.poll() is None:
            self.log_line("killed: it did not end at SIGTERM")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def log_line(self, text: str) -> None:
        """Logs a line, with the time of the next run if there will be one."""
        following = "" if self._stopping else f"; next {_format(self._next())}"
        self._log.info("%s  %s%s", _format(self._now()), text, following)

    def _now(self) -> datetime.datetime:
        return datetime.datetime.now(self._next().tzinfo)

    def _next(self) -> datetime.datetime:
        return self._times.get_next_fire_time(None, datetime.datetime.now(_UTC))


def _describe_result(code: int) -> str:
    if code in _RESULTS:
        return _RESULTS[code]
    return f"failed ({f'exit code {code}' if code > 0 else f'by signal {-code}'})"


def _format(when: datetime.datetime) -> str:
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
            f"the log folder must be one that can be written to, got {folder}: "
            f"{error.strerror}"
        ) from error
    # Outside the tree of loggers, so that no other logger's level applies.
    log = logging.Logger("schedule")
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.addHandler(file)
    # APScheduler would log the same facts again.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    with contextlib.closing(file):
        yield log


@contextlib.contextmanager
def _signals_to(events: queue.SimpleQueue[int]) -> Iterator[None]:
    """Puts the signals that end this program into the queue."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup: goes on
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
