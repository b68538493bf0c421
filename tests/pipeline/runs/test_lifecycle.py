"""The lifecycle of a run, whose end is recorded and notified in all cases."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pipeline.config.loading import resolve
from pipeline.runs import lifecycle, lock, run_record
from pipeline.runs.run_record import RunStatus
from tests.support.records import make_record


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs a block as a run and returns the printed lines."""

    def run(block, *settings):
        lines = []
        with lifecycle.record_run(
            resolve("smoke", settings=settings),
            tmp_path / "runs",
            run_id="run-1",
            should_wait=False,
            print_line=lines.append,
        ) as recorder:
            block(recorder)
        return lines

    return run


def kept(tmp_path):
    ((found,), problems) = run_record.read_all(tmp_path / "runs")
    assert problems == []
    return found


def succeed(recorder):
    recorder.record_candidate(
        elbo=-90.0,
        reconstruction=-70.0,
        kl=20.0,
        independent_pixels=-206.25,
        estimate="4",
    )
    recorder.record_push(7)


def events_to_file(tmp_path):
    """Returns settings that append each notification's event to a file."""
    script = f'echo "$VAE_PIPELINE_EVENT" >>{tmp_path}/notified'
    events = "[pushed, unchanged, refused, failed, bad_data, interrupted]"
    command = f"notify.command=['/bin/sh', '-c', '{script}']"
    return command, f"notify.events={events}"


def test_a_run_that_has_not_ended_has_the_status_running(run, tmp_path):
    def block(recorder):
        assert kept(tmp_path).status is RunStatus.RUNNING
        succeed(recorder)

    assert run(block, *events_to_file(tmp_path)) == []
    found = kept(tmp_path)
    assert (found.status, found.version) == ("pushed", 7)
    assert (tmp_path / "notified").read_text() == "pushed\n"


def test_an_unexpected_exception_is_recorded_and_raised(run, tmp_path):
    def block(recorder):
        recorder.record_step_started("Trainer")
        raise KeyError("what")

    with pytest.raises(KeyError):
        run(block, *events_to_file(tmp_path))
    found = kept(tmp_path)
    assert (found.status, found.step) == ("failed", "Trainer")
    assert found.error == "KeyError: 'what'"
    assert (tmp_path / "notified").read_text() == "failed\n"


AGAIN = 0.1  # seconds until the interrupt is repeated


@contextlib.contextmanager
def interruptible():
    """Raises KeyboardInterrupt as the command line does, and repeats it."""

    def interrupt(signum, frame):
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {signum: signal.signal(signum, interrupt) for signum in signals}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in before.items():
            signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_recorded_and_raised_once(run, tmp_path, signum):
    def block(recorder):
        os.kill(os.getpid(), signum)
        time.sleep(30)

    # The command takes longer than the time after which an interrupt is repeated.
    command = f"notify.command=['/bin/sh', '-c', 'sleep 0.4; touch {tmp_path}/sent']"
    with pytest.raises(KeyboardInterrupt), interruptible():
        run(block, command, "notify.events=[interrupted]")
    assert kept(tmp_path).status == "interrupted"
    assert (tmp_path / "sent").exists()


