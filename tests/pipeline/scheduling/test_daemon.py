"""The scheduler, with real processes and signals; its trigger is faster than cron."""

import contextlib
import datetime
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from pipeline.config.loading import ConfigError
from pipeline.scheduling import daemon
from pipeline.scheduling.cron import parse_cron

ROOT = pathlib.Path(__file__).parents[3]

# Runs at an interval of seconds, or at the given seconds after its start, which may be
# negative.
SCHEDULER = """
import datetime, pathlib, sys
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger
from pipeline.scheduling import daemon

class Times(BaseTrigger):
    def __init__(self, seconds):
        now = datetime.datetime.now(datetime.timezone.utc)
        self.times = [now + datetime.timedelta(seconds=s) for s in seconds]
    def get_next_fire_time(self, previous, now):
        return next(t for t in self.times if previous is None or t > previous)

seconds, grace, folder, *command = sys.argv[1:]
seconds = [float(s) for s in seconds.split(",")]
times = Times(seconds) if seconds[1:] else IntervalTrigger(seconds=seconds[0])
sys.exit(
    daemon.run_at_times(
        times, command, log_folder=pathlib.Path(folder), grace=float(grace)
    )
)
"""

# Prints its process id. After SIGTERM, ends when the file `go` exists.
TIDY = """
tidy() {
    echo stopping >>events
    while [ ! -e go ]; do sleep 0.02; done
    echo stopped >>events
    exit 130
}
trap tidy TERM
echo $$ >pid; while :; do sleep 0.05; done
"""

# Ignores SIGTERM, and so does its child process.
STUBBORN = """
trap 'echo stopping >>events' TERM
(trap '' TERM; exec sleep 300) & echo $! >grandchild
echo $$ >pid; while :; do sleep 0.05; done
"""


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts a scheduler of a shell command in tmp_path."""
    processes = []

    def start(shell, seconds=0.5, grace=30.0, before=()):
        command = [*before, sys.executable, "-c", SCHEDULER, str(seconds), str(grace)]
        process = subprocess.Popen(
            [*command, str(tmp_path / "logs"), "/bin/sh", "-c", shell],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # The tests may run under nohup or a similar program, which ignores SIGHUP.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    for name in ("pid", "grandchild"):
        with contextlib.suppress(OSError):
            os.kill(int((tmp_path / name).read_text()), signal.SIGKILL)


def wait_for(file, pattern=r".*\n", seconds=30):
    """Waits until a file's text matches a pattern, and returns the text."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = file.read_text() if file.exists() else ""
        if re.search(pattern, text):
            return text
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in {file}: {text}")


