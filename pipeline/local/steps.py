"""The execution of the graph's steps, one after the other, with a checked cache."""

import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Mapping, Sequence

import tfx.v1
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.types import artifact_utils

from components import data_gate, elbo_drift, pusher
from components.registry.manifest import MANIFEST, Manifest
from model.errors import PipelineError
from model.files import disk_space, regular_files
from model.training.progress import log_if_slow
from pipeline.console import Console, StepLine
from pipeline.exit_codes import describe_cause
from pipeline.local import artifact_checksums, metadata_database, summary
from pipeline.local.root import Root
from pipeline.runs import run_record
from pipeline.runs.recorder import RunRecorder

STEPS_BEFORE_GRAPH = ("Imports", "Data")

_CACHED = metadata_store_pb2.Execution.CACHED
_DATA_ERRORS = (
    data_gate.DataAnomalyError,
    data_gate.DriftError,
    elbo_drift.ElboDriftError,
)

Outputs = Mapping[str, types.Artifact]


class RunError(PipelineError):
    """A step failed or a run cannot start; the message says why and what to do."""


class BadDataError(RunError):
    """DataGate or ElboDrift stopped the run because of anomalies or drift."""


class _DamageError(PipelineError):
    """The files of an artifact from the cache do not match its checksums."""


def run_until_cache_is_intact(
    pipeline: tfx.v1.dsl.Pipeline,
    root: Root,
    *,
    recorder: RunRecorder,
    console: Console,
    uncached: Sequence[str],
    disks: Sequence[str],
) -> list[summary.Step]:
    """Runs all steps, and repeats that while the cache has damaged artifacts.

    A damaged artifact is discarded. The next turn through the graph runs its step and
    the downstream steps; the other steps come from the cache.

    Args:
      pipeline: the graph.
      root: the root of the run's state.
      recorder: records each step, and a push at once.
      console: shows each step.
      uncached: names of the steps that must not come from the cache.
      disks: the folders that steps write to, for the message about a full disk.

    Returns:
      The completed steps with their outputs, in the order of the graph.

    Raises:
      BadDataError: DataGate or ElboDrift stopped the run.
      RunError: a step failed.
    """
    for turn in itertools.count(1):
        name = run_record.make_turn_name(recorder.record.run_id, turn)
        ir = _compile(pipeline, name, uncached=uncached)
        try:
            return _run_steps(ir, root, recorder=recorder, console=console, disks=disks)
        except _DamageError:
            recorder.record_restart(STEPS_BEFORE_GRAPH)
    raise AssertionError("there is always another turn")


def _compile(pipeline: tfx.v1.dsl.Pipeline, run_name: str, *, uncached: Sequence[str]):
    """Compiles a pipeline to TFX's intermediate representation.

    Args:
      pipeline: the graph.
      run_name: the name of the run in metadata.
      uncached: names of the steps that must not come from the cache.
    """
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_name}
    )
    for node in ir.nodes:
        if node.pipeline_node.node_info.id in uncached:
            options = node.pipeline_node.execution_options
            options.caching_options.enable_cache = False
    return ir


def _run_steps(
    ir,
    root: Root,
    *,
    recorder: RunRecorder,
    console: Console,
    disks: Sequence[str],
) -> list[summary.Step]:
    """Runs each step of a compiled pipeline once, or takes it from the cache."""
    connection = metadata.sqlite_metadata_connection_config(str(root.metadata))
    steps = []
    # This replaces TFX's LocalDagRunner, which shows no progress, and does not stop
    # after a step whose inputs it cannot find.
    for node in (node.pipeline_node for node in ir.nodes):
        name = node.node_info.id
        recorder.record_step_started(name)
        with console.step(name) as line:
            try:
                state, outputs = _launch(node, ir, connection=connection)
                if state == metadata_store_pb2.Execution.COMPLETE:
                    if name == "Pusher":
                        _record_push(outputs, recorder)
                    with log_if_slow("hashing what it made"):
                        _store_checksums(connection, outputs)
            except Exception as error:
                logging.exception("%s failed", name)
                line.print_result("failed")
                kind = BadDataError if isinstance(error, _DATA_ERRORS) else RunError
                reason = describe_failure(error, disks)
                raise kind(f"{name} failed: {reason}") from error
            if state not in metadata_database.DONE:
                line.print_result("failed")
                raise RunError(f"{name} failed: its inputs could not be found")
            step = summary.Step(name=name, outputs=outputs, cached=state == _CACHED)
            if step.cached:
                with log_if_slow("verifying what it made before"):
                    _verify_checksums(connection, step, line=line)
            text = summary.describe(step) or line.last_progress
            seconds = line.print_result(text, step.cached)
        recorder.record_step_completed(name, seconds, is_cached=step.cached)
        steps.append(dataclasses.replace(step, seconds=seconds))
    return steps


