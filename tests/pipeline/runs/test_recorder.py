"""The writer of a run record: the changes by each event, and the file on disk."""

import json
import math

import pytest

from pipeline.config.loading import resolve
from pipeline.runs import run_record
from pipeline.runs.recorder import RunRecorder, record_death
from pipeline.runs.run_record import RunStatus, StepTime
from tests.support.records import make_record


class Clock:
    """A clock that only the test advances."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recorder(tmp_path, clock):
    record = run_record.create_record(resolve("smoke"), "run-1")
    return RunRecorder(tmp_path, record, clock=clock)


def on_disk(tmp_path):
    return json.loads((tmp_path / "history" / "run-1.json").read_text())


def test_a_step_that_starts_is_on_the_disk_at_once(recorder, tmp_path):
    recorder.record_step_started("Trainer")
    assert (on_disk(tmp_path)["verdict"], on_disk(tmp_path)["step"]) == (
        *("running", "Trainer"),
    )


def test_a_step_that_completed_is_kept_with_its_seconds(recorder):
    recorder.record_step_started("Ingest")
    recorder.record_step_completed("Ingest", 0.0, is_cached=True)
    recorder.record_step_started("Trainer")
    recorder.record_step_completed("Trainer", 12.3456)
    assert recorder.record.step is None
    assert recorder.record.steps == [
        StepTime(name="Ingest", seconds=0.0, cached=True),
        StepTime(name="Trainer", seconds=12.346, cached=False),
    ]


def test_a_restart_keeps_the_steps_before_the_graph(recorder):
    for name in ("Imports", "Data", "Ingest", "Trainer"):
        recorder.record_step_completed(name, 1.0)
    recorder.record_restart(["Imports", "Data"])
    assert [step.name for step in recorder.record.steps] == ["Imports", "Data"]


def test_a_push_is_on_the_disk_at_once(recorder, tmp_path):
    recorder.record_push(7)
    record = on_disk(tmp_path)
    assert (record["verdict"], record["version"], record["served_version"]) == (
        *("pushed", 7, 7),
    )


def test_a_disk_that_cannot_be_written_stops_no_step(recorder, tmp_path):
    (tmp_path / "history").write_text("in the way")
    recorder.record_step_started("Trainer")
    recorder.record_push(7)
    assert recorder.record.version == 7
    with pytest.raises(OSError, match="history"):
        recorder.write()


def test_the_inputs_and_the_versions_are_recorded(recorder):
    recorder.record_inputs(fingerprint="f", run_key="k", baseline="6 d")
    recorder.record_served_version(6)
    recorder.record_version_count(3)
    record = recorder.record
    assert (record.fingerprint, record.run_key, record.baseline) == ("f", "k", "6 d")
    assert (record.served_version, record.versions) == (6, 3)


def test_the_difference_is_the_candidates_elbo_minus_the_baselines(recorder):
    recorder.record_candidate(
        elbo=-90.0,
        reconstruction=-70.0,
        kl=20.0,
        independent_pixels=-206.25,
        estimate="4 samples",
    )
    recorder.record_baseline(elbo=-91.5, version=6)
    record = recorder.record
    assert (record.elbo, record.reconstruction, record.kl) == (-90.0, -70.0, 20.0)
    assert (record.estimate, record.baseline_version) == ("4 samples", 6)
    assert record.independent_pixels == -206.25
    assert (record.baseline_elbo, record.difference) == (-91.5, 1.5)


def test_an_elbo_that_is_not_finite_is_null_on_the_disk(recorder, tmp_path):
    recorder.record_candidate(
        elbo=math.nan,
        reconstruction=-1.0,
        kl=1.0,
        independent_pixels=None,
        estimate="",
    )
    recorder.record_baseline(elbo=-91.5, version=6)
    recorder.write()
    record = on_disk(tmp_path)
    assert (record["elbo"], record["difference"]) == (None, None)


def test_the_fall_of_the_baselines_elbo_is_recorded(recorder, tmp_path):
    recorder.record_elbo_fall(12.84, standard_errors=45.2)
    record = recorder.record
    assert (record.elbo_fall, record.elbo_fall_standard_errors) == (12.84, 45.2)
    recorder.record_elbo_fall(math.nan, standard_errors=math.nan)
    recorder.write()
    assert on_disk(tmp_path)["elbo_fall_standard_errors"] is None


def test_a_refusal_has_its_reasons(recorder):
    recorder.record_refusal(("too low", "InfraCheck: no answer"))
    record = recorder.record
    assert record.status is RunStatus.REFUSED
    assert record.refusals == ["too low", "InfraCheck: no answer"]


def test_a_model_that_was_already_pushed_is_unchanged(recorder):
    recorder.record_unchanged()
    assert recorder.record.status is RunStatus.UNCHANGED


def test_a_run_with_nothing_to_do_leaves_no_record(recorder, tmp_path):
    recorder.write()
    assert (tmp_path / "history" / "run-1.json").exists()
    recorder.record_nothing_to_do()
    recorder.record_end()
    recorder.write()
    assert list((tmp_path / "history").iterdir()) == []


def test_a_failure_has_its_reason(recorder):
    recorder.record_failure(RunStatus.BAD_DATA, "no images")
    recorder.record_end()
    record = recorder.record
    assert (record.status, record.error) == (RunStatus.BAD_DATA, "no images")


def test_a_later_failure_does_not_change_the_status_of_a_push(recorder):
    recorder.record_push(7)
    recorder.record_failure(RunStatus.FAILED, "Report failed: no room")
    recorder.record_end()
    record = recorder.record
    assert (record.status, record.version) == (RunStatus.PUSHED, 7)
    assert record.error == "Report failed: no room"


def test_an_interrupt_counts_only_before_the_work_is_done(recorder):
    recorder.record_unchanged()
    recorder.record_interrupt()
    assert (recorder.record.status, recorder.record.error) == (
        *(RunStatus.UNCHANGED, None),
    )


def test_an_interrupt_of_the_work_is_recorded(recorder):
    recorder.record_interrupt()
    assert recorder.record.status is RunStatus.INTERRUPTED
    assert recorder.record.error == "SIGINT or SIGTERM"


def test_a_run_that_ends_without_a_status_failed(recorder):
    recorder.record_end()
    record = recorder.record
    assert (record.status, record.error) == (
        *(RunStatus.FAILED, "it ended without a result"),
    )
    assert record.ended >= record.started


def test_the_wall_time_begins_when_the_run_has_the_lock(recorder, clock):
    created = recorder.record.started
    clock.now += 3600.0  # the run waited
    recorder.record_run_started()
    clock.now += 61.23456
    recorder.record_end()
    assert recorder.record.seconds == 61.235
    assert recorder.record.started >= created


def test_a_death_is_written_with_its_reason_and_keeps_the_status(tmp_path):
    pushed = make_record(status="pushed", version=7)
    dead = record_death(tmp_path, pushed)
    reason = "its process died: killed, out of memory, or the machine ended"
    assert (dead.status, dead.version, dead.error) == (RunStatus.PUSHED, 7, reason)
    assert on_disk(tmp_path)["error"] == reason


def test_a_long_error_is_cut_so_that_the_record_can_be_read(recorder, tmp_path):
    recorder.record_failure(RunStatus.FAILED, "\U0001f600" * 1_000_000)
    recorder.write()
    ((record,), problems) = run_record.read_all(tmp_path)
    assert problems == []
    assert record.error == "\U0001f600" * 10_000 + " (shortened)"
