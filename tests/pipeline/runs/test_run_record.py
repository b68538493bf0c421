"""Run records: written as a whole, and validated when they are read."""

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
from pipeline.runs import lifecycle, run_record
from pipeline.runs.run_record import RunStatus, StepTime
from tests.support.records import make_record

ROOT_MODULE = """
import os, signal, sys, pathlib
from pipeline.config import loading
from pipeline.runs import run_record
kept = run_record.create_record(loading.resolve("smoke"), sys.argv[2])
run_record.write(pathlib.Path(sys.argv[1]), kept)
os.kill(os.getpid(), signal.SIGKILL)
"""


UNKNOWN_STATUS = (
    b'{"run_id": "run-0", "started": "2026-01-01T00:00:00+00:00", "model": "vae", '
    b'"process": {"pid": 7, "host": "a", "born": "b 1"}, "dataset": "mnist", '
    b'"config_digest": "c", "verdict": "won"}'
)
END = "2026-01-01T15:00:00+00:00"


def test_what_is_written_is_read(tmp_path):
    written = make_record(
        status="pushed",
        elbo=-91.5,
        difference=0.25,
        version=1795457098,
        ended=END,
        steps=[
            StepTime(name="Trainer", seconds=12.346, cached=False),
            StepTime(name="Ingest", seconds=0.0, cached=True),
        ],
    )
    run_record.write(tmp_path, written)
    assert run_record.read_all(tmp_path) == ([written], [])
    text = json.loads((tmp_path / "history" / "run-1.json").read_text())
    assert text["verdict"] == "pushed"
    assert text["steps"] == [
        {"name": "Trainer", "seconds": 12.346, "cached": False},
        {"name": "Ingest", "seconds": 0.0, "cached": True},
    ]
    assert text["process"]["pid"] == os.getpid()
    assert datetime.datetime.fromisoformat(text["started"]).tzinfo is not None


def test_the_keys_and_their_order_stay():
    """Other programs read the keys."""
    assert list(run_record.to_dict(make_record())) == [
        *("run_id", "started", "process", "model", "dataset", "config_digest"),
        *("verdict", "ended", "seconds", "step", "error", "steps", "fingerprint"),
        *("run_key", "baseline", "elbo", "reconstruction", "kl", "estimate"),
        "independent_pixels",
        *("baseline_elbo", "baseline_version", "difference"),
        *("elbo_fall", "elbo_fall_standard_errors", "refusals", "version"),
        *("served_version", "versions"),
    ]


def test_a_record_without_the_later_fields_is_read(tmp_path):
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "run-1.json").write_text(
        '{"run_id": "run-1", "started": "2026-11-23T18:00:00.123+00:00", "process": '
        '{"pid": 7, "host": "a", "born": "b 1"}, "model": "vae", "dataset": "mnist", '
        '"config_digest": "c", "verdict": "bad_data", "error": "no images"}'
    )
    ((found,), problems) = run_record.read_all(tmp_path)
    assert problems == []
    assert (found.status, found.error) == (RunStatus.BAD_DATA, "no images")


def test_the_newest_is_first_whatever_the_zone(tmp_path):
    # 12:30 UTC is after 14:00 two hours east of it.
    for name, started in (
        ("a", "2026-01-01T14:00:00+02:00"),
        ("b", "2026-01-01T12:30:00+00:00"),
        ("c", "2025-12-31T23:00:00-05:00"),
    ):
        run_record.write(tmp_path, make_record(name, started=started))
    assert [found.run_id for found in run_record.read_all(tmp_path)[0]] == [
        "b",
        "a",
        "c",
    ]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    run_record.write(tmp_path, make_record(elbo=math.nan, difference=-math.inf))
    ((found,), problems) = run_record.read_all(tmp_path)
    assert (found.elbo, found.difference, problems) == (None, None, [])


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_record().status = RunStatus.PUSHED


def test_the_digest_is_of_what_decides(tmp_path):
    def digest(*settings):
        config = resolve("smoke", settings=settings)
        return run_record.create_record(config, "a").config_digest

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
        (UNKNOWN_STATUS, "verdict: Input should be 'running', 'pushed', "),
        (None, "Is a directory"),
    ],
)
def test_a_file_that_is_not_a_record_is_named_and_skipped(tmp_path, content, why):
    run_record.write(tmp_path, make_record())
    foreign = tmp_path / "history" / "run-0.json"
    if content is None:
        foreign.mkdir()
    else:
        foreign.write_bytes(content)
    (tmp_path / "history" / ".run-2.json.1.tmp").write_text("half")
    records, (problem,) = run_record.read_all(tmp_path)
    assert [found.run_id for found in records] == ["run-1"]
    assert problem.startswith(f"{foreign} is not a run record and was skipped: {why}")


