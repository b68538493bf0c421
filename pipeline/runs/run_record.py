"""What is kept of each run: `<root>/history/<run_id>.json`.

A record is written when a run begins and again when it ends: a run that was killed
leaves one that says `running`, of a process that is gone.
"""

import dataclasses
import datetime
import hashlib
import json
import math
import pathlib
import time

import pydantic

from model.files import atomic_write
from pipeline.config import loading
from pipeline.runs import process

RUNNING, DIED = "running", "died"
PUSHED, UNCHANGED, REFUSED = "pushed", "unchanged", "refused"
FAILED, BAD_DATA, INTERRUPTED = "failed", "bad_data", "interrupted"
NOTHING_TO_DO = "nothing_to_do"  # leaves no record


@dataclasses.dataclass(frozen=True)
class StepTime:
    """How long a step took."""

    name: str
    seconds: float
    cached: bool


@dataclasses.dataclass
class RunRecord:
    """What a run was and what came of it; filled in as it goes on.

    ELBOs are in nats per image, higher is better. None: not known, or none.
    """

    run_id: str
    started: str  # ISO 8601, with the zone
    process: process.Process
    model: str  # push.model_name
    dataset: str
    config_digest: str  # SHA-256 of the settings that decide what a run makes
    verdict: str = RUNNING  # or another word from above
    ended: str | None = None
    seconds: float | None = None  # in all
    step: str | None = None  # in which it is, failed or was interrupted
    error: str | None = None
    steps: list[StepTime] = dataclasses.field(default_factory=list)  # that ended well
    fingerprint: str | None = None  # of the data
    run_key: str | None = None  # digest of settings, data, code and stack
    baseline: str | None = None  # version and digest; `none`: nothing was served
    elbo: float | None = None  # the candidate's, and its terms
    reconstruction: float | None = None
    kl: float | None = None
    estimate: str | None = None  # how these are estimated, in words
    baseline_elbo: float | None = None
    baseline_version: int | None = None
    difference: float | None = None  # elbo - baseline_elbo
    refusals: list[str] = dataclasses.field(default_factory=list)
    version: int | None = None  # that this run pushed
    served_version: int | None = None  # at the end
    versions: int | None = None  # complete ones at the push destination

    def __post_init__(self):
        self._began = time.monotonic()  # the clock of `started` may jump

    def begin(self) -> None:
        """Notes that the run begins now."""
        self.started, self._began = _now(), time.monotonic()

    def took(self, name: str, seconds: float, cached: bool = False) -> None:
        """Notes that the step in which the run was ended well."""
        self.steps.append(StepTime(name, round(seconds, 3), cached))
        self.step = None

    def failed(self, verdict: str, error: str) -> None:
        """Notes why the run ended early; a version that it had pushed stays pushed."""
        self.error = error
        if self.verdict != PUSHED:
            self.verdict = verdict

    def end(self) -> None:
        """Notes the end."""
        if self.verdict == RUNNING:
            self.failed(FAILED, "it ended without a verdict")
        self.ended = _now()
        self.seconds = round(time.monotonic() - self._began, 3)


def begun(settings: loading.PipelineConfig, run_id: str) -> RunRecord:
    """Returns the record of a run that begins now, in this process."""
    decisive = json.dumps(loading.decisive(settings), sort_keys=True)
    return RunRecord(
        run_id=run_id,
        started=_now(),
        process=process.this(),
        model=settings.push.model_name,
        dataset=settings.data.dataset,
        config_digest=hashlib.sha256(decisive.encode()).hexdigest(),
    )


def to_dict(record: RunRecord) -> dict:
    """Returns a record as JSON takes it: a number that is none becomes None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in dataclasses.asdict(record).items()
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
    """Returns the records below a root, newest first, and what is wrong with others.

    A record that says `running`, of a process that is gone, is given as `died`.

    Raises:
      OSError: the folder can't be read.
    """
    records, problems = [], []
    for path in _paths(root):
        try:
            records.append(_read(path))
        except ValueError as error:
            problems.append(str(error))
    by_start = sorted(records, key=_start, reverse=True)
    return by_start, problems


def last_ended(root: pathlib.Path) -> RunRecord | None:
    """Returns the record of the run that ended last, if there is one."""
    ended = [record for record in read_all(root)[0] if record.ended is not None]
    return max(ended, key=_end, default=None)


def turn(run_id: str, number: int) -> str:
    """Returns the name in metadata of a run's first turn through the graph, or next."""
    return run_id if number == 1 else f"{run_id}.{number}"


def of_turn(name: str) -> str:
    """Returns the id of the run whose turn has that name in metadata."""
    return name.partition(".")[0]


def _read(path: pathlib.Path) -> RunRecord:
    try:
        record = pydantic.TypeAdapter(RunRecord).validate_json(path.read_bytes())
        _start(record)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
        raise ValueError(f"{path} is not a run's record, skipped: {why}") from error
    except OSError as error:
        raise ValueError(
            f"{path} is not a run's record, skipped: {error.strerror}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not a run's record, skipped: {error}") from error
    if record.verdict == RUNNING and record.process.is_gone():
        record.verdict = DIED
    return record


def _start(record: RunRecord) -> datetime.datetime:
    when = datetime.datetime.fromisoformat(record.started)
    if when.tzinfo is None:
        raise ValueError(f"started must have a time zone, got {record.started!r}")
    return when


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


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
