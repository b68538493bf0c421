"""What the last run that came to a verdict was of: so that it need not be repeated."""

import dataclasses
import json
import pathlib

from components import versions

_FILE = "last_run.json"  # in the root

PUSHED, UNCHANGED, REFUSED = "pushed", "unchanged", "refused"


@dataclasses.dataclass(frozen=True)
class LastRun:
    """The last run that came to a verdict."""

    run_id: str
    run_key: str  # of all that decided what it made, but the baseline
    baseline: str  # what it was judged against
    verdict: str  # PUSHED, UNCHANGED or REFUSED
    version: int | None  # served at its end


def read(root: pathlib.Path) -> LastRun | None:
    """Returns what `write` left; None if there is nothing, or nothing that is known."""
    try:
        return LastRun(**json.loads((root / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None  # a run too many does no harm


def write(root: pathlib.Path, last: LastRun) -> None:
    """Leaves what the run came to, in place of what the one before left."""
    text = json.dumps(dataclasses.asdict(last), indent=2) + "\n"
    beside = root / f".{_FILE}"
    beside.write_text(text)
    beside.replace(root / _FILE)


def nothing_to_do(
    last: LastRun | None,
    run_key: str,
    baseline: str,
    served: versions.Version | None,
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
    if served is not None and served.manifest.get("run_key") == run_key:
        run = f"run {same.run_id}, which was pushed as " if same else ""
        return f"nothing to do: {what} {run}version {served.number}"
    if same is None or (served is None and same.verdict != REFUSED):
        return None
    if same.verdict == REFUSED and same.baseline != baseline:
        return None
    came = {
        PUSHED: f"was pushed as version {same.version}",
        UNCHANGED: f"made what is served, version {same.version}",
        REFUSED: "the gate refused",
    }
    return f"nothing to do: {what} run {same.run_id}, which {came[same.verdict]}"
