"""Run records, as runs leave them."""

from pipeline.config.loading import resolve
from pipeline.runs import run_record


def keep(root, run_id, second, **changes):
    """Writes the record of a run that ended, with these fields; returns it.

    Args:
      root: of the runs.
      run_id: of the run.
      second: of the minute in which it started.
      changes: the values of other fields, by name.
    """
    found = run_record.begun(resolve("smoke"), run_id)
    found.verdict = run_record.UNCHANGED
    found.end()
    found.started = f"2026-11-23T18:00:{second:02d}.123+00:00"
    found.seconds = 12.345
    for name, value in changes.items():
        setattr(found, name, value)
    run_record.write(root, found)
    return found


def pushed(run_id="run-1"):
    """Returns the record of a run that pushed a version."""
    found = run_record.begun(resolve("smoke"), run_id)
    found.verdict, found.elbo, found.baseline_elbo = "pushed", -271.25, -280.5
    found.served_version, found.versions = 1795457098, 3
    found.took("Trainer", 12.5)
    found.took("Ingest", 0.25, cached=True)
    found.end()
    found.ended, found.seconds = "2026-11-23T19:00:00.500+01:00", 61.25
    return found
