"""When a run would come to what one has come to already."""

import pytest

from components.registry.listing import Version
from components.registry.manifest import Manifest
from pipeline.config.loading import PipelineConfig
from pipeline.local import up_to_date
from pipeline.runs import run_record as records
from pipeline.runs.run_record import FAILED, PUSHED, REFUSED, UNCHANGED


def served(number, run_key):
    manifest = Manifest.from_content({"run_key": run_key})
    return Version(number, f"/serving/vae/{number}", manifest)


def last(verdict, run_key="now", baseline="11 x", version=12):
    record = records.begun(PipelineConfig(), "run-1")
    record.run_key, record.baseline, record.verdict = run_key, baseline, verdict
    record.version = version if verdict == PUSHED else None
    record.served_version = version
    return record


def line(last, served, baseline="11 x", spans="span 7"):
    return up_to_date.nothing_to_do(last, "now", baseline, served, spans)


SAME = "nothing to do: span 7 and the configuration are those of "


@pytest.mark.parametrize(
    ("before", "version", "expected"),
    [
        (
            last(PUSHED),
            served(12, "now"),
            f"{SAME}run run-1, which was pushed as version 12",
        ),
        # The root's file may be lost, or of another run.
        (None, served(12, "now"), f"{SAME}version 12"),
        (last(REFUSED, run_key="other"), served(12, "now"), f"{SAME}version 12"),
        # It was rolled back from.
        (
            last(PUSHED),
            served(11, "other"),
            f"{SAME}run run-1, which was pushed as version 12",
        ),
        (
            last(REFUSED),
            served(11, "other"),
            f"{SAME}run run-1, which the gate refused",
        ),
        (last(REFUSED), None, f"{SAME}run run-1, which the gate refused"),
        (
            last(UNCHANGED, version=11),
            served(11, "other"),
            f"{SAME}run run-1, which made what is served, version 11",
        ),
    ],
)
def test_what_would_be_the_same_is_not_run(before, version, expected):
    assert line(before, version) == expected


@pytest.mark.parametrize(
    ("before", "version"),
    [
        (None, None),
        (None, served(12, "other")),
        (last(PUSHED, run_key="other"), served(12, "other")),
        # What was pushed is gone, and nothing else is there.
        (last(PUSHED), None),
        (last(UNCHANGED), None),
        # It was refused for being worse than another baseline.
        (last(REFUSED, baseline="10 y"), served(11, "other")),
    ],
)
def test_what_would_be_another_is_run(before, version):
    assert line(before, version) is None


def test_data_without_spans_are_the_data():
    assert line(None, served(3, "now"), spans="") == (
        "nothing to do: the data and the configuration are those of version 3"
    )


def test_the_last_run_that_came_to_a_verdict_counts(tmp_path):
    assert up_to_date.find(tmp_path) is None
    for number, verdict in enumerate((PUSHED, REFUSED, FAILED)):
        record = last(verdict)
        record.run_id = f"run-{number}"
        record.started = f"2026-11-23T03:0{number}:00.000+00:00"
        records.write(tmp_path, record)
    assert up_to_date.find(tmp_path).run_id == "run-1"
