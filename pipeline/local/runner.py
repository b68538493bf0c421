"""Runs the graph here: one process, metadata in SQLite, all state under one root."""

import contextlib
import dataclasses
import hashlib
import importlib.resources
import itertools
import json
import logging
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import tfx.v1
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.types import artifact_utils

from components import data_gate, pusher
from components.datasets import prepare_spans, span
from components.registry import listing, version_numbers
from components.registry.manifest import MANIFEST, Manifest
from model.files import disk_space, filesystems
from model.training import devices, tf_config
from model.training.progress import log_if_slow
from pipeline import graph
from pipeline.config.loading import PipelineConfig, decisive
from pipeline.console import Screen, StepLine
from pipeline.exit_codes import cause
from pipeline.local import artifact_checksums, metadata_database, summary, up_to_date
from pipeline.runs import run_record as records
from pipeline.runs.run_record import RunRecord

_OF_THE_DATA = (data_gate.DataAnomalyError, data_gate.DriftError)
_BEFORE = ("Imports", "Data")  # what a run does before its graph
_CODE = ("model", "components")  # packages whose code decides what a step makes

Outputs = Mapping[str, types.Artifact]


class RunError(RuntimeError):
    """A run could not go on; the message says where, why and what to do."""


class BadDataError(RunError):
    """DataGate stopped the run: the data are not what they should be."""


@dataclasses.dataclass(frozen=True)
class Root:
    """Where the state of local runs is."""

    path: pathlib.Path

    @property
    def metadata(self) -> str:
        return str(self.path / "metadata.sqlite")

    @property
    def artifacts(self) -> str:
        return str(self.path / "artifacts")

    def destination(self, config: PipelineConfig) -> str:
        """Returns the absolute path, or the URI, of the folder of versions."""
        folder = config.push.versions_in(str(self.path / "serving"))
        return filesystems.local_path(folder) or folder


def run(
    config: PipelineConfig,
    root: Root,
    data_dir: str,
    record: RunRecord,
    screen: Screen,
    beam_args: Sequence[str] = (),
    if_changed: bool = False,
) -> summary.RunSummary | None:
    """Runs every step that is not in the cache, and returns what came of it.

    Args:
      config: what to run.
      root: where its state goes.
      data_dir: where TFDS datasets are prepared.
      record: of the run, whose id names it; it is filled in on the way.
      screen: where its progress is shown.
      beam_args: Beam's options, instead of graph.BEAM_ARGS.
      if_changed: do nothing, say so and return None when the run would come to what the
        last one came to.

    Raises:
      DataError: the data can't be used, or (DataAccessError) be had.
      BadDataError: DataGate stopped the run.
      RunError: a step failed, or the push destination can't be read.
    """
    try:
        with log_if_slow("checking the metadata"):
            metadata_database.check(
                pathlib.Path(root.metadata), pathlib.Path(root.artifacts), screen.line
            )
    except metadata_database.MetadataError as error:
        raise RunError(str(error)) from error
    if workers := tf_config.count_workers():
        raise RunError(
            f"TF_CONFIG names a cluster of {workers} workers, and TensorFlow "
            "joins one only as the first thing that it does, where here Transform uses "
            "it before: unset TF_CONFIG, or train on the cluster, where each step is a "
            "process of its own"
        )
    if config.train.replicas:
        # Before anything starts TensorFlow: Transform does, in this process.
        devices.configure_logical_cpus(config.train.replicas)
    # First: a destination that can't be read is better known before the work.
    destination = root.destination(config)
    current, damaged = _intact(destination)
    for version in damaged:
        screen.line(version.describe(current))
    record.served_version = current.number if current else None
    _enter("Data", root, record)
    with screen.step("Data") as line:
        data = _data(config, data_dir, screen)
        record.took("Data", line.done(str(data)))
    key = run_key(config, data.fingerprint)
    record.fingerprint, record.run_key = data.fingerprint, key
    ours = current is not None and current.manifest.run_key == key
    record.baseline = baseline = _baseline_fingerprint(current, damaged, ours)
    if if_changed:
        last = up_to_date.find(root.path)
        spans = span.describe_spans(data.spans)
        why = up_to_date.nothing_to_do(last, key, baseline, current, spans)
        if why is not None:
            screen.line(why)
            record.verdict = records.NOTHING_TO_DO
            return None
    pipeline = graph.create_pipeline(
        config,
        graph.Paths(
            pipeline_root=root.artifacts,
            data_dir=data_dir,
            schema_file=str(_schema_file()),
            destination=destination,
            checkpoints=str(root.path / "checkpoints"),
            data_fingerprint=data.fingerprint,
            spans=span.format_json(data.spans),
            served_fingerprint=baseline,
            run_key=key,
        ),
        beam_args or graph.BEAM_ARGS,
    )
    # What was pushed may have been removed since: only while this run's own model
    # is what is served may the Pusher's work count as done.
    uncached = () if ours else ("Pusher",)
    disks = [str(root.path), tempfile.gettempdir(), destination]
    # TFX's cache knows nothing of our code: this makes it a part of every step's key.
    for component in pipeline.components:
        component.executor_spec.add_extra_flags([f"--code={code_digest()}"])
    with _pushed_all_the_same(destination, key, current, record):
        steps = _taken(pipeline, root, record, screen, uncached, disks)
        result = summary.read(config, steps, served=_intact(destination)[0])
    summary.fill(record, result)
    record.versions = _count(destination)
    return result


