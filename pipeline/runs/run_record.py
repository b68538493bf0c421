"""The run record: the facts of a run, in `<root>/history/<run_id>.json`.

A record is written when a run begins, when its state changes and when it ends. The
record of a killed run keeps the status `running`, but its process has ended.
Only `recorder.RunRecorder` changes the record of a run.
"""

import dataclasses
import datetime
import enum
import hashlib
import json
import math
import pathlib
import re
from typing import Annotated

import pydantic

from model.errors import PipelineError
from model.files import atomic_write, regular_files
from pipeline.config import loading
from pipeline.runs import process

_MAX_BYTES = 1_000_000  # of a record's file; a record has about 2,000


class RunRecordError(PipelineError):
    """A file in the history folder is not a run record."""


class RunStatus(str, enum.Enum):
    """The status of a run: how it ended, or that it is running."""

    RUNNING = "running"
    PUSHED = "pushed"  # the model was blessed and published
    UNCHANGED = "unchanged"  # the model was blessed, but is the served one
    REFUSED = "refused"  # the gate refused the model
    FAILED = "failed"
    BAD_DATA = "bad_data"  # the data cannot be read, or the data gate refused them
    INTERRUPTED = "interrupted"  # by SIGINT or SIGTERM
    DIED = "died"  # not written: `read_all` sees that the process has ended
    NOTHING_TO_DO = "nothing_to_do"  # not written: such a run leaves no record


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTime:
    """The wall time of a completed step, and whether it came from the cache."""

    name: str
    seconds: float
    cached: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The facts of one run.

    ELBOs are in nats per image; higher is better. A field is None if its value is not
    known or does not exist.
    """

    run_id: str
    started: str  # ISO 8601, with the zone
    process: process.Process
    model: str  # push.model_name
    dataset: str
    config_digest: str  # SHA-256 of the settings that decide what a run makes
    # Named `verdict` in JSON.
    status: Annotated[RunStatus, pydantic.Field(alias="verdict")] = RunStatus.RUNNING
    ended: str | None = None  # ISO 8601, with the zone
    seconds: float | None = None  # wall time of the run
    step: str | None = None  # the step that runs, failed or was interrupted
    error: str | None = None
    steps: list[StepTime] = dataclasses.field(default_factory=list)  # completed
    fingerprint: str | None = None  # the data's
    run_key: str | None = None  # digest of settings, data, code and stack
    baseline: str | None = None  # version and digest; `none`: no version was served
    elbo: float | None = None  # the candidate's; the next two are its terms
    reconstruction: float | None = None
    kl: float | None = None
    estimate: str | None = None  # how the candidate's ELBO was estimated
    independent_pixels: float | None = None  # their log-likelihood, beside the ELBO
    baseline_elbo: float | None = None
    baseline_version: int | None = None
    difference: float | None = None  # elbo - baseline_elbo
    # The fall of the baseline's ELBO from its own test split to this run's.
    elbo_fall: float | None = None
    elbo_fall_standard_errors: float | None = None
    refusals: list[str] = dataclasses.field(default_factory=list)
    version: int | None = None  # the version that this run pushed
    served_version: int | None = None  # at the end of the run
    versions: int | None = None  # complete versions at the push destination


def create_record(settings: loading.PipelineConfig, run_id: str) -> RunRecord:
    """Returns a new record: of a run that begins now in this process."""
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
    """Returns a record as a JSON object; NaN and infinity become None."""
    fields = dataclasses.asdict(record)
    fields["status"] = record.status.value
    return {
        "verdict" if key == "status" else key: (
            None if isinstance(value, float) and not math.isfinite(value) else value
        )
        for key, value in fields.items()
    }


def write(root: pathlib.Path, record: RunRecord) -> None:
    """Writes a run's record to its file in a root, or replaces the file.

    Raises:
      OSError: it could not be written.
    """
    text = json.dumps(to_dict(record), indent=2, allow_nan=False)
    atomic_write.write(_folder(root) / f"{record.run_id}.json", text + "\n")


def discard(root: pathlib.Path, record: RunRecord) -> None:
    """Removes the file of a run's record, if it exists."""
    (_folder(root) / f"{record.run_id}.json").unlink(missing_ok=True)


def read_all(root: pathlib.Path) -> tuple[list[RunRecord], list[str]]:
    """Reads all run records in a root.

    The status of a `running` record whose process has ended becomes `died`.

    Returns:
      The records, newest first, and a message for each file that is no record.

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


def make_turn_name(run_id: str, number: int) -> str:
    """Returns the name in ML Metadata of a run's turn through the graph.

    A run goes through the graph again if an artifact from the cache is damaged. The
    first turn has the run's id as its name; later turns have `.2`, `.3` after it.
    """
    return run_id if number == 1 else f"{run_id}.{number}"


def parse_run_id(name: str) -> str:
    """Returns the run id that the name of a turn in ML Metadata begins with."""
    return name.partition(".")[0]


def timestamp() -> str:
    """Returns the current time as ISO 8601, with milliseconds and the zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


def is_run_id(text: str) -> bool:
    """Returns whether a text can be a run's id, which is a part of files' names."""
    return re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,99}", text) is not None


def _read(path: pathlib.Path) -> RunRecord:
    """Returns the record in a file.

    A record is written to the file that its id names. So the id must be that of the
    file, or else a later write could change a file outside the folder.
    """
    skipped = f"{path} is not a run record and was skipped"
    if path.is_symlink():
        raise RunRecordError(f"{skipped}: it is a symbolic link; remove it")
    try:
        with regular_files.open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
    except regular_files.IrregularFileError as error:
        raise RunRecordError(f"{skipped}: {error}") from error
    except OSError as error:
        raise RunRecordError(f"{skipped}: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise RunRecordError(
            f"{skipped}: it must have at most {_MAX_BYTES:,} bytes, got more; remove it"
        )
    try:
        record = pydantic.TypeAdapter(RunRecord).validate_json(content)
        zone = datetime.datetime.fromisoformat(record.started).tzinfo
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
        raise RunRecordError(f"{skipped}: {why}") from error
    except ValueError as error:
        raise RunRecordError(f"{skipped}: {error}") from error
    if f"{record.run_id}.json" != path.name:
        raise RunRecordError(
            f"{skipped}: run_id must be {path.stem!r}, as the file's name, got "
            f"{_shorten(record.run_id)}"
        )
    if zone is None:
        raise RunRecordError(
            f"{skipped}: started must have a time zone, got {record.started!r}"
        )
    if record.status == RunStatus.RUNNING and record.process.has_ended():
        return dataclasses.replace(record, status=RunStatus.DIED)
    return record


def _shorten(text: str) -> str:
    """Returns the repr of a text, cut to its first 100 letters."""
    return repr(text[:100]) + ("..." if len(text) > 100 else "")


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
    # A name with a dot is a temporary file of a record that is being written.
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
