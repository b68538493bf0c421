"""Around a run: whatever happens in it or after it, its end is recorded and told."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pipeline.cli import main
from pipeline.config.loading import resolve
from pipeline.runs import lifecycle, lock, run_record


@pytest.fixture
def run(tmp_path):
    """Runs a block around which everything is as in a run; gives what was said."""

    def run(block, *settings):
        said = []
        config = resolve("smoke", settings=settings)
        with lifecycle.recorded(
            config, tmp_path / "runs", "run-1", False, said.append
        ) as kept:
            block(kept)
        return said

    return run


def kept(tmp_path):
    ((found,), problems) = run_record.read_all(tmp_path / "runs")
    assert problems == []
    return found


def succeed(found):
    found.verdict, found.version, found.elbo = "pushed", 7, -90.0


def told(tmp_path):
    """Returns settings by which a file gets the events that are told."""
    script = f'echo "$VAE_PIPELINE_EVENT" >>{tmp_path}/told'
    events = "[pushed, unchanged, refused, failed, bad_data, interrupted]"
    command = f"notify.command=['/bin/sh', '-c', '{script}']"
    return command, f"notify.events={events}"


def test_while_it_goes_on_it_is_running(run, tmp_path):
    def block(found):
        assert kept(tmp_path).verdict == "running"
        succeed(found)

    assert run(block, *told(tmp_path)) == []
    found = kept(tmp_path)
    assert (found.verdict, found.version) == ("pushed", 7)
    assert (tmp_path / "told").read_text() == "pushed\n"


def test_an_exception_that_nobody_expected_is_recorded_and_goes_on(run, tmp_path):
    def block(found):
        found.step = "Trainer"
        raise KeyError("what")

    with pytest.raises(KeyError):
        run(block, *told(tmp_path))
    found = kept(tmp_path)
    assert (found.verdict, found.step) == ("failed", "Trainer")
    assert found.error == "KeyError: 'what'"
    assert (tmp_path / "told").read_text() == "failed\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_recorded_and_comes_only_once(run, tmp_path, signum):
    def block(found):
        os.kill(os.getpid(), signum)
        time.sleep(30)

    # Longer than the time after which an interrupt that is swallowed comes again.
    command = f"notify.command=['/bin/sh', '-c', 'sleep 2.5; touch {tmp_path}/told']"
    with pytest.raises(KeyboardInterrupt), main.interruptible():
        run(block, command, "notify.events=[interrupted]")
    assert kept(tmp_path).verdict == "interrupted"
    assert (tmp_path / "told").exists()


def test_an_interrupt_after_the_work_changes_no_verdict(run, tmp_path):
    def block(found):
        succeed(found)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(block)
    assert kept(tmp_path).verdict == "pushed"


def test_the_next_run_need_not_wait_for_a_target(run, tmp_path, monkeypatch):
    """The command itself takes the root's lock."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[3]))
    (tmp_path / "run.py").write_text(
        "import pathlib, sys\nfrom pipeline.runs import lock\n"
        "with lock.held(pathlib.Path(sys.argv[1]), False, print): pass\n"
    )
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "runs")]
    assert run(succeed, f"notify.command={command}") == []


def test_what_cannot_be_written_is_said_and_changes_nothing(run, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "history").write_text("in the way")
    textfile = tmp_path / "absent" / "vae.prom"
    said = run(succeed, f"metrics.textfile={textfile}")
    assert len(said) == 3  # at its begin, and at its end
    for line in said[:2]:
        assert line.startswith("the run's record could not be written: ")
    assert said[2].startswith("the run's metrics could not be written: FileNotFoundErr")


def test_a_target_that_fails_is_said_and_changes_nothing(run, tmp_path):
    said = run(succeed, "notify.command=[/absent]", "notify.token=env:ABSENT")
    missing = (
        "notify: webhook: the environment variable ABSENT, which notify.token names, "
        "must be set"
    )
    assert said == [
        missing,
        "notify: command: /absent can't be started: No such file or directory",
    ]
    assert kept(tmp_path).verdict == "pushed"


