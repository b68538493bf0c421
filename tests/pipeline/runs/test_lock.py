"""One run at a time on a root, with real processes and real signals."""

import dataclasses
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import time

import filelock
import pytest

from pipeline.cli import main
from pipeline.runs import lock, run_record
from pipeline.runs.process import current

REPOSITORY = pathlib.Path(__file__).parents[3]

# Holds the lock until it reads a line. With the argument "wait" it waits for the lock;
# with "child" it forks a process that outlives it.
HOLDER = """
import os, pathlib, sys
from model.training import signals
from pipeline.runs import lock
root, how = pathlib.Path(sys.argv[1]), sys.argv[2]
print_line = lambda line: print(line, flush=True)
try:
    with signals.interrupt_on_signals(), lock.hold_lock(
        root, should_wait=how == "wait", print_line=print_line
    ):
        if how == "child" and os.fork() == 0:
            sys.stdin.readline()  # until the test closes it
            os._exit(0)
        print("held", flush=True)
        sys.stdin.readline()
except lock.LockedError as error:
    print(error)
    sys.exit(1)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def start(tmp_path):
    processes = []

    def start(how="leave"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "runs"), how],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def description_of(process):
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"
    return rf"\(process {process.pid} on \S+, started {when}\)"


def test_the_second_process_ends_with_a_message_that_names_the_first(start, tmp_path):
    first = start()
    assert first.stdout.readline() == "held\n"
    second = start()
    out, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    runs = re.escape(str(tmp_path / "runs"))
    assert re.fullmatch(
        rf"another run is using {runs} {description_of(first)}: wait until it ends "
        r"\(run --wait does that\), or choose another --root\n",
        out,
    )
    first.communicate("go\n", timeout=30)
    assert first.returncode == 0
    assert not (tmp_path / "runs" / "running.json").exists()


def test_one_of_two_racing_processes_wins(start):
    both = [start(), start()]
    lines = [process.stdout.readline() for process in both]
    winner, loser = both if lines[0] == "held\n" else reversed(both)
    assert sorted(lines)[1] == "held\n"
    assert re.search(description_of(winner), sorted(lines)[0])
    assert loser.wait(timeout=30) == 1


def test_after_a_sigkill_the_next_process_gets_the_lock(start):
    first = start()
    assert first.stdout.readline() == "held\n"
    first.kill()
    first.wait()
    second = start()
    assert second.stdout.readline() == "held\n"
    # The file of the dead process no longer names it as the holder.
    out, _ = start().communicate(timeout=30)
    assert re.search(description_of(second), out)


def test_a_waiting_process_names_the_owner_and_then_runs(start):
    first = start()
    assert first.stdout.readline() == "held\n"
    waiting = start("wait")
    assert re.search(
        rf"waiting for .*{description_of(first)}", waiting.stdout.readline()
    )
    first.kill()
    assert waiting.stdout.readline() == "held\n"
    waiting.communicate("go\n", timeout=30)
    assert waiting.returncode == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_can_be_interrupted(start, signum):
    first = start()
    assert first.stdout.readline() == "held\n"
    waiting = start("wait")
    waiting.stdout.readline()
    waiting.send_signal(signum)
    assert waiting.wait(timeout=30) == 130
    assert first.poll() is None


def test_a_process_it_has_forked_does_not_keep_the_lock(start):
    """Processes that Beam and TensorFlow fork may outlive a run that is killed."""
    first = start("child")
    assert first.stdout.readline() == "held\n"
    first.kill()
    first.wait()
    assert start().stdout.readline() == "held\n"


class Clock:
    """A clock that advances only while something sleeps."""

    def __init__(self, at_sleep=lambda: None):
        self.now, self.at_sleep = 0.0, at_sleep

    def read(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.at_sleep()


def test_a_process_that_has_just_got_the_lock_is_waited_for(tmp_path):
    owner = lock.Owner(current(), "2026-11-23T18:00:00+01:00")

    def write_owner():
        text = json.dumps(dataclasses.asdict(owner))
        (tmp_path / "running.json").write_text(text)

    clock = Clock(at_sleep=write_owner)
    found = lock.describe_owner(tmp_path, clock=clock.read, sleep=clock.sleep)
    assert found == (
        f"process {os.getpid()} on {platform.node()}, started 2026-11-23 18:00:00 "
        "UTC+01:00"
    )


def test_a_process_that_never_names_itself_is_waited_for_a_second(tmp_path):
    clock = Clock()
    found = lock.describe_owner(tmp_path, clock=clock.read, sleep=clock.sleep)
    assert found == "unknown"
    assert 1.0 <= clock.now < 1.1


def test_an_owner_without_a_complete_file_is_unknown(tmp_path):
    with filelock.FileLock(tmp_path / ".lock"):
        (tmp_path / "running.json").write_text("half")
        with (
            pytest.raises(lock.LockedError, match=r"\(unknown\)"),
            lock.hold_lock(tmp_path, should_wait=False, print_line=print),
        ):
            pass


def test_the_command_leaves_a_record_of_it(start, tmp_path, capfd):
    """The command ends at once, without importing TensorFlow."""
    first = start()
    assert first.stdout.readline() == "held\n"
    root = str(tmp_path / "runs")
    began = time.monotonic()
    assert main.main(["run", "--preset", "smoke", "--root", root]) == 1
    out = capfd.readouterr().out
    assert re.search(
        rf"vae-pipeline: another run is using .*{description_of(first)}", out
    )
    assert "Imports" not in out
    assert time.monotonic() - began < 10
    ((found,), _) = run_record.read_all(tmp_path / "runs")
    assert found.status == "failed"
    assert found.error.startswith("another run is using ")


def test_the_command_that_waits_ends_with_130(start, tmp_path):
    first = start()
    assert first.stdout.readline() == "held\n"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "run", "--preset", "smoke", "--wait"),
            *("--root", str(tmp_path / "runs")),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("waiting for another run"):
            break
    assert re.search(description_of(first), line)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)
    assert "interrupted" in stderr
    ((found,), _) = run_record.read_all(tmp_path / "runs")
    assert found.status == "interrupted"
    assert (tmp_path / "runs" / "running.json").exists()  # the first run's file