def test_an_interrupt_after_the_work_does_not_change_the_status(run, tmp_path):
    def block(recorder):
        succeed(recorder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(block)
    assert kept(tmp_path).status == "pushed"


def test_the_next_run_need_not_wait_for_a_target(run, tmp_path, monkeypatch):
    """The notification command itself acquires the root's lock."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[3]))
    (tmp_path / "run.py").write_text(
        "import pathlib, sys\nfrom pipeline.runs import lock\n"
        "with lock.hold_lock(\n"
        "    pathlib.Path(sys.argv[1]), should_wait=False, print_line=print\n"
        "): pass\n"
    )
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "runs")]
    assert run(succeed, f"notify.command={command}") == []


def test_what_cannot_be_written_is_printed_and_changes_nothing(run, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "history").write_text("in the way")
    textfile = tmp_path / "absent" / "vae.prom"
    lines = run(succeed, f"metrics.textfile={textfile}")
    assert len(lines) == 3  # written at the run's start and end
    for line in lines[:2]:
        assert line.startswith("the run's record could not be written: ")
    assert lines[2].startswith("the run's metrics could not be written: FileNotFoundE")


def test_a_target_that_fails_is_printed_and_changes_nothing(run, tmp_path):
    lines = run(succeed, "notify.command=[/absent]", "notify.token=env:ABSENT")
    missing = (
        "notify: webhook: the environment variable ABSENT, which notify.token names, "
        "must be set"
    )
    assert lines == [
        missing,
        "notify: command: /absent can't be started: No such file or directory",
    ]
    assert kept(tmp_path).status == "pushed"


def test_an_interrupt_that_was_swallowed_does_not_break_into_the_end(run, tmp_path):
    """Beam's bare `except:` swallows an interrupt, which leads to another error."""

    def block(recorder):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except KeyboardInterrupt:
            raise ValueError("another error") from None

    command = f"notify.command=['/bin/sh', '-c', 'sleep 0.4; touch {tmp_path}/sent']"
    with pytest.raises(ValueError, match="another error"), interruptible():
        run(block, command)
    assert kept(tmp_path).error == "ValueError: another error"
    assert (tmp_path / "sent").exists()


# Writes a record and dies. The arguments are the root and the record's step.
DEAD = """
import dataclasses, pathlib, sys
from pipeline.runs import run_record
from pipeline.runs.run_record import RunStatus
from tests.support.records import make_record
facts = {"step": "Trainer"}
if sys.argv[2] == "pushed":
    facts = {"status": RunStatus.PUSHED, "version": 7, "elbo": -90.0}
run_record.write(pathlib.Path(sys.argv[1]), make_record("run-1", **facts))
"""


def notifications_of_two_runs_after_a_dead_one(tmp_path, how, event):
    subprocess.run(
        [sys.executable, "-c", DEAD, str(tmp_path), how],
        check=True,
        cwd=pathlib.Path(__file__).parents[3],
    )
    command = [
        "/bin/sh",
        "-c",
        f"cat >>{tmp_path}/notified; echo >>{tmp_path}/notified",
    ]
    settings = [f"notify.command={json.dumps(command)}", f"notify.events=[{event}]"]
    for number in (2, 3):
        with lifecycle.record_run(
            resolve("smoke", settings=settings),
            tmp_path,
            run_id=f"run-{number}",
            should_wait=False,
            print_line=print,
        ) as recorder:
            recorder.record_unchanged()
    lines = (tmp_path / "notified").read_text().splitlines()
    return [json.loads(line) for line in lines]


def status_of(tmp_path, run_id):
    records, _ = run_record.read_all(tmp_path)
    return next(record.status for record in records if record.run_id == run_id)


def test_a_run_that_died_after_its_push_is_notified_once_as_pushed(tmp_path):
    (body,) = notifications_of_two_runs_after_a_dead_one(tmp_path, "pushed", "pushed")
    assert (body["run_id"], body["verdict"], body["version"]) == ("run-1", "pushed", 7)
    assert body["text"].startswith(
        "vae-pipeline: vae, run run-1: pushed version 7, ELBO -90.00 nats per image"
    )
    assert body["text"].endswith(
        "; then: its process died: killed, out of memory, or the machine ended"
    )
    assert status_of(tmp_path, "run-1") is RunStatus.PUSHED


def test_a_run_that_died_is_notified_once_by_the_next(tmp_path):
    (body,) = notifications_of_two_runs_after_a_dead_one(tmp_path, "step", "failed")
    assert (body["run_id"], body["verdict"], body["step"]) == (
        *("run-1", "failed", "Trainer"),
    )
    assert body["text"] == (
        "vae-pipeline: vae, run run-1: failed: its process died: killed, out of "
        "memory, or the machine ended"
    )
    assert status_of(tmp_path, "run-1") is RunStatus.DIED


@pytest.mark.parametrize(
    ("facts", "end"),
    [
        (
            {"status": "pushed", "version": 7, "elbo": -290.0, "estimate": "4 samples"},
            "pushed version 7, ELBO -290.00 nats per image (4 samples)",
        ),
        (
            {
                "status": "pushed",
                "version": 7,
                "elbo": -290.0,
                "estimate": "4 samples",
                "difference": 1.5,
                "baseline_version": 6,
            },
            "nats per image (4 samples), +1.50 against version 6",
        ),
        ({"status": "refused", "refusals": ["low", "bad"]}, "refused: low; bad"),
        ({"status": "bad_data", "error": "no images"}, "run-1: bad data: no images"),
        ({"status": "interrupted", "step": "Trainer"}, "run-1: interrupted in Trainer"),
        ({"status": "unchanged"}, "run-1: unchanged"),
    ],
)
def test_the_line_for_people(facts, end):
    line = lifecycle.summarize(make_record(**facts))
    assert line.startswith("vae-pipeline: vae, run run-1: ")
    assert line.endswith(end)


def test_a_run_that_cannot_get_the_lock_does_not_change_the_metrics(run, tmp_path):
    textfile = tmp_path / "vae.prom"
    with (
        lock.hold_lock(tmp_path / "runs", should_wait=False, print_line=print),
        pytest.raises(lock.LockedError),
    ):
        run(succeed, f"metrics.textfile={textfile}", *events_to_file(tmp_path))
    assert not textfile.exists()
    assert (tmp_path / "notified").read_text() == "failed\n"
    assert kept(tmp_path).status == "failed"
