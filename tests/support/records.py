"""Run records with given facts."""

import dataclasses
import pathlib

from pipeline.config.loading import resolve
from pipeline.runs import run_record
from pipeline.runs.run_record import RunRecord, RunStatus, StepTime


def make_record(run_id: str = "run-1", **facts) -> RunRecord:
    """Returns the record of a run in this process, with the given facts."""
    facts["status"] = RunStatus(facts.get("status", RunStatus.RUNNING))
    record = run_record.create_record(resolve("smoke"), run_id)
    return dataclasses.replace(record, **facts)


def make_pushed_record(run_id: str = "run-1") -> RunRecord:
    """Returns the record of a run that pushed its model and ended."""
    return make_record(
        run_id,
        status=RunStatus.PUSHED,
        elbo=-271.25,
        independent_pixels=-206.25,
        baseline_elbo=-280.5,
        served_version=1795457098,
        versions=3,
        steps=[
            StepTime(name="Trainer", seconds=12.5, cached=False),
            StepTime(name="Ingest", seconds=0.25, cached=True),
        ],
        ended="2026-11-23T19:00:00.500+01:00",
        seconds=61.25,
    )


def keep_record(root: pathlib.Path, run_id: str, second: int, **facts) -> RunRecord:
    """Writes the record of a run that ended, and returns it.

    Args:
      root: the root of the runs.
      run_id: the name of the run.
      second: the second of its minute in which the run started, 0 to 59.
      facts: other fields of the record.
    """
    defaults = {
        "status": RunStatus.UNCHANGED,
        "started": f"2026-11-23T18:00:{second:02d}.123+00:00",
        "ended": f"2026-11-23T18:01:{second:02d}.123+00:00",
        "seconds": 12.345,
    }
    record = make_record(run_id, **{**defaults, **facts})
    run_record.write(root, record)
    return record
