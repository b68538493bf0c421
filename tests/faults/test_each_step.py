"""Faults of the machine in each step, which cause no gate decision or cache entry."""

import json
import os
import signal

import pytest

from pipeline.cli import main
from tests.support import disks, runs
from tests.support.printed_steps import STEPS, cached, ended

pytestmark = pytest.mark.faults

OF_THE_GRAPH = STEPS - {"Data"}


@pytest.fixture
def fresh(prepared, tmp_path):
    """Returns a place with prepared data, in which no step has run."""
    place = runs.Place(tmp_path / "place")
    runs.copy(prepared.template / "data", place.data)
    place.root.mkdir()
    return place


def fail_in_each_step(place, cause_fault):
    """Causes a fault in each step: in the first run's first step, and so on.

    Args:
      place: the place of the runs.
      cause_fault: function that causes the fault in a run whose step has just started,
        and returns the run's exit code.

    Returns:
      The outputs of the runs: those with a fault, and the last run without one.
    """
    failed_steps, printed = [], []
    while True:
        run = place.start()
        known = "|".join(["Imports", "Data", *failed_steps])
        match = run.wait_for(rf"^(?!(?:{known})\b)(\w+) +\.\.\.$|^Result\b")
        if match[1] is None:
            break
        code = cause_fault(run)
        assert code == 1, run.printed
        failed_steps.append(run.last_step())
        assert f"{failed_steps[-1]} failed: " in " ".join(run.printed.split())
        printed.append(run.printed)
    assert run.end() == 0, run.printed
    assert set(failed_steps) == OF_THE_GRAPH
    printed.append(run.printed)
    for step, before, after in zip(failed_steps, printed, printed[1:]):
        assert step not in cached(after), after  # the step runs again
        done = ended(before) - {step} | cached(before)
        assert done <= cached(after), after  # and no other step does
    assert "verdict          │ BLESSED" in printed[-1]
    place.served()
    return printed


def assert_nothing_was_decided(place, capsys):
    """Asserts that no run in history was refused, and that each run's end is known."""
    assert main.main(["history", "--json", "-n", "0", "--root", str(place.root)]) == 0
    last, *others = json.loads(capsys.readouterr().out)
    assert len(others) == len(OF_THE_GRAPH)
    assert [run["refusals"] for run in others] == [[]] * len(others)
    # The run with the fault in its last step had already pushed the version.
    assert {run["verdict"] for run in others[1:]} <= {"failed", "died"}
    assert others[0]["verdict"] == "pushed"
    assert last["verdict"] == "unchanged"


def test_a_full_disk_in_each_step(fresh, outcome, capsys):
    def fill(run):
        with run.stopped():
            filling = disks.fill(fresh.root)
        code = run.end()
        filling.unlink()
        return code

    with disks.small(fresh.root, megabytes=100):
        *failed, _ = fail_in_each_step(fresh, fill)
        for printed in failed:
            assert " failed: No space left on device: " in printed
        assert_nothing_was_decided(fresh, capsys)
    outcome(
        "a full disk in a step, each of them",
        "`STEP failed: No space left on device: FOLDER ...`, exit code 1; never a "
        "refusal, and nothing in the cache",
        "takes the steps that ended from the cache, and tries that one again",
    )


def test_a_time_out_in_each_step(fresh, outcome, capsys):
    def time_out(run):
        with run.stopped():
            os.kill(run.process.pid, signal.SIGUSR1)
        return run.end()

    *failed, _ = fail_in_each_step(fresh, time_out)
    for printed in failed:
        assert " failed: TimeoutError: [Errno 110] Connection timed out" in printed
    assert_nothing_was_decided(fresh, capsys)
    outcome(
        "a time-out in a step, each of them",
        "`STEP failed: ...`, exit code 1; never a refusal, and nothing in the cache",
        "takes the steps that ended from the cache, and tries that one again",
    )


def test_infra_check_without_enough_time(place, outcome):
    """The limit is InfraCheck's own, and is not part of its cache key."""
    before = place.served()
    printed = place.run("train.seed=3", "gate.infra_timeout=1", code=1)
    message = "InfraCheck failed: the model must answer every signature within 1 s"
    assert message in " ".join(printed.split())
    assert place.served() == before
    printed = place.run("train.seed=3")
    assert {"Trainer", "CandidateScores"} <= cached(printed)
    assert "InfraCheck" in ended(printed)
    assert place.served().number > before.number
    outcome(
        "InfraCheck's process does not answer within `gate.infra_timeout` seconds",
        "`InfraCheck failed: the model must answer every signature within N s, and did "
        "not: ...`, exit code 1",
        "checks it again, and pushes; nothing is trained again",
    )
