"""Records of runs: written whole, read with suspicion."""

import dataclasses
import datetime
import json
import math
import os
import signal
import subprocess
import sys

import pytest

from model.files import atomic_write
from pipeline.config.loading import resolve
from pipeline.runs import process, run_record

ROOT_MODULE = """
import os, signal, sys, pathlib
from pipeline.config import loading
from pipeline.runs import run_record
kept = run_record.begun(loading.resolve("smoke"), sys.argv[2])
run_record.write(pathlib.Path(sys.argv[1]), kept)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ended(run_id="run-1", **changes):
    """Returns the record of a run that ended."""
    found = run_record.begun(resolve("smoke"), run_id)
    for name, value in changes.items():
        setattr(found, name, value)
    found.end()
    return found


def test_what_is_written_is_read(tmp_path):
    written = ended(
        verdict=run_record.PUSHED,
        elbo=-91.5,
        difference=0.25,
        version=1795457098,
        refusals=[],
        error=None,
    )
    written.took("Trainer", 12.3456)
    written.took("Ingest", 0.0, cached=True)
    run_record.write(tmp_path, written)
    assert run_record.read_all(tmp_path) == ([written], [])
    text = json.loads((tmp_path / "history" / "run-1.json").read_text())
    assert text["steps"] == [
        {"name": "Trainer", "seconds": 12.346, "cached": False},
        {"name": "Ingest", "seconds": 0.0, "cached": True},
    ]
    assert text["process"]["pid"] == os.getpid()
    assert datetime.datetime.fromisoformat(text["started"]).tzinfo is not None
    assert datetime.datetime.fromisoformat(text["ended"]).tzinfo is not None
    assert list(text) == [field.name for field in dataclasses.fields(written)]


def test_the_newest_is_first_whatever_the_zone(tmp_path):
    # 12:30 UTC is after 14:00 two hours east of it.
    for name, started in (
        ("a", "2026-01-01T14:00:00+02:00"),
        ("b", "2026-01-01T12:30:00+00:00"),
        ("c", "2025-12-31T23:00:00-05:00"),
    ):
        run_record.write(tmp_path, ended(name, started=started))
    assert [found.run_id for found in run_record.read_all(tmp_path)[0]] == [
        "b",
        "a",
        "c",
    ]


def test_a_number_that_is_none_is_null(tmp_path):
    run_record.write(tmp_path, ended(elbo=math.nan, difference=-math.inf))
    ((found,), problems) = run_record.read_all(tmp_path)
    assert (found.elbo, found.difference, problems) == (None, None, [])


def test_a_run_that_ends_without_a_verdict_failed():
    found = ended()
    assert (found.verdict, found.error) == ("failed", "it ended without a verdict")
    failed = run_record.begun(resolve("smoke"), "a")
    failed.failed(run_record.FAILED, "why")
    failed.end()
    assert (failed.verdict, failed.error) == ("failed", "why")


def test_the_wall_time_is_not_that_of_a_clock_that_jumps(monkeypatch):
    found = run_record.begun(resolve("smoke"), "a")
    found.started = "2199-01-01T00:00:00+00:00"
    found.end()
    assert 0 <= found.seconds < 60


def test_the_digest_is_of_what_decides(tmp_path):
    def digest(*settings):
        return run_record.begun(resolve("smoke", settings=settings), "a").config_digest

    assert digest() == digest("notify.timeout=3", "metrics.textfile=/a/b.prom")
    assert digest() != digest("train.seed=7")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Invalid JSON: EOF while parsing"),
        (b'{"run_id": "run-1", "sta', "Invalid JSON: EOF while parsing"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"[1, 2]", "Input should be "),
        (b'{"a": 1}', "run_id: Field required"),
        (None, "Is a directory"),
    ],
)
def test_what_is_no_record_is_told_and_skipped(tmp_path, content, why):
    run_record.write(tmp_path, ended())
    foreign = tmp_path / "history" / "run-0.json"
    if content is None:
        foreign.mkdir()
    else:
        foreign.write_bytes(content)
    (tmp_path / "history" / ".run-2.json.1.tmp").write_text("half")
    records, (problem,) = run_record.read_all(tmp_path)
    assert [found.run_id for found in records] == ["run-1"]
    assert problem.startswith(f"{foreign} is not a run's record, skipped: {why}")


@pytest.mark.parametrize(
    ("started", "why"),
    [
        ("yesterday", "Invalid isoformat string: 'yesterday'"),
        ("2026-01-01T00:00:00", "started must have a time zone, got '2026-01-01T"),
    ],
)
def test_a_start_that_is_no_time_is_told(tmp_path, started, why):
    run_record.write(tmp_path, ended(started=started))
    records, (problem,) = run_record.read_all(tmp_path)
    assert records == []
    assert why in problem


def test_fields_of_a_later_version_are_passed_over(tmp_path):
    run_record.write(tmp_path, ended())
    path = tmp_path / "history" / "run-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    assert len(run_record.read_all(tmp_path)[0]) == 1


def test_no_folder_is_no_run(tmp_path):
    assert run_record.read_all(tmp_path) == ([], [])
    assert run_record.last_ended(tmp_path) is None


def test_a_killed_run_died_and_this_one_runs(tmp_path):
    command = [sys.executable, "-c", ROOT_MODULE, str(tmp_path), "run-1"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    run_record.write(tmp_path, run_record.begun(resolve("smoke"), "run-2"))
    found, _ = run_record.read_all(tmp_path)
    assert [each.verdict for each in found] == ["running", "died"]
    assert run_record.last_ended(tmp_path) is None
    run_record.write(tmp_path, ended("run-0"))
    assert run_record.last_ended(tmp_path).run_id == "run-0"


def test_a_process_is_more_than_its_number():
    this = process.this()
    assert not this.is_gone()
    assert dataclasses.replace(this, born="another boot 1").is_gone()
    assert not dataclasses.replace(this, host="elsewhere", born="").is_gone()
    child = subprocess.Popen(["sleep", "300"])
    born = process._born(child.pid)
    alive = process.Process(child.pid, this.host, born)
    assert not alive.is_gone()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert alive.is_gone()  # a zombie
    child.wait()
    assert alive.is_gone()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    atomic_write.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_write.write(path, "half" * 10_000 + "\ud800")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_last_run_is_the_one_that_ended_last(tmp_path):
    """One that left at the lock of another began later and ended earlier."""
    for name, started, ended in [("a", 1, 5), ("b", 2, 3), ("c", 4, None)]:
        kept = run_record.begun(resolve("smoke"), name)
        kept.started = f"2026-11-23T0{started}:00:00+00:00"
        if ended:
            kept.end()
            kept.ended = f"2026-11-23T0{ended}:00:00+00:00"
        run_record.write(tmp_path, kept)
    assert run_record.last_ended(tmp_path).run_id == "a"


def test_a_push_stays_one_whatever_fails_after_it():
    kept = run_record.begun(resolve("smoke"), "a")
    kept.verdict, kept.version = run_record.PUSHED, 7
    kept.failed(run_record.FAILED, "Report failed: no room")
    kept.end()
    assert (kept.verdict, kept.version) == (run_record.PUSHED, 7)
    assert kept.error == "Report failed: no room"


def test_the_turns_of_a_run_have_its_name():
    run = "run-20261124-094028-129688"
    assert [run_record.turn(run, n) for n in (1, 2)] == [run, run + ".2"]
    assert {run_record.of_turn(run_record.turn(run, n)) for n in (1, 2, 3)} == {run}