@contextlib.contextmanager
def _pushed_all_the_same(
    destination: str,
    key: str,
    before: listing.Version | None,
    record: RunRecord,
) -> Iterator[None]:
    """Sees that a version is recorded whose Pusher could not tell of it any more."""
    try:
        yield
    except BaseException:
        if record.step == "Pusher" and record.version is None:
            with contextlib.suppress(ValueError, OSError):
                now = listing.find_served_version(destination)
                new = now and (before is None or now.number > before.number)
                if now and new and now.manifest.run_key == key:
                    summary.fill_pushed(record, now.number, manifest=now.manifest)
        raise


def _taken(
    pipeline: tfx.v1.dsl.Pipeline,
    root: Root,
    record: RunRecord,
    screen: Screen,
    uncached: Sequence[str],
    disks: Sequence[str],
) -> list[summary.Step]:
    """Takes all steps, and again while what comes from the cache is damaged."""
    for turn in itertools.count(1):
        turn_id = records.turn(record.run_id, turn)
        try:
            return _run_steps(pipeline, root, turn_id, record, screen, uncached, disks)
        except _DamageError:
            # From the first step again, most of which come from the cache: what is
            # damaged does not any more, nor what depends on it.
            record.steps = [step for step in record.steps if step.name in _BEFORE]
    raise AssertionError("there is always another turn")


def _data(config: PipelineConfig, data_dir: str, screen: Screen) -> prepare_spans.Data:
    data = config.data
    try:
        return prepare_spans.prepare_data(
            data.dataset,
            data.source,
            window=data.span_window,
            data_dir=data_dir,
            say=screen.line,
        )
    except filesystems.StorageError as error:
        raise RunError(str(error)) from error


def run_key(config: PipelineConfig, data_fingerprint: str) -> str:
    """Returns a digest of all that decides what a run makes, but the baseline."""
    sections = decisive(config)
    # The data are the same wherever they came from; the fingerprint names their spans.
    del sections["data"]["source"], sections["data"]["span_window"]
    parts = [json.dumps(sections, sort_keys=True), data_fingerprint, code_digest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_digest() -> str:
    """Returns a digest of the steps' own code, the schema and the stack's versions."""
    digest = hashlib.sha256(json.dumps(pusher.stack()).encode())
    files = [_schema_file()]
    for package in _CODE:
        folder = pathlib.Path(str(importlib.resources.files(package)))
        files += [*folder.rglob("*.py"), *folder.rglob("*.jinja")]
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _schema_file() -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("pipeline"))) / "schema.pbtxt"


def _intact(
    destination: str,
) -> tuple[listing.Version | None, list[listing.DamagedVersion]]:
    try:
        return listing.find_served_and_damaged(destination)
    except ValueError as error:  # of ours, in words
        raise RunError(str(error)) from error
    except OSError as error:
        where = error.filename or destination
        raise RunError(f"can't read {where} ({error.strerror})") from error


def _count(destination: str) -> int | None:
    """Returns how many complete versions there are; None if that can't be told now."""
    try:
        with filesystems.opened(destination) as (files, path):
            numbers = version_numbers.list_numbers(files, path)
            return sum(files.exists(f"{path}/{n}/{MANIFEST}") for n in numbers)
    except (filesystems.StorageError, OSError):  # the run has done its work
        return None


def _baseline_fingerprint(
    current: listing.Version | None,
    damaged: Sequence[listing.DamagedVersion],
    ours: bool,
) -> str:
    """Returns what tells this run's baseline from others.

    A model is not its own baseline: when what is served came from this very run's
    inputs, the baseline stays the one that it was judged against, and the whole run
    comes from the cache.
    """
    if current is None:
        return f"none: {damaged[0].number} is damaged" if damaged else "none"
    if not ours:
        return f"{current.number} {current.digest}"
    baseline = current.manifest.baseline
    return f"{baseline.version} {baseline.digest}" if baseline else "none"


class _DamageError(Exception):
    """What came from the cache is not what its step made."""


