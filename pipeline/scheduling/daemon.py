"""Runs a command at cron's times, in a process that stays."""

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
from pipeline.scheduling.cron import trigger

_OUTCOMES = {
    OK: "done",
    BAD_INPUT: "bad input",
    REFUSED: "refused by the gate",
    INTERRUPTED: "interrupted",
    # What ends a Python that is interrupted where it can't say so.
    -signal.SIGINT: "interrupted",
    -signal.SIGTERM: "interrupted",
}

_GRACE = 60.0  # seconds that a run has to end itself after SIGTERM
_LOOK = 30.0  # seconds between looks at the clock
_ENDED = 0  # among the signals: the run ended

_UTC = datetime.timezone.utc


def run(
    cron: str, timezone: str | None, command: Sequence[str], log_folder: pathlib.Path
) -> int:
    """Runs the command at cron's times, one run at a time, until a signal ends it.

    A time that comes while a run is going is skipped. Of the times that a sleeping
    machine missed, one is made up for when it wakes.

    Args:
      cron: five fields.
      timezone: a name of the IANA database; None: local time.
      command: what to run, without a shell.
      log_folder: gets a line for each run, in schedule.log.

    Returns:
      The exit code: 130 after SIGINT, else 0.

    Raises:
      ConfigError: the expression, the time zone or the folder is bad.
    """
    return _loop(trigger(cron, timezone), command, log_folder)


def _loop(
    times: BaseTrigger,
    command: Sequence[str],
    log_folder: pathlib.Path,
    grace: float = _GRACE,
) -> int:
    with _log(log_folder) as log:
        runs = _Runs(times, command, log)
        scheduler = BackgroundScheduler(timezone=_UTC)
        scheduler.add_listener(runs.skipped, EVENT_JOB_MAX_INSTANCES)
        scheduler.add_job(
            runs.run, times, max_instances=1, coalesce=True, misfire_grace_time=None
        )
        with _signals_to(runs.events):
            runs.say(f"to run here: {shlex.join(command)}")
            scheduler.start()
            event = _ENDED
            while event == _ENDED:
                try:
                    event = runs.events.get(timeout=_LOOK)
                except queue.Empty:
                    # The scheduler's own wait does not count while a machine sleeps.
                    scheduler.wakeup()
            scheduler.pause()
            runs.stop(grace)
            scheduler.shutdown()
            runs.say(f"stopped by {signal.Signals(event).name}")
    return INTERRUPTED if event == signal.SIGINT else OK


class _Runs:
    """The runs of a command, one at a time, and what is said of them."""

    def __init__(self, times: BaseTrigger, command: Sequence[str], log: logging.Logger):
        # Of runs (_ENDED) and of signals (their numbers). Its put() is one that a
        # signal's handler may call.
        self.events: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._times, self._command, self._log = times, command, log
        self._lock = threading.Lock()  # on the two below
        self._stopping = False
        self._child: subprocess.Popen | None = None

    def run(self) -> None:
        """Runs the command, waits for its end and says what came of it."""
        started = self._now()
        with self._lock:
            if self._stopping:
                return
            try:
                # In a session of its own: else Ctrl-C would reach it too, and SIGTERM
                # from here then break into its cleaning up.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:
                self.say(f"failed: could not be started: {error}")
                return
        outcome = _outcome(self._child.wait())
        seconds = (self._now() - started).total_seconds()
        self.say(f"{outcome}, after {seconds:.1f} s, started {_shown(started)}")
        self.events.put(_ENDED)

    def skipped(self, event: JobSubmissionEvent) -> None:
        """Says that a time came while a run was going."""
        self.say("skipped this time: the run before is still going")

    def stop(self, grace: float) -> None:
        """Ends the run that is going, if one is, and lets no other begin.

        A run that goes on after `grace` seconds, or at a second signal, is killed with
        all that it started.
        """
        with self._lock:
            self._stopping = True
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.terminate()
        with contextlib.suppress(queue.Empty):
            # A terminal that closes may say so twice.
            while self.events.get(timeout=grace) == signal.SIGHUP:
                pass
        if child.poll() is None:
            self.say("killed: it did not end at SIGTERM")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def say(self, text: str) -> None:
        """Logs a line, and when the next run is if there will be one."""
        following = "" if self._stopping else f"; next {_shown(self._next())}"
        self._log.info("%s  %s%s", _shown(self._now()), text, following)

    def _now(self) -> datetime.datetime:
        return datetime.datetime.now(self._next().tzinfo)

    def _next(self) -> datetime.datetime:
        return self._times.get_next_fire_time(None, datetime.datetime.now(_UTC))


def _outcome(code: int) -> str:
    if code in _OUTCOMES:
        return _OUTCOMES[code]
    return f"failed ({f'exit code {code}' if code > 0 else f'by signal {-code}'})"


def _shown(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S %Z}"


@contextlib.contextmanager
def _log(folder: pathlib.Path) -> Iterator[logging.Logger]:
    """Gives a logger to standard output and to schedule.log."""
    try:
        filesystems.make_public_folder(str(folder.parent))  # the root
        folder.mkdir(exist_ok=True)
        file = logging.FileHandler(folder / "schedule.log", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the log folder must be one that can be written to, got {folder}: "
            f"{error.strerror}"
        ) from error
    log = logging.Logger("schedule")  # not of the tree: no setting of others' counts
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.addHandler(file)
    # It would say in its own words what is said here.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    with contextlib.closing(file):
        yield log


@contextlib.contextmanager
def _signals_to(events: queue.SimpleQueue[int]) -> Iterator[None]:
    """Puts the signals that mean the end into the queue."""
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