def test_an_interrupt_that_was_swallowed_does_not_break_into_the_end(run, tmp_path):
    """As Beam's bare `except:` does: another error comes of it."""

    def block(found):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except KeyboardInterrupt:
            raise ValueError("what came of it") from None

    command = f"notify.command=['/bin/sh', '-c', 'sleep 2.5; touch {tmp_path}/told']"
    with pytest.raises(ValueError, match="what came of it"), main.interruptible():
        run(block, command)
    assert kept(tmp_path).error == "what came of it"
    assert (tmp_path / "told").exists()


def test_a_run_that_died_after_its_push_is_told_of_as_pushed(tmp_path):
    child = (
        "import pathlib, sys\n"
        "from pipeline.runs import run_record\n"
        "from pipeline.config.loading import resolve\n"
        "died = run_record.begun(resolve('smoke'), 'run-1')\n"
        "died.verdict, died.version, died.elbo = run_record.PUSHED, 7, -90.0\n"
        "run_record.write(pathlib.Path(sys.argv[1]), died)\n"
    )
    subprocess.run([sys.executable, "-c", child, str(tmp_path)], check=True)
    tell = ["/bin/sh", "-c", f"cat >>{tmp_path}/told; echo >>{tmp_path}/told"]
    settings = [f"notify.command={json.dumps(tell)}", "notify.events=[pushed]"]
    for number in (2, 3):
        with lifecycle.recorded(
            resolve("smoke", settings=settings), tmp_path, f"run-{number}", False, print
        ) as found:
            found.verdict = run_record.UNCHANGED
    (told,) = (tmp_path / "told").read_text().splitlines()
    told = json.loads(told)
    assert (told["run_id"], told["verdict"], told["version"]) == ("run-1", "pushed", 7)
    assert told["text"].startswith(
        "vae-pipeline: vae, run run-1: pushed version 7, ELBO -90.00 nats per image"
    )
    assert told["text"].endswith(
        "; then: its process died: killed, out of memory, or the machine ended"
    )
    found = {each.run_id: each.verdict for each in run_record.read_all(tmp_path)[0]}
    assert found["run-1"] == "pushed"


def test_a_run_that_died_is_told_of_once_by_the_next(tmp_path):
    child = (
        "import pathlib, sys\n"
        "from pipeline.runs import run_record\n"
        "from pipeline.config.loading import resolve\n"
        "died = run_record.begun(resolve('smoke'), 'run-1')\n"
        "died.step = 'Trainer'\n"
        "run_record.write(pathlib.Path(sys.argv[1]), died)\n"
    )
    subprocess.run([sys.executable, "-c", child, str(tmp_path)], check=True)
    tell = ["/bin/sh", "-c", f"cat >>{tmp_path}/told; echo >>{tmp_path}/told"]
    settings = [f"notify.command={json.dumps(tell)}", "notify.events=[failed]"]
    for number in (2, 3):
        with lifecycle.recorded(
            resolve("smoke", settings=settings), tmp_path, f"run-{number}", False, print
        ) as found:
            found.verdict = run_record.UNCHANGED
    (told,) = (tmp_path / "told").read_text().splitlines()
    told = json.loads(told)
    assert (told["run_id"], told["verdict"], told["step"]) == (
        *("run-1", "failed", "Trainer"),
    )
    assert told["text"] == (
        "vae-pipeline: vae, run run-1: failed: its process died: killed, out of "
        "memory, or the machine ended"
    )
    found = {each.run_id: each.verdict for each in run_record.read_all(tmp_path)[0]}
    assert found["run-1"] == "died"


def test_one_that_another_keeps_out_leaves_that_ones_metrics(run, tmp_path):
    textfile = tmp_path / "vae.prom"
    with lock.held(tmp_path / "runs", False, print), pytest.raises(lock.LockedError):
        run(succeed, f"metrics.textfile={textfile}", *told(tmp_path))
    assert not textfile.exists()
    assert (tmp_path / "told").read_text() == "failed\n"
    assert kept(tmp_path).verdict == "failed"
