"""Runs that SIGKILL or SIGTERM ends, and the runs that follow."""

import itertools
import json
import signal

import pytest

from pipeline.cli import main
from tests.support.printed_steps import STEPS, cached, ended

pytestmark = pytest.mark.faults


def test_sigkill_in_each_step(prepared, place, outcome, capsys):
    assert {step for step, _ in prepared.killed} >= STEPS
    assert {code for _, code in prepared.killed} == {-signal.SIGKILL}
    for before, after in itertools.pairwise(prepared.printed):
        assert ended(before) | cached(before) <= cached(after), after
    assert ended(prepared.printed[-1]) == {"Report"}
    assert "verdict          │ BLESSED" in prepared.printed[-1]
    assert main.main(["history", "--json", "-n", "0", "--root", str(place.root)]) == 0
    listed = json.loads(capsys.readouterr().out)
    # The run that was killed in its last step had already pushed its version.
    died = [run for run in listed if run["verdict"] == "died"]
    steps = [step for step, _ in prepared.killed]
    assert [run["step"] for run in reversed(died)] == steps[:-1]
    (pushed,) = (r for r in listed if r["verdict"] == "pushed" and not r["ended"])
    assert (pushed["step"], pushed["served_version"]) == ("Report", pushed["version"])
    place.served()
    outcome(
        "SIGKILL in a step, each of them",
        "nothing; `history` lists the run as `died`, or as `pushed` if it had",
        "takes the steps that ended from the cache, and continues with that one",
    )


def test_sigterm(place, outcome):
    before = place.served()
    settings = ("train.seed=2", "train.epochs=10")
    run = place.start(*settings)
    run.wait_for(r"^Trainer +epoch 2/10 ")  # the first epoch has left a checkpoint
    assert run.kill(signal.SIGTERM) == 130
    assert (
        "vae-pipeline: interrupted; run the same command to continue where it "
        "stopped: the steps that ended come from the cache"
    ) in run.printed
    assert place.served() == before

    printed = place.run(*settings)
    assert "Transform        from the cache" in printed
    assert "Trainer          resuming from step " in printed
    assert place.served().number > before.number
    outcome(
        "SIGTERM",
        "`interrupted; run the same command to continue where it stopped`, exit code "
        "130",
        "takes the steps that ended from the cache",
    )
