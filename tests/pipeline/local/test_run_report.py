"""The report of a run, made again from metadata as TFX writes them."""

import re

import pytest
from ml_metadata.proto import metadata_store_pb2

from pipeline.local import run_report
from tests.support.report_page import PNG, PageReader, make_facts
from tests.support.report_runs import CACHED, COMPLETE, FAILED, Runs


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path, facts=make_facts(), picture=PNG)


def test_the_page_has_the_run_and_its_steps(runs):
    runs.add("run-1", {"Report": COMPLETE})
    runs.add("run-2", {"Ingest": CACHED, "Trainer": COMPLETE, "Report": COMPLETE})
    page = run_report.make(runs.path)
    assert page == runs.path / "reports" / "run-2" / "report.html"
    text = PageReader(page.read_text()).text
    assert "run-2, 2019-03-08" in text
    assert "run-1" not in text
    pictures = {path.name for path in page.parent.glob("*.png")}
    assert pictures == {"rebuilt.png", "steps.png"}
    assert (page.parent / "rebuilt.png").read_bytes() == PNG
    assert (page.parent / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_several_turns_has_the_report_of_its_last(runs):
    """The run had a second turn because artifacts of the first one were damaged."""
    runs.add("run-1", {"Ingest": CACHED})
    runs.add("run-1.2", {"Ingest": COMPLETE, "Report": COMPLETE})
    assert run_report.make(runs.path, "run-1").parent.name == "run-1"
    store = run_report._open_store(runs.path / "metadata.sqlite")
    _, executions = run_report._find_run(store, runs.path, run_id="run-1")
    names = [run_report._name(store, each) for each in executions]
    assert names == ["Ingest", "Report"]


def test_steps_of_one_type_have_the_names_of_the_graph(runs):
    """Both scoring steps are executions of the type ModelScores."""
    runs.add(
        "run-1",
        {"BaselineScores": COMPLETE, "CandidateScores": CACHED, "Report": COMPLETE},
        types={"BaselineScores": "ModelScores", "CandidateScores": "ModelScores"},
    )
    store = run_report._open_store(runs.path / "metadata.sqlite")
    _, executions = run_report._find_run(store, runs.path, run_id="run-1")
    assert [each.type.rpartition(".")[2] for each in executions] == [
        *("ModelScores", "ModelScores", "Report")
    ]
    names = [run_report._name(store, each) for each in executions]
    assert names == ["BaselineScores", "CandidateScores", "Report"]


def test_the_last_run_without_a_report_is_passed_over(runs):
    runs.add("run-1", {"Report": CACHED})
    runs.add("run-2", {"Ingest": COMPLETE, "Trainer": FAILED})
    runs.add("run-3", {"Report": FAILED})
    runs.add("run-4", {})
    assert run_report.make(runs.path).parent.name == "run-1"


@pytest.mark.parametrize(
    ("run_id", "message"),
    [
        ("run-2", "the run run-2 has no report: it ended in Trainer"),
        ("run-3", "the run run-3 has no report: it ended in Report"),
        ("run-4", "the run run-4 has no report: it has no steps"),
    ],
)
def test_a_run_without_a_report_is_named(runs, run_id, message):
    runs.add("run-2", {"Ingest": COMPLETE, "Trainer": FAILED})
    runs.add("run-3", {"Report": FAILED})
    runs.add("run-4", {})
    with pytest.raises(run_report.ReportError, match=f"^{message}$"):
        run_report.make(runs.path, run_id)


def test_an_unknown_run_is_named_with_the_last_ones(runs):
    for number in range(1, 6):
        runs.add(f"run-{number}", {"Report": COMPLETE})
    with pytest.raises(run_report.ReportError) as error:
        run_report.make(runs.path, "run-7")
    assert str(error.value) == (
        f"--run must be a run in {runs.path}, got run-7; the last ones: run-3, run-4, "
        "run-5"
    )


@pytest.mark.parametrize(
    "run_id",
    ["../../../escaped", "/a/x", "", ".", "run-1\0", "run-1\n", "a b", "x" * 500],
)
def test_an_invalid_run_id_is_refused(runs, run_id):
    runs.add("run-1", {"Report": COMPLETE})
    with pytest.raises(run_report.ReportError) as error:
        run_report.make(runs.path, run_id)
    assert error.value.is_bad_input
    assert str(error.value) == (
        "--run must be the id of a run, such as run-20261123-180015-785816, got "
        f"{run_id[:100]!r}"
    )
    assert not (runs.path / "reports").exists()


@pytest.mark.parametrize("name", ["../../../escaped", "{outside}/x", "a/b"])
def test_metadata_with_another_id_write_no_report_elsewhere(runs, tmp_path, name):
    runs.add(name.format(outside=tmp_path), {"Report": COMPLETE})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(run_report.ReportError) as error:
        run_report.make(runs.path)
    assert f"the runs in {runs.path}/metadata.sqlite must have ids such as run-2" in (
        str(error.value)
    )
    assert set(tmp_path.rglob("*")) == before


def test_a_root_without_a_report_is_named(runs):
    with pytest.raises(run_report.ReportError) as error:
        run_report.make(runs.path)
    assert str(error.value) == (
        f"no run in {runs.path} has a report: the command `run` makes one"
    )
    with pytest.raises(run_report.ReportError, match="; the last ones: none$"):
        run_report.make(runs.path, "run-7")


def test_a_folder_without_runs_is_named(tmp_path):
    path = tmp_path / "none"
    message = re.escape(f"--root must be a folder with runs, there is no {path}/meta")
    with pytest.raises(run_report.ReportError, match=f"^{message}"):
        run_report.make(path)
    assert not path.exists()


def test_facts_that_were_removed_are_named(runs):
    runs.add("run-1", {"Report": COMPLETE})
    (facts,) = runs.path.glob("artifacts/Report/metrics/*/report.json")
    facts.unlink()
    with pytest.raises(run_report.ReportError) as error:
        run_report.make(runs.path)
    assert str(error.value) == (
        f"the report of run-1 is in the metadata, but not in {facts.parent}: run again "
        "with another --root"
    )
    assert not (runs.path / "reports").exists()


@pytest.mark.parametrize(("state", "is_cached"), [(CACHED, True), (COMPLETE, False)])
def test_seconds_and_cache_are_those_of_the_metadata(state, is_cached):
    execution = metadata_store_pb2.Execution(
        last_known_state=state,
        create_time_since_epoch=1_000,
        last_update_time_since_epoch=3_500,
    )
    assert run_report._describe_step("Trainer", execution) == {
        "name": "Trainer",
        "seconds": 2.5,
        "cached": is_cached,
    }
