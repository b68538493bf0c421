"""The check whether a run would repeat an earlier one."""

import pathlib

from components.registry import listing
from pipeline.runs import run_record
from pipeline.runs.run_record import RunRecord, RunStatus

_DECIDED = (RunStatus.PUSHED, RunStatus.UNCHANGED, RunStatus.REFUSED)


def find_last_decided(root: pathlib.Path) -> RunRecord | None:
    """Returns the record of the last run in a root that ended with a gate decision.

    An unreadable record is skipped: at worst, one run is repeated.
    """
    records, _ = run_record.read_all(root)
    return next((record for record in records if record.status in _DECIDED), None)


def explain_nothing_to_do(
    last: RunRecord | None,
    *,
    run_key: str,
    baseline: str,
    served: listing.Version | None,
    spans: str,
) -> str | None:
    """Returns the message for a run that would repeat an earlier one, or None.

    A run that was pushed is not repeated, even after a rollback from its version; but
    it is repeated if no version is served any more. A refused run is repeated if the
    baseline has changed.

    Args:
      last: the last run that the gate decided on.
      run_key: the key of the new run.
      baseline: the version that the new run would be measured against.
      served: the version that is served now.
      spans: the data's spans, such as `span 7`; empty if the data have none.
    """
    same = last if last is not None and last.run_key == run_key else None
    what = f"{spans or 'the data'} and the configuration are those of"
    if served is not None and served.manifest.run_key == run_key:
        if same is not None and same.status == RunStatus.PUSHED:
            what += f" run {same.run_id}, which was pushed as"
        return f"nothing to do: {what} version {served.number}"
    if same is None or (served is None and same.status != RunStatus.REFUSED):
        return None
    if same.status == RunStatus.REFUSED and same.baseline != baseline:
        return None
    ends = {
        RunStatus.PUSHED: f"was pushed as version {same.version}",
        RunStatus.UNCHANGED: f"made what is served, version {same.served_version}",
        RunStatus.REFUSED: "the gate refused",
    }
    return f"nothing to do: {what} run {same.run_id}, which {ends[same.status]}"