def _launch(node, ir, *, connection) -> tuple[int, Outputs]:
    """Runs a step, or takes its outputs from the cache.

    Returns:
      The state of its execution, and its output artifacts.
    """
    deployment = runner_utils.extract_local_deployment_config(ir)
    name = node.node_info.id
    info = launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection),
        pipeline_info=ir.pipeline_info,
        pipeline_runtime_spec=ir.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, name),
    ).launch()
    return _read_execution(connection, info.execution_id)


def _read_execution(connection, execution_id: int) -> tuple[int, Outputs]:
    """Reads an execution's state and its output artifacts from metadata."""
    with metadata.Metadata(connection) as handle:
        store = handle.store
        (execution,) = store.get_executions_by_id([execution_id])
        keys = {
            event.artifact_id: event.path.steps[0].key
            for event in store.get_events_by_execution_ids([execution_id])
            if event.type == metadata_store_pb2.Event.OUTPUT
        }
        artifacts = store.get_artifacts_by_id(list(keys))
        kinds = {
            kind.id: kind
            for kind in store.get_artifact_types_by_id(
                sorted({artifact.type_id for artifact in artifacts})
            )
        }
    outputs = {
        keys[artifact.id]: artifact_utils.deserialize_artifact(
            kinds[artifact.type_id], artifact
        )
        for artifact in artifacts
    }
    return execution.last_known_state, outputs


def _record_push(outputs: Outputs, recorder: RunRecorder) -> None:
    """Records the version that the Pusher pushed, before SIGKILL can prevent that."""
    pushed = outputs["pushed_model"]
    number = pushed.get_string_custom_property(pusher.VERSION_PROPERTY)
    if number:
        text = regular_files.read_bytes(pathlib.Path(pushed.uri, MANIFEST))
        manifest = Manifest.from_json(text, pushed.uri)
        summary.record_pushed_version(recorder, int(number), manifest=manifest)


def _store_checksums(connection, outputs: Outputs) -> None:
    with metadata.Metadata(connection) as handle:
        made = [artifact.mlmd_artifact for artifact in outputs.values()]
        artifact_checksums.store_checksums(handle.store, made)


def _verify_checksums(connection, step: summary.Step, *, line: StepLine) -> None:
    """Discards a step's first damaged artifact and raises _DamageError for it."""
    for key, artifact in step.outputs.items():
        damage = artifact_checksums.find_damage(artifact.mlmd_artifact)
        if damage:
            line.print_message(f"its {key} can't be used: {damage}; it runs again")
            logging.warning("%s of %s: %s", key, step.name, damage)
            with metadata.Metadata(connection) as handle:
                artifact_checksums.discard_artifact(
                    handle.store, artifact.mlmd_artifact
                )
            raise _DamageError


def describe_failure(error: Exception, disks: Sequence[str]) -> str:
    """Returns one line with the cause of a step's failure, or with the full disk."""
    if not disk_space.is_full(error):
        return describe_cause(error)
    return (
        f"No space left on device: {disk_space.describe_fullest_disk(error, disks)}; "
        "free some space, then run the same command to continue"
    )
