"""The conditions under which a run would repeat the result of an earlier run."""

import pytest

from components.registry.listing import Version
from components.registry.manifest import Manifest
from pipeline.local import up_to_date
from pipeline.runs import run_record
from pipeline.runs.run_record import RunStatus
from tests.support.records import make_record

FAILED, PUSHED = RunStatus.FAILED, RunStatus.PUSHED
REFUSED, UNCHANGED = RunStatus.REFUSED, RunStatus.UNCHANGED


def served(number, run_key):
    manifest = Manifest.from_content({"run_key": run_key})
    return Version(number=number, path=f"/serving/vae/{number}", manifest=manifest)


def last(status, run_key="now", baseline="11 x", version=12, **facts):
    return make_record(
        status=status,
        run_key=run_key,
        baseline=baseline,
        version=version if status == PUSHED else None,
        served_version=version,
        **facts,
    )


def line(last, served, baseline="11 x", spans="span 7"):
    return up_to_date.explain_nothing_to_do(
        last, run_key="now", baseline=baseline, served=served, spans=spans
    )


SAME = "nothing to do: span 7 and the configuration are those of "


@pytest.mark.parametrize(
    ("before", "version", "expected"),
    [
        (
            last(PUSHED),
            served(12, "now"),
            f"{SAME}run run-1, which was pushed as version 12",
        ),
        # The root's record may be lost, or be that of another run.
        (None, served(12, "now"), f"{SAME}version 12"),
        (last(REFUSED, run_key="other"), served(12, "now"), f"{SAME}version 12"),
        # The version was rolled back.
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
def test_a_run_with_the_same_result_is_skipped(before, version, expected):
    assert line(before, version) == expected


@pytest.mark.parametrize(
    ("before", "version"),
    [
        (None, None),
        (None, served(12, "other")),
        (last(PUSHED, run_key="other"), served(12, "other")),
        # The pushed version is removed, and no other version exists.
        (last(PUSHED), None),
        (last(UNCHANGED), None),
        # The model was refused because it was worse than another baseline.
        (last(REFUSED, baseline="10 y"), served(11, "other")),
    ],
)
def test_a_run_with_another_result_is_not_skipped(before, version):
    assert line(before, version) is None


def test_data_without_spans_are_the_data():
    assert line(None, served(3, "now"), spans="") == (
        "nothing to do: the data and the configuration are those of version 3"
    )


def test_the_last_run_that_the_gate_decided_on_counts(tmp_path):
    assert up_to_date.find_last_decided(tmp_path) is None
    for number, status in enumerate((PUSHED, REFUSED, FAILED)):
        started = f"2026-11-23T03:0{number}:00.000+00:00"
        record = last(status, run_id=f"run-{number}", started=started)
        run_record.write(tmp_path, record)
    assert up_to_date.find_last_decided(tmp_path).run_id == "run-1"