def wait_until_delivered(process, seconds=30):
    """Waits until all signals to a process are delivered."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = status.read_text(encoding="utf-8")
        if not any(
            int(mask, 16) for mask in re.findall(r"(?:Sig|Shd)Pnd:\s(\w+)", text)
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"a signal to {process.pid} is still pending")


def alive(pid):
    try:
        status = pathlib.Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_each_run_has_a_line_with_its_outcome(start, tmp_path):
    (tmp_path / "codes").write_text("0\n2\n3\n130\n1\n")
    # Each run ends with the next exit code; a signal kills the run after the last.
    process = start(
        "code=$(head -n 1 codes); sed -i 1d codes; date +output%s; "
        '[ "$code" ] || kill -9 $$; exit $code'
    )
    log = tmp_path / "logs" / "schedule.log"
    wait_for(log, r"by signal 9")
    process.terminate()
    printed, _ = process.communicate(timeout=30)
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+"
    first, *lines = log.read_text().splitlines()
    assert re.fullmatch(rf"{when}  scheduled: /bin/sh -c 'code=.*", first)
    assert re.search(rf"exit \$code'; next {when}\n", log.read_text())
    outcomes = [
        match[1]
        for line in lines
        if (
            match := re.fullmatch(
                rf"{when}  (.+), after \d\.\d s, started {when}; next {when}", line
            )
        )
    ]
    assert outcomes[:6] == [
        *("done", "bad input", "refused by the gate", "interrupted"),
        *("failed (exit code 1)", "failed (by signal 9)"),
    ]
    assert re.fullmatch(rf"{when}  stopped by SIGTERM", lines[-1])
    assert re.sub(r"output\d+\n", "", printed) == log.read_text()


def test_a_time_that_comes_while_a_run_is_going_is_skipped(start, tmp_path):
    start(
        "echo begin >>events; while [ ! -e go ]; do sleep 0.02; done; echo end >>events"
    )
    log = tmp_path / "logs" / "schedule.log"
    wait_for(log, r"  skipped: the previous run is still active; next ")
    assert (tmp_path / "events").read_text() == "begin\n"
    (tmp_path / "go").touch()
    wait_for(tmp_path / "events", r"(begin\nend\n){2}")


def test_a_command_that_cannot_be_started_is_tried_again(tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", SCHEDULER, "0.5", "1"),
            *(str(tmp_path), str(tmp_path / "absent")),
        ],
        cwd=ROOT,
    )
    line = r"failed: could not be started: \[Errno 2\] No such file.*absent'; next .*\n"
    try:
        wait_for(tmp_path / "schedule.log", rf"(?:.*{line}){{2}}")
    finally:
        process.terminate()
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)]
)
def test_a_signal_ends_an_idle_scheduler(start, tmp_path, signum, code):
    process = start("exit 0", seconds=3600)
    log = tmp_path / "logs" / "schedule.log"
    wait_for(log, "scheduled: ")
    process.send_signal(signum)
    assert process.wait(timeout=30) == code
    assert f"stopped by {signum.name}\n" in log.read_text()


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_is_sent_to_the_run_and_the_scheduler_waits_for_its_end(
    start, tmp_path, signum, code
):
    process = start(TIDY)
    pid = wait_for(tmp_path / "pid")
    process.send_signal(signum)
    wait_for(tmp_path / "events", "stopping")
    assert process.poll() is None
    (tmp_path / "go").touch()
    assert process.wait(timeout=30) == code
    assert (tmp_path / "events").read_text() == "stopping\nstopped\n"
    assert not alive(pid)
    log = (tmp_path / "logs" / "schedule.log").read_text()
    assert re.search(r"interrupted, after \d.*\n.*stopped by", log)
    assert "killed" not in log
    assert "next" not in log.splitlines()[-2]


def test_a_run_that_does_not_end_is_killed_with_all_that_it_started(start, tmp_path):
    process = start(STUBBORN, grace=0.3)
    pid, grandchild = wait_for(tmp_path / "pid"), wait_for(tmp_path / "grandchild")
    stopping = time.monotonic()
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert time.monotonic() - stopping >= 0.3
    assert (tmp_path / "events").read_text() == "stopping\n"
    assert not alive(pid)
    assert not alive(grandchild)
    log = (tmp_path / "logs" / "schedule.log").read_text()
    assert re.search(
        r"killed: the run did not end after SIGTERM\n.*failed \(by signal 9\)", log
    )


def test_a_second_signal_kills_at_once(start, tmp_path):
    process = start(STUBBORN, grace=600.0)
    pid = wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "events", "stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert not alive(pid)


def test_a_closed_terminal_may_send_two_signals(start, tmp_path):
    process = start(TIDY)
    wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGHUP)
    wait_for(tmp_path / "events", "stopping")
    process.send_signal(signal.SIGHUP)
    wait_until_delivered(process)
    (tmp_path / "go").touch()
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "events").read_text() == "stopping\nstopped\n"


def test_nohup_keeps_the_process_running(start, tmp_path):
    process = start("exit 0", seconds=3600, before=["nohup"])
    wait_for(tmp_path / "logs" / "schedule.log", "scheduled: ")
    process.send_signal(signal.SIGHUP)
    wait_until_delivered(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    log = (tmp_path / "logs" / "schedule.log").read_text()
    assert "stopped by SIGTERM\n" in log


def test_only_one_of_several_missed_times_is_run_later(start, tmp_path):
    """All times but the last are in the past, as on a machine that was suspended."""
    process = start("echo ran >>ran", seconds="-7200,-3600,-1800,86400")
    log = tmp_path / "logs" / "schedule.log"
    wait_for(log, "done")
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert "skipped" not in log.read_text()


def test_run_prints_the_next_time_in_the_time_zone(tmp_path):
    code = (
        "import pathlib, sys\n"
        "from pipeline.scheduling import cron, daemon\n"
        "schedule = cron.parse_cron('0 3 * * *', 'Asia/Kolkata')\n"
        "sys.exit(daemon.run_schedule(schedule, command=['run', 'a b'], "
        "log_folder=pathlib.Path(sys.argv[1])))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    log = wait_for(tmp_path / "schedule.log")
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert re.search(r" IST  scheduled: run 'a b'; next .* 03:00:00 IST\n", log)


class EndsAtOnce(IntervalTrigger):
    """A trigger that sends SIGTERM to this process when its first time is requested."""

    is_sent = False

    def get_next_fire_time(self, previous, now):
        if not self.is_sent:
            self.is_sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().get_next_fire_time(previous, now)


class ClockThatChanges(datetime.tzinfo):
    """A clock that advances by one more hour at each reading."""

    hours = 0

    def fromutc(self, time):
        self.hours += 1
        return time + datetime.timedelta(hours=self.hours)

    def utcoffset(self, time):
        return datetime.timedelta(0)

    def dst(self, time):
        return None

    def tzname(self, time):
        return "LMT"


class RunsAtOnce(IntervalTrigger):
    """A trigger whose first time is now and the next one a day later, on that clock."""

    zone = ClockThatChanges()

    def get_next_fire_time(self, previous, now):
        days = 0 if previous is None else 1
        return (now + datetime.timedelta(days=days)).replace(tzinfo=self.zone)


def test_a_change_of_the_clocks_is_not_in_the_duration_of_a_run(tmp_path):
    command = ["/bin/sh", "-c", "kill -TERM $PPID"]
    assert daemon.run_at_times(RunsAtOnce(), command, log_folder=tmp_path) == 0
    log = (tmp_path / "schedule.log").read_text()
    assert re.search(r", after \d{1,2}\.\d s, started ", log)


def test_the_handlers_are_restored(tmp_path):
    received = []

    def handler(signum, frame):
        received.append(signum)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        times = EndsAtOnce(days=1)
        assert daemon.run_at_times(times, ["true"], log_folder=tmp_path) == 0
        assert signal.getsignal(signal.SIGTERM) is handler
        assert received == []  # the scheduler's own handler received it
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_log_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        daemon.run_schedule(
            parse_cron("0 3 * * *", "UTC"),
            command=["true"],
            log_folder=tmp_path / "file",
        )
    assert str(caught.value) == (
        f"the log folder must be writable, got {tmp_path}/file: File exists"
    )
