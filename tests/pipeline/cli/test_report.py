"""The command `report`, with metadata as TFX writes them."""

import io
import pathlib

import pytest
from PIL import Image

from pipeline.cli import main
from tests.support.report_page import PNG, PageReader, make_facts
from tests.support.report_runs import CACHED, COMPLETE, FAILED, Runs


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path, facts=make_facts(), picture=PNG)


@pytest.fixture
def report(runs, capsys):
    """Returns a function that runs `report`; returns exit code, stdout and stderr."""

    def report(*arguments):
        code = main.main(["report", "--root", str(runs.path), *arguments])
        return code, *capsys.readouterr()

    return report


def test_the_last_run_that_has_a_report_is_made_again(runs, report):
    runs.add("run-1", {"Ingest": COMPLETE, "Report": COMPLETE})
    runs.add("run-2", {"Ingest": CACHED, "Trainer": COMPLETE, "Report": COMPLETE})
    runs.add("run-3", {"Ingest": CACHED, "Trainer": FAILED})
    code, out, _ = report()
    assert code == 0
    page = runs.path / "reports" / "run-2" / "report.html"
    assert out.strip() == str(page)
    reader = PageReader(page.read_text())
    assert "run-2, 2019-03-08" in reader.text
    assert [image["alt"] for image in reader.all("img")] == [
        "test images, and the decoder's modes and means for them",
        "seconds per step",
    ]
    assert (page.parent / "rebuilt.png").read_bytes() == PNG
    steps = Image.open(io.BytesIO((page.parent / "steps.png").read_bytes()))
    assert steps.format == "PNG"


def test_a_run_can_be_named(runs, report):
    runs.add("run-1", {"Report": COMPLETE})
    runs.add("run-2", {"Report": CACHED})
    code, out, _ = report("--run", "run-1")
    assert code == 0
    assert pathlib.Path(out.strip()).parent.name == "run-1"


def test_a_run_that_stopped_has_no_report(runs, report):
    runs.add("run-1", {"Ingest": COMPLETE, "Trainer": FAILED})
    runs.add("run-2", {})
    code, _, err = report("--run", "run-1")
    assert code == 2
    assert "the run run-1 has no report: it ended in Trainer" in err
    assert "the run run-2 has no report: it has no steps" in report("--run", "run-2")[2]
    code, _, err = report()
    assert code == 2
    assert f"no run in {runs.path} has a report: the command `run` makes one" in err


def test_an_unknown_run_is_named(runs, report):
    for number in range(4):
        runs.add(f"run-{number}", {"Report": COMPLETE})
    code, _, err = report("--run", "run-7")
    assert code == 2
    assert f"--run must be a run in {runs.path}, got run-7; the last ones: " in err
    assert "run-1, run-2, run-3" in err


def test_a_folder_without_runs_is_named_and_not_made(tmp_path, capsys):
    assert main.main(["report", "--root", str(tmp_path / "none")]) == 2
    assert "--root must be a folder with runs, there is no " in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_missing_artifacts_are_named(runs, report):
    runs.add("run-1", {"Report": COMPLETE})
    folder = runs.path / "artifacts" / "Report" / "metrics" / "13"
    (folder / "report.json").unlink()
    code, _, err = report()
    assert code == 2
    assert f"the report of run-1 is in the metadata, but not in {folder}" in err


@pytest.mark.parametrize("there", [True, False])
def test_open_shows_the_page(runs, report, monkeypatch, there):
    runs.add("run-1", {"Report": COMPLETE})
    opened = []
    monkeypatch.setattr(
        "webbrowser.open", lambda address: opened.append(address) or there
    )
    code, out, err = report("--open")
    assert code == 0
    assert opened == [pathlib.Path(out.strip()).as_uri()]
    assert ("there is no browser here" in err) is not there
