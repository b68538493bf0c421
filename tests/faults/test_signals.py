import signal

import pytest

from pipeline import record

pytestmark = pytest.mark.faults

STEPS = {
    *("Data", "ImportSchemaGen", "Ingest", "ServedModel", "StatisticsGen"),
    *("ExampleValidator", "DataGate", "Transform", "Trainer", "Bounds", "Evaluator"),
    *("InfraCheck", "Pusher", "Report"),
}


def test_sigkill_in_each_step(prepared, place, outcome):
    assert {step for step, _ in prepared.killed} >= STEPS
    assert {code for _, code in prepared.killed} == {-signal.SIGKILL}
    # All but the last step, the one in which the last run was killed.
    assert prepared.printed.count(" from the cache") >= len(STEPS) - 3
    kept, _ = record.read_all(prepared.template / "runs")
    assert [each.verdict for each in kept].count("died") == len(prepared.killed)
    assert "verdict          │ BLESSED" in prepared.printed
    place.served()
    outcome(
        "SIGKILL in a step, each of them",
        "nothing; `history` lists the run as `died`",
        "takes the steps that ended from the cache, and goes on with that one",
    )


def test_sigterm(place, outcome):
    before = place.served()
    run = place.start("train.seed=2")
    run.wait_for(r"^Trainer +\.\.\.")
    assert run.kill(signal.SIGTERM) == 130
    assert (
        "vae-pipeline: interrupted; the same command goes on where it stopped: the "
        "steps that ended come from the cache"
    ) in run.printed
    assert place.served() == before

    assert "Transform        from the cache" in place.run("train.seed=2")
    assert place.served().number > before.number
    outcome(
        "SIGTERM",
        "`interrupted; the same command goes on where it stopped`, exit code 130",
        "takes the steps that ended from the cache",
    )
