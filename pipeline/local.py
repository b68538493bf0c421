"""Runs the graph here: one process, metadata in SQLite, all state under one root."""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.resources
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import filelock
import tfx.v1
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.types import artifact_utils

from components import prepare, pusher, versions
from model import devices, storage
from pipeline import graph, outcome
from pipeline.config import PipelineConfig, decisive
from pipeline.errors import cause
from pipeline.screen import Screen

_CODE = ("model", "components")  # packages whose code decides what a step makes

Outputs = Mapping[str, types.Artifact]


class RunError(RuntimeError):
    """A run could not go on; the message says where, why and what to do."""


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
        return storage.local_path(folder) or folder


def run(
    config: PipelineConfig,
    root: Root,
    data_dir: str,
    run_id: str,
    screen: Screen,
    beam_args: Sequence[str] = (),
) -> outcome.Outcome:
    """Runs every step that is not in the cache, and returns what came of it.

    Args:
      config: what to run.
      root: where its state goes.
      data_dir: where TFDS datasets are prepared.
      run_id: a name for the run.
      screen: where its progress is shown.
      beam_args: Beam's options, instead of graph.BEAM_ARGS.

    Raises:
      DataError: the data can't be had.
      RunError: a step failed, another run is using the root, or the push destination
        can't be read.
    """
    with _locked(root):
        if config.train.replicas:
            # Before anything starts TensorFlow: Transform does, in this process.
            devices.configure_logical_cpus(config.train.replicas)
        # First: a destination that can't be read is better known before the work.
        destination = root.destination(config)
        current = _served(destination)
        with screen.step("Data") as line:
            data = prepare.prepare(
                config.data.dataset, config.data.source, data_dir, screen.line
            )
            total = sum(data.splits.values())
            line.done(f"{total:,} images of {data.name} at {data.path}")
        key = run_key(config, data.fingerprint)
        ours = current is not None and current.manifest.get("run_key") == key
        pipeline = graph.create_pipeline(
            config,
            graph.Paths(
                pipeline_root=root.artifacts,
                data_dir=data_dir,
                schema_file=str(_schema_file()),
                destination=destination,
                checkpoints=str(root.path / "checkpoints"),
                data_fingerprint=data.fingerprint,
                served_fingerprint=_baseline_fingerprint(current, ours),
                run_key=key,
            ),
            beam_args or graph.BEAM_ARGS,
        )
        # What was pushed may have been removed since: only while this run's own model
        # is what is served may the Pusher's work count as done.
        uncached = () if ours else ("Pusher",)
        steps = _run_steps(pipeline, root, run_id, screen, uncached)
        return outcome.read(config, steps, _served(destination))


def run_key(config: PipelineConfig, data_fingerprint: str) -> str:
    """Returns a digest of all that decides what a run makes, but the baseline."""
    sections = decisive(config)
    del sections["data"]["source"]  # the data are the same wherever they came from
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


def _served(destination: str) -> versions.Version | None:
    try:
        return versions.served(destination)
    except ValueError as error:  # of ours, in words
        raise RunError(str(error)) from error


def _baseline_fingerprint(current: versions.Version | None, ours: bool) -> str:
    """Returns what tells this run's baseline from others.

    A model is not its own baseline: when what is served came from this very run's
    inputs, the baseline stays the one that it was judged against, and the whole run
    comes from the cache.
    """
    if current is None:
        return "none"
    if not ours:
        return f"{current.number} {current.digest}"
    baseline = current.manifest["baseline"]
    return f"{baseline['version']} {baseline['digest']}" if baseline else "none"


def _run_steps(
    pipeline: tfx.v1.dsl.Pipeline,
    root: Root,
    run_id: str,
    screen: Screen,
    uncached: Sequence[str],
) -> list[outcome.Step]:
    # TFX's cache knows nothing of our code: this makes it a part of every step's key.
    for component in pipeline.components:
        component.executor_spec.add_extra_flags([f"--code={code_digest()}"])
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
        with screen.step(name) as line:
            try:
                info = launcher.Launcher(
                    pipeline_node=node,
                    mlmd_connection=metadata.Metadata(connection),
                    pipeline_info=ir.pipeline_info,
                    pipeline_runtime_spec=ir.runtime_spec,
                    executor_spec=runner_utils.extract_executor_spec(deployment, name),
                ).launch()
            except Exception as error:
                logging.exception("%s failed", name)
                line.done("failed")
                raise RunError(f"{name} failed: {cause(error)}") from error
            state, outputs = _published(connection, info.execution_id)
            if state not in _DONE:
                line.done("failed")
                raise RunError(f"{name} failed: its inputs could not be found")
            step = outcome.Step(name, outputs, cached=state == _CACHED)
            _check_there(step)
            text = outcome.describe(step) or line.last_note
            seconds = line.done(text, step.cached)
        steps.append(dataclasses.replace(step, seconds=seconds))
    return steps


_CACHED = metadata_store_pb2.Execution.CACHED
_DONE = (_CACHED, metadata_store_pb2.Execution.COMPLETE)


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


def _check_there(step: outcome.Step) -> None:
    for key, artifact in step.outputs.items():
        if not os.path.exists(artifact.uri):
            raise RunError(
                f"{step.name}'s output {key} is in the cache, but not in "
                f"{artifact.uri}: choose another --root, or remove this one's "
                "metadata.sqlite to run every step again"
            )


@contextlib.contextmanager
def _locked(root: Root) -> Iterator[None]:
    """Keeps the root to this run: metadata in SQLite take one writer."""
    root.path.mkdir(parents=True, exist_ok=True)
    owner = root.path / "running.txt"
    lock = filelock.FileLock(root.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        who = owner.read_text().strip() if owner.exists() else "unknown"
        raise RunError(
            f"another run is using {root.path} ({who}): wait until it ends, or choose "
            "another --root"
        ) from error
    try:
        started = datetime.datetime.now().isoformat(timespec="seconds")
        owner.write_text(f"process {os.getpid()}, started {started}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
