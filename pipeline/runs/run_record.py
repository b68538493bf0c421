"""The record of each run, `<root>/history/<run_id>.json`: its facts and its files.

A record is written when a run begins, when its state changes and when it ends. A run
that was killed leaves a record with the status `running` and a process that is gone.
Only `recorder.RunRecorder` changes the record of a run.
"""

import dataclasses
import datetime
import enum
import hashlib
import json
import math
import pathlib
from typing import Annotated

import pydantic

from model.errors import PipelineError
from model.files import atomic_write
from pipeline.config import loading
from pipeline.runs import process


class RunRecordError(PipelineError):
    """A file of the history is not a run's record."""


class RunStatus(str, enum.Enum):
    """How a run ended, or that it has not."""

    RUNNING = "running"
    PUSHED = "pushed"  # the model was blessed, and is the next version
    UNCHANGED = "unchanged"  # the model was blessed, but is no new one
    REFUSED = "refused"  # by the gate
    FAILED = "failed"
    BAD_DATA = "bad_data"  # the data cannot be had, or are not what they should be
    INTERRUPTED = "interrupted"  # by SIGINT or SIGTERM
    DIED = "died"  # its process is gone: whoever reads the record finds that out
    NOTHING_TO_DO = "nothing_to_do"  # never written: such a run leaves no record


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTime:
    """How long a step took."""

    name: str
    seconds: float
    cached: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The facts of one run.

    ELBOs are in nats per image, higher is better. None: not known, or there is none.
    """

    run_id: str
    started: str  # ISO 8601, with the zone
    process: process.Process
    model: str  # push.model_name
    dataset: str
    config_digest: str  # SHA-256 of the settings that decide what a run makes
    # In JSON, `verdict`.
    status: Annotated[RunStatus, pydantic.Field(alias="verdict")] = RunStatus.RUNNING
    ended: str | None = None  # ISO 8601, with the zone
    seconds: float | None = None  # wall time of the run
    step: str | None = None  # the step that runs, that failed or was interrupted
    error: str | None = None
    steps: list[StepTime] = dataclasses.field(default_factory=list)  # that completed
    fingerprint: str | None = None  # of the data
    run_key: str | None = None  # digest of settings, data, code and stack
    baseline: str | None = None  # version and digest; `none`: nothing was served
    elbo: float | None = None  # the candidate's, and its terms
    reconstruction: float | None = None
    kl: float | None = None
    estimate: str | None = None  # describes how these are estimated
    baseline_elbo: float | None = None
    baseline_version: int | None = None
    difference: float | None = None  # elbo - baseline_elbo
    refusals: list[str] = dataclasses.field(default_factory=list)
    version: int | None = None  # that this run pushed
    served_version: int | None = None  # at the end
    versions: int | None = None  # complete versions at the push destination


def create_record(settings: loading.PipelineConfig, run_id: str) -> RunRecord:
    """Returns the record of a run that begins now, in this process."""
    decisive = json.dumps(loading.decisive(settings), sort_keys=True)
    return RunRecord(
        run_id=run_id,
        started=timestamp(),
        process=process.current(),
        model=settings.push.model_name,
        dataset=settings.data.dataset,
        config_digest=hashlib.sha256(decisive.encode()).hexdigest(),
    )


def to_dict(record: RunRecord) -> dict:
    """Returns the keys and values of a record's JSON; NaN and infinity become None."""
    fields = dataclasses.asdict(record)
    fields["status"] = record.status.value
    return {
        "verdict" if key == "status" else key: (
            None if isinstance(value, float) and not math.isfinite(value) else value
        )
        for key, value in fields.items()
    }


def write(root: pathlib.Path, record: RunRecord) -> None:
    """Writes or replaces a run's record below a root.

    Raises:
      OSError: it could not be written.
    """
    text = json.dumps(to_dict(record), indent=2, allow_nan=False)
    atomic_write.write(_folder(root) / f"{record.run_id}.json", text + "\n")


def discard(root: pathlib.Path, record: RunRecord) -> None:
    """Removes a run's record, if there is one."""
    (_folder(root) / f"{record.run_id}.json").unlink(missing_ok=True)


def read_all(root: pathlib.Path) -> tuple[list[RunRecord], list[str]]:
    """Returns the records below a root, newest first, and the faults of other files.

    A record that says `running`, of a process that is gone, gets the status `died`.

    Raises:
      OSError: the folder cannot be read.
    """
    records, problems = [], []
    for path in _paths(root):
        try:
            records.append(_read(path))
        except RunRecordError as error:
            problems.append(str(error))
    by_start = sorted(records, key=_start, reverse=True)
    return by_start, problems


def last_ended(root: pathlib.Path) -> RunRecord | None:
    """Returns the record of the run that ended last, if there is one."""
    ended = [record for record in read_all(root)[0] if record.ended is not None]
    return max(ended, key=_end, default=None)


def turn_name(run_id: str, number: int) -> str:
    """Returns the name in metadata of a run's first turn through the graph, or a later.

    A run goes through the graph again when an artifact from the cache was damaged.
    """
    return run_id if number == 1 else f"{run_id}.{number}"


def run_id_of_turn(name: str) -> str:
    """Returns the id of the run whose turn has this name in metadata."""
    return name.partition(".")[0]


def timestamp() -> str:
    """Returns the time now: ISO 8601, with milliseconds and the zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


def _read(path: pathlib.Path) -> RunRecord:
    skipped = f"{path} is not a run's record, skipped"
    try:
        record = pydantic.TypeAdapter(RunRecord).validate_json(path.read_bytes())
        zone = datetime.datetime.fromisoformat(record.started).tzinfo
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
        raise RunRecordError(f"{skipped}: {why}") from error
    except OSError as error:
        raise RunRecordError(f"{skipped}: {error.strerror}") from error
    except ValueError as error:
        raise RunRecordError(f"{skipped}: {error}") from error
    if zone is None:
        raise RunRecordError(
            f"{skipped}: started must have a time zone, got {record.started!r}"
        )
    if record.status == RunStatus.RUNNING and record.process.is_gone():
        return dataclasses.replace(record, status=RunStatus.DIED)
    return record


def _start(record: RunRecord) -> datetime.datetime:
    return datetime.datetime.fromisoformat(record.started)


def _end(record: RunRecord) -> datetime.datetime:
    return datetime.datetime.fromisoformat(record.ended or record.started)


def _folder(root: pathlib.Path) -> pathlib.Path:
    return root / "history"


def _paths(root: pathlib.Path) -> list[pathlib.Path]:
    folder = _folder(root)
    if not folder.is_dir():
        return []
    # What begins with a dot is being written.
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
