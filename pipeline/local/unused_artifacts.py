"""The versions, artifacts and logs that `prune` removes, and their removal.

The files of some runs stay: of the last completed runs, of the runs after these, and of
the runs that made the versions that stay. A run uses the outputs that it made, and the
outputs that it took from the cache.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ml_metadata import errors, metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components.registry import listing, publish, rolling_back
from model.errors import PipelineError
from pipeline.exit_codes import describe_cause
from pipeline.local import metadata_database, unused_versions
from pipeline.runs import run_record

if TYPE_CHECKING:
    from components.registry.signatures import Verifier

_SYSTEM = ".system"  # TFX's own folder in a step's folder
_RUN = re.compile(r"[a-z]+-(\d{8}-\d{6}-\d{6})")  # the name of a log: command and time
# The name that metadata_database.check_metadata gives to a folder of artifacts.
_RENAMED = re.compile(r"artifacts-(\d{8}-\d{6})")


class PruneError(PipelineError):
    """The metadata or a folder cannot be read; nothing was removed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Files and folders of one kind to remove."""

    kind: str  # describes them for people
    paths: Sequence[pathlib.Path]
    bytes: int  # size of all files in them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The versions, artifacts and files to remove, and the versions to keep."""

    destination: str
    versions: Sequence[int]
    version_bytes: int
    kept: Sequence[int]
    artifacts: Sequence[mlmd.Artifact]  # to mark as deleted in metadata
    groups: Sequence[Group]  # files and folders in the root

    @property
    def bytes(self) -> int:
        """Returns the number of bytes that the removal frees."""
        return self.version_bytes + sum(group.bytes for group in self.groups)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kept:
    """The outputs and the logs of the runs that stay."""

    outputs: frozenset[str]  # STEP/KEY/ID, relative because a root may be moved
    since: str | None  # id of the oldest of the last runs; None: all stay
    since_seconds: float  # Unix time of the start of that run
    runs: frozenset[str]  # ids of the runs


def plan(
    root: pathlib.Path,
    destination: str,
    *,
    keep: int,
    verifier: "Verifier | None" = None,
) -> Plan:
    """Plans the removal of all but the last `keep` versions and completed runs.

    This process must hold the root's lock, because a run that has not ended counts as
    dead here.

    Raises:
      PruneError: the metadata cannot be read.
      StorageError: the object store does not answer.
    """
    numbers, kept = unused_versions.find_unused(
        root, destination, keep=keep, verifier=verifier
    )
    size = sum(listing.count_bytes(destination, number) for number in numbers)
    keys = {version.manifest.run_key for version in kept}
    artifacts: list[mlmd.Artifact] = []
    groups: list[Group] = []
    if (root / "metadata.sqlite").exists():
        try:
            store = metadata_database.open_store(root / "metadata.sqlite")
            artifacts, used = _find_unused_artifacts(store, root, keep=keep, keys=keys)
        except (errors.StatusError, RuntimeError) as error:
            raise PruneError(
                f"{root}/metadata.sqlite can't be read ({describe_cause(error)}): "
                "nothing was removed"
            ) from error
        groups = [group for group in _group_paths(root, used) if group.paths]
    return Plan(
        destination=destination,
        versions=numbers,
        version_bytes=size,
        kept=[version.number for version in kept],
        artifacts=artifacts,
        groups=groups,
    )


def execute_plan(root: pathlib.Path, todo: Plan) -> None:
    """Removes the versions, artifacts, files and folders of a plan.

    The artifacts are marked as deleted first. So if this process is killed, the cache
    offers no incomplete outputs, and the next call removes the rest.

    Raises:
      OSError: a folder cannot be removed.
      StorageError: the object store did not remove a version.
    """
    if todo.artifacts:
        for artifact in todo.artifacts:
            artifact.state = mlmd.Artifact.DELETED
        store = metadata_database.open_store(root / "metadata.sqlite")
        store.put_artifacts(todo.artifacts)
    rolling_back.complete_records(todo.destination)
    publish.remove_versions(todo.destination, todo.versions)
    for group in todo.groups:
        for path in group.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _find_unused_artifacts(
    store: metadata_store.MetadataStore,
    root: pathlib.Path,
    *,
    keep: int,
    keys: set[str | None],
) -> tuple[list[mlmd.Artifact], _Kept]:
    """Returns the root's artifacts to remove, and the outputs and logs that stay.

    Args:
      store: the root's metadata.
      root: the root.
      keep: how many of the last completed runs stay.
      keys: the run keys of the versions that stay.
    """
    # Sorted by id, because the clock may have been set back between two runs.
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
    unused = [
        each
        for each in found
        if each.id not in used
        and each.state != mlmd.Artifact.DELETED
        and folder in pathlib.Path(each.uri).resolve().parents
    ]
    return unused, _Kept(
        outputs=frozenset(_output(each.uri) for each in found if each.id in used),
        since=run_record.parse_run_id(first.name) if first else None,
        since_seconds=first.create_time_since_epoch / 1000 if first else 0.0,
        runs=frozenset(run_record.parse_run_id(run.name) for run in kept),
    )


def _run_key(pusher: mlmd.Execution) -> str | None:
    text = pusher.custom_properties["provenance"].string_value
    return json.loads(text).get("run_key") if text else None


def _group_paths(root: pathlib.Path, kept: _Kept) -> Iterator[Group]:
    """Yields the files and folders in a root to remove, by kind."""
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
        "checkpoints of trainings that ended or were abandoned",
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
    yield _group("logs of older runs", logs)
    pages = [folder for folder in _folders(root / "reports") if is_old(folder)]
    yield _group("reports of older runs", pages)
    renamed = [
        folder
        for folder in _folders(root)
        if (match := _RENAMED.fullmatch(folder.name)) and match[1] < stamp
    ]
    yield _group(
        "artifacts that were renamed because their metadata were lost", renamed
    )


def _output(uri: str | pathlib.Path) -> str:
    """Returns the last three parts of an output's path: STEP/KEY/EXECUTION_ID."""
    return "/".join(pathlib.Path(uri).parts[-3:])


def _group(kind: str, paths: Sequence[pathlib.Path]) -> Group:
    return Group(kind=kind, paths=paths, bytes=sum(map(_count_bytes, paths)))


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the subfolders of a folder, but no symbolic links."""
    if path.is_symlink() or not path.is_dir():
        return []
    return [
        each
        for each in sorted(path.iterdir())
        if each.is_dir() and not each.is_symlink()
    ]


def _count_bytes(path: pathlib.Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())


def _last_change(folder: pathlib.Path) -> float:
    return max(each.lstat().st_mtime for each in (folder, *folder.rglob("*")))