@pytest.mark.parametrize(
    "run_id",
    [
        *("../../../escaped", "/escaped", "", ".", "..", "run-0\0", "run-0\n"),
        *("run-0/", "run-0.json", "run-00", "RUN-0", "x" * 5_000),
    ],
)
def test_a_record_has_the_id_of_its_file(tmp_path, run_id):
    root = tmp_path / "a" / "root"
    run_record.write(root, make_record("run-0"))
    path = root / "history" / "run-0.json"
    content = json.loads(path.read_text()) | {"run_id": run_id}
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    records, (problem,) = run_record.read_all(root)
    assert records == []
    shown = repr(run_id[:100]) + ("..." if len(run_id) > 100 else "")
    assert problem == (
        f"{path} is not a run record and was skipped: run_id must be 'run-0', as the "
        f"file's name, got {shown}"
    )
    with lifecycle.record_run(
        resolve("smoke"), root, run_id="run-1", should_wait=False, print_line=print
    ):
        pass
    assert path.read_bytes() == before
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.json")}
    assert files == {"a/root/history/run-0.json", "a/root/history/run-1.json"}


def test_a_record_is_a_file_of_the_folder(tmp_path):
    run_record.write(tmp_path, make_record("run-1"))
    folder = tmp_path / "history"
    (folder / "run-1.json").rename(tmp_path / "run-1.json")
    (folder / "run-1.json").symlink_to(tmp_path / "run-1.json")
    (folder / "run-2.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "run-3.json")
    (folder / "copy.json").write_bytes((tmp_path / "run-1.json").read_bytes())
    skipped = "is not a run record and was skipped: "
    assert run_record.read_all(tmp_path) == (
        [],
        [
            f"{folder}/copy.json {skipped}run_id must be 'copy', as the file's name, "
            "got 'run-1'",
            f"{folder}/run-1.json {skipped}it is a symbolic link; remove it",
            f"{folder}/run-2.json {skipped}it is a symbolic link; remove it",
            f"{folder}/run-3.json {skipped}{folder}/run-3.json must be a regular "
            "file, but it is a named pipe: remove it",
        ],
    )


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    run_record.write(tmp_path, make_record("run-1"))
    path = tmp_path / "history" / "run-1.json"
    with path.open("r+b") as file:
        file.truncate(2**40)
    assert run_record.read_all(tmp_path) == (
        [],
        [
            f"{path} is not a run record and was skipped: it must have at most "
            "1,000,000 bytes, got more; remove it"
        ],
    )


@pytest.mark.parametrize(
    ("started", "why"),
    [
        ("yesterday", "Invalid isoformat string: 'yesterday'"),
        ("2026-01-01T00:00:00", "started must have a time zone, got '2026-01-01T"),
    ],
)
def test_an_invalid_start_time_is_named(tmp_path, started, why):
    run_record.write(tmp_path, make_record(started=started))
    records, (problem,) = run_record.read_all(tmp_path)
    assert records == []
    assert why in problem


def test_fields_of_a_later_version_are_passed_over(tmp_path):
    run_record.write(tmp_path, make_record())
    path = tmp_path / "history" / "run-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    assert len(run_record.read_all(tmp_path)[0]) == 1


def test_a_missing_folder_has_no_runs(tmp_path):
    assert run_record.read_all(tmp_path) == ([], [])
    assert run_record.last_ended(tmp_path) is None


def test_a_killed_run_died_and_this_one_runs(tmp_path):
    command = [sys.executable, "-c", ROOT_MODULE, str(tmp_path), "run-1"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    run_record.write(tmp_path, make_record("run-2"))
    found, _ = run_record.read_all(tmp_path)
    assert [each.status for each in found] == [RunStatus.RUNNING, RunStatus.DIED]
    assert run_record.last_ended(tmp_path) is None
    run_record.write(tmp_path, make_record("run-0", ended=END))
    assert run_record.last_ended(tmp_path).run_id == "run-0"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    atomic_write.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_write.write(path, "half" * 10_000 + "\ud800")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_last_run_is_the_one_that_ended_last(tmp_path):
    """A run that found a lock began later and ended earlier."""
    for name, started, ended in [("a", 1, 5), ("b", 2, 3), ("c", 4, None)]:
        record = make_record(
            name,
            started=f"2026-11-23T0{started}:00:00+00:00",
            ended=f"2026-11-23T0{ended}:00:00+00:00" if ended else None,
        )
        run_record.write(tmp_path, record)
    assert run_record.last_ended(tmp_path).run_id == "a"


def test_the_turns_of_a_run_have_its_name():
    run = "run-20261124-094028-129688"
    assert [run_record.make_turn_name(run, n) for n in (1, 2)] == [run, run + ".2"]
    assert {
        run_record.parse_run_id(run_record.make_turn_name(run, n)) for n in (1, 2, 3)
    } == {run}