def _run_steps(
    pipeline: tfx.v1.dsl.Pipeline,
    root: Root,
    run_id: str,
    record: RunRecord,
    screen: Screen,
    uncached: Sequence[str],
    disks: Sequence[str],
) -> list[summary.Step]:
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(ir)
    connection = metadata.sqlite_metadata_connection_config(root.metadata)
    steps = []
    # In place of TFX's LocalDagRunner: that shows no progress, and goes on after a
    # step whose inputs could not be found.
    for node in (node.pipeline_node for node in ir.nodes):
        name = node.node_info.id
        if name in uncached:
            node.execution_options.caching_options.enable_cache = False
        _enter(name, root, record)
        with screen.step(name) as line:
            try:
                info = launcher.Launcher(
                    pipeline_node=node,
                    mlmd_connection=metadata.Metadata(connection),
                    pipeline_info=ir.pipeline_info,
                    pipeline_runtime_spec=ir.runtime_spec,
                    executor_spec=runner_utils.extract_executor_spec(deployment, name),
                ).launch()
                state, outputs = _published(connection, info.execution_id)
                if state == metadata_store_pb2.Execution.COMPLETE:
                    if name == "Pusher":
                        _note_push(outputs, root, record)
                    with log_if_slow("hashing what it made"):
                        _seal(connection, outputs)
            except Exception as error:
                logging.exception("%s failed", name)
                line.done("failed")
                kind = BadDataError if isinstance(error, _OF_THE_DATA) else RunError
                raise kind(f"{name} failed: {_reason(error, disks)}") from error
            if state not in metadata_database.DONE:
                line.done("failed")
                raise RunError(f"{name} failed: its inputs could not be found")
            step = summary.Step(name, outputs, cached=state == _CACHED)
            if step.cached:
                with log_if_slow("verifying what it made before"):
                    _check_seals(connection, step, line)
            text = summary.describe(step) or line.last_note
            seconds = line.done(text, step.cached)
        record.took(name, seconds, step.cached)
        steps.append(dataclasses.replace(step, seconds=seconds))
    return steps


_CACHED = metadata_store_pb2.Execution.CACHED


def _published(connection, execution_id: int) -> tuple[int, Outputs]:
    """Returns an execution's state and its output artifacts, from metadata."""
    with metadata.Metadata(connection) as handle:
        store = handle.store
        (execution,) = store.get_executions_by_id([execution_id])
        events = {
            event.artifact_id: event.path.steps[0].key
            for event in store.get_events_by_execution_ids([execution_id])
            if event.type == metadata_store_pb2.Event.OUTPUT
        }
        artifacts = store.get_artifacts_by_id(list(events))
        kinds = {
            kind.id: kind
            for kind in store.get_artifact_types_by_id(
                sorted({artifact.type_id for artifact in artifacts})
            )
        }
    outputs = {
        events[artifact.id]: artifact_utils.deserialize_artifact(
            kinds[artifact.type_id], artifact
        )
        for artifact in artifacts
    }
    return execution.last_known_state, outputs


def _enter(step: str, root: Root, record: RunRecord) -> None:
    """Records the step that begins: of a run that is killed it is known where."""
    record.step = step
    _write(root, record)


def _write(root: Root, record: RunRecord) -> None:
    with contextlib.suppress(OSError):  # it is written again at the end
        records.write(root.path, record)


def _note_push(outputs: Outputs, root: Root, record: RunRecord) -> None:
    """Records a push at once: whatever comes then, even SIGKILL, it is known."""
    pushed = outputs["pushed_model"]
    number = pushed.get_string_custom_property(pusher.VERSION_PROPERTY)
    if number:
        text = pathlib.Path(pushed.uri, MANIFEST).read_bytes()
        manifest = Manifest.from_json(text, pushed.uri)
        summary.fill_pushed(record, int(number), manifest=manifest)
        _write(root, record)


def _seal(connection, outputs: Outputs) -> None:
    with metadata.Metadata(connection) as handle:
        made = [artifact.mlmd_artifact for artifact in outputs.values()]
        artifact_checksums.put(handle.store, made)


def _check_seals(connection, step: summary.Step, line: StepLine) -> None:
    """Raises _DamageError for what was damaged, and will not be used again."""
    for key, artifact in step.outputs.items():
        damage = artifact_checksums.damage(artifact.mlmd_artifact)
        if damage:
            line.said(f"its {key} can't be used: {damage}; it runs again")
            logging.warning("%s of %s: %s", key, step.name, damage)
            with metadata.Metadata(connection) as handle:
                artifact_checksums.forget(handle.store, artifact.mlmd_artifact)
            raise _DamageError


def _reason(error: Exception, disks: Sequence[str]) -> str:
    """Returns why a step failed, in a line."""
    if not disk_space.is_full(error):
        return cause(error)
    return (
        f"No space left on device: {disk_space.fullest(disks)}; free some space, and "
        "the same command goes on"
    )
