"""What nothing refers to any more: old versions, artifacts, logs, what was left behind.

Kept of versions: the newest so many, what is served, and the baselines that it and the
last run were measured against. Kept of a root: all that the last so many runs that
ended used, or a run after them, or the run that made a kept version. A run that uses a
step's outputs from the cache refers to them like the one that made them.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence

from ml_metadata import errors, metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components.registry import listing, publish, version_numbers
from model.files import filesystems
from pipeline.exit_codes import cause
from pipeline.local import metadata_database
from pipeline.runs import run_record

_SYSTEM = ".system"  # of a step's folder: what TFX leaves for itself
_RUN = re.compile(r"[a-z]+-(\d{8}-\d{6}-\d{6})")  # as command.screen names logs
_ASIDE = re.compile(r"artifacts-(\d{8}-\d{6})")  # as metadata_file.check names them


class PruneError(ValueError):
    """What is there can't be told; nothing was removed."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Things of one kind that go."""

    kind: str  # in words
    paths: Sequence[pathlib.Path]
    bytes: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What goes, and which versions stay."""

    destination: str
    versions: Sequence[int]
    version_bytes: int
    kept: Sequence[int]
    artifacts: Sequence[mlmd.Artifact]  # in metadata
    groups: Sequence[Group]  # below the root

    @property
    def bytes(self) -> int:
        """Bytes that are freed."""
        return self.version_bytes + sum(group.bytes for group in self.groups)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What a root's runs refer to."""

    outputs: frozenset[str]  # of steps: STEP/KEY/ID, wherever the root was then
    since: str | None  # the oldest run that counts as recent; None: all do
    since_seconds: float  # Unix time of its start
    runs: frozenset[str]  # all that are kept


def plan(root: pathlib.Path, destination: str, keep: int) -> Plan:
    """Returns what goes when the last `keep` versions and runs stay.

    The root must be this process's: a run that goes on is taken for one that died.

    Raises:
      PruneError: the metadata can't be read.
      StorageError: the object store does not answer.
    """
    numbers, kept = _versions(root, destination, keep)
    size = sum(listing.count_bytes(destination, number) for number in numbers)
    keys = {version.manifest.run_key for version in kept}
    artifacts: list[mlmd.Artifact] = []
    groups: list[Group] = []
    if (root / "metadata.sqlite").exists():
        try:
            artifacts, used = _artifacts(
                metadata_database.opened(root / "metadata.sqlite"), root, keep, keys
            )
        except (errors.StatusError, RuntimeError) as error:
            raise PruneError(
                f"{root}/metadata.sqlite can't be read ({cause(error)}): nothing was "
                "removed"
            ) from error
        groups = [group for group in _groups(root, used) if group.paths]
    return Plan(
        destination=destination,
        versions=numbers,
        version_bytes=size,
        kept=[version.number for version in kept],
        artifacts=artifacts,
        groups=groups,
    )


def carry_out(root: pathlib.Path, todo: Plan) -> None:
    """Removes what the plan says.

    First metadata: killed on the way, no step's outputs are taken from the cache that
    are only half there, and the next time removes the rest.

    Raises:
      OSError: a folder can't be removed.
      StorageError: the object store did not do it.
    """
    if todo.artifacts:
        for artifact in todo.artifacts:
            artifact.state = mlmd.Artifact.DELETED
        metadata_database.opened(root / "metadata.sqlite").put_artifacts(todo.artifacts)
    publish.remove_versions(todo.destination, todo.versions)
    for group in todo.groups:
        for path in group.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _versions(
    root: pathlib.Path, destination: str, keep: int
) -> tuple[list[int], list[listing.Version]]:
    """Returns the numbers that go, and the intact versions that stay, newest first."""
    found = list(listing.list_versions(destination))
    intact = [each for each in found if isinstance(each, listing.Version)]
    if not intact:
        return [], []
    served = intact[0]
    baseline = served.manifest.baseline
    baselines = {baseline.version if baseline else None}
    if last := run_record.last_ended(root):
        baselines.add(last.baseline_version)
    stay = [
        each
        for index, each in enumerate(intact)
        if index < keep or each.number in baselines
    ]
    go = [each.number for each in intact if each not in stay]
    for each in found:
        # One that is newer may be another's, who is writing it now; one that only could
        # not be read may be good.
        if isinstance(each, listing.DamagedVersion) and each.number < served.number:
            unfinished = not each.pushed and _half_pushed(destination, each.number)
            if each.compared or unfinished:
                go.append(each.number)
    return sorted(go), stay


