"""Whether a run would only repeat the last one that came to a verdict."""

import pathlib

from components.registry import listing
from pipeline.runs import run_record as records
from pipeline.runs.run_record import PUSHED, REFUSED, UNCHANGED, RunRecord


def find(root: pathlib.Path) -> RunRecord | None:
    """Returns the record of the last run below a root that came to a verdict."""
    found, _ = records.read_all(root)  # without one, a run too many does no harm
    verdicts = (PUSHED, UNCHANGED, REFUSED)
    return next((record for record in found if record.verdict in verdicts), None)


def nothing_to_do(
    last: RunRecord | None,
    run_key: str,
    baseline: str,
    served: listing.Version | None,
    spans: str,
) -> str | None:
    """Returns why a run would come to what one has come to already, or None.

    A run whose version was rolled back is not repeated, one whose version is gone
    altogether is; so is a refused one when another version is served since.

    Args:
      last: the last run.
      run_key: of the run to be.
      baseline: what it would be judged against.
      served: what is served now.
      spans: such as `span 7`; empty if the data are none.
    """
    same = last if last is not None and last.run_key == run_key else None
    what = f"{spans or 'the data'} and the configuration are those of"
    if served is not None and served.manifest.run_key == run_key:
        if same is not None and same.verdict == PUSHED:
            what += f" run {same.run_id}, which was pushed as"
        return f"nothing to do: {what} version {served.number}"
    if same is None or (served is None and same.verdict != REFUSED):
        return None
    if same.verdict == REFUSED and same.baseline != baseline:
        return None
    came = {
        PUSHED: f"was pushed as version {same.version}",
        UNCHANGED: f"made what is served, version {same.served_version}",
        REFUSED: "the gate refused",
    }
    return f"nothing to do: {what} run {same.run_id}, which {came[same.verdict]}"