def _half_pushed(destination: str, number: int) -> bool:
    """Whether a push to an object store died there; others' folders are not ours."""
    is_store = filesystems.local_path(destination) is None
    return is_store and version_numbers.is_claimed(destination, number)


def _artifacts(
    store: metadata_store.MetadataStore,
    root: pathlib.Path,
    keep: int,
    keys: set[str | None],
) -> tuple[list[mlmd.Artifact], _Kept]:
    """Returns the artifacts below the root that go, and what stays."""
    # By id: a clock may go back between two runs.
    runs = sorted(
        store.get_contexts_by_type("pipeline_run"), key=lambda run: run.id, reverse=True
    )
    executions = {run.id: store.get_executions_by_context(run.id) for run in runs}
    pushers = {
        run.id: pusher
        for run in runs
        for pusher in executions[run.id]
        if pusher.type.endswith("Pusher")
        and pusher.last_known_state in metadata_database.DONE
    }
    ended = [run for run in runs if run.id in pushers]
    first = ended[keep - 1] if len(ended) >= keep else None
    kept = [run for run in runs if first is None or run.id >= first.id]
    for key in keys - {None}:
        made = (run for run in ended if _run_key(pushers[run.id]) == key)
        kept += [run for run in list(made)[:1] if run not in kept]
    used = set()
    for run in kept:
        steps = [step.id for step in executions[run.id]]
        done = {
            s.id
            for s in executions[run.id]
            if s.last_known_state in metadata_database.DONE
        }
        for event in store.get_events_by_execution_ids(steps) if steps else []:
            if event.execution_id in done or event.type == mlmd.Event.INPUT:
                used.add(event.artifact_id)
    found = store.get_artifacts()
    folder = (root / "artifacts").resolve()
    go = [
        each
        for each in found
        if each.id not in used
        and each.state != mlmd.Artifact.DELETED
        and folder in pathlib.Path(each.uri).resolve().parents
    ]
    return go, _Kept(
        outputs=frozenset(_output(each.uri) for each in found if each.id in used),
        since=run_record.of_turn(first.name) if first else None,
        since_seconds=first.create_time_since_epoch / 1000 if first else 0.0,
        runs=frozenset(run_record.of_turn(run.name) for run in kept),
    )


def _run_key(pusher: mlmd.Execution) -> str | None:
    text = pusher.custom_properties["provenance"].string_value
    return json.loads(text).get("run_key") if text else None


def _groups(root: pathlib.Path, kept: _Kept) -> Iterator[Group]:
    outputs, scratch = [], []
    for step in _folders((root / "artifacts").resolve()):
        for key in _folders(step):
            if key.name == _SYSTEM:
                scratch += [one for kind in _folders(key) for one in _folders(kind)]
                continue
            outputs += [f for f in _folders(key) if _output(f) not in kept.outputs]
    steps = sorted({folder.parent.parent.name for folder in outputs})
    yield _group(f"outputs of {', '.join(steps)} that no kept run uses", outputs)
    yield _group("folders that TFX left behind", scratch)
    if kept.since is None:
        return
    yield _group(
        "checkpoints of trainings that ended or were given up",
        [
            folder
            for folder in _folders(root / "checkpoints")
            if _last_change(folder) < kept.since_seconds
        ],
    )
    stamp = kept.since.partition("-")[2]

    def is_old(path: pathlib.Path) -> bool:
        match = _RUN.fullmatch(path.stem)
        return bool(match and match[1] < stamp and path.stem not in kept.runs)

    logs = [
        path
        for path in sorted((root / "logs").glob("*"))
        if path.suffix in (".log", ".yaml") and is_old(path) and not path.is_symlink()
    ]
    yield _group("logs of runs before those", logs)
    pages = [folder for folder in _folders(root / "reports") if is_old(folder)]
    yield _group("reports of runs before those", pages)
    aside = [
        folder
        for folder in _folders(root)
        if (match := _ASIDE.fullmatch(folder.name)) and match[1] < stamp
    ]
    yield _group("artifacts that were set aside with their metadata", aside)


def _output(uri: str | pathlib.Path) -> str:
    return "/".join(pathlib.Path(uri).parts[-3:])


def _group(kind: str, paths: Sequence[pathlib.Path]) -> Group:
    return Group(kind, paths, sum(map(_bytes, paths)))


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder; a symbolic link is not followed."""
    if path.is_symlink() or not path.is_dir():
        return []
    return [
        each
        for each in sorted(path.iterdir())
        if each.is_dir() and not each.is_symlink()
    ]


def _bytes(path: pathlib.Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())


def _last_change(folder: pathlib.Path) -> float:
    return max(each.lstat().st_mtime for each in (folder, *folder.rglob("*")))
