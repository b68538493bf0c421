"""The progress of a run on a cluster, its failed steps and its gate result."""

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

from components.evaluation.gate_result import VERDICT, GateResult
from model.errors import PipelineError
from model.files import filesystems
from pipeline.kubeflow.client import Cluster, ClusterError

# The pipeline root if neither the run nor the cluster's configuration has one.
DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"

_NOT_STARTED = ("RUNTIME_STATE_UNSPECIFIED", "PENDING")
_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_POLL = 5.0  # seconds between two requests
_PATIENCE = 300.0  # seconds without an answer of the server until `watch_run` fails
_WIDTH = 18  # characters of the column for a task's name


class UnreadableGateResultError(PipelineError):
    """A run succeeded, but its gate result can't be read."""


@dataclasses.dataclass(frozen=True)
class Clock:
    """The functions that measure time and wait, in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def watch_run(
    cluster: Cluster,
    run_id: str,
    *,
    show: Callable[[str], None],
    poll: float = _POLL,
    patience: float = _PATIENCE,
    clock: Clock | None = None,
) -> tuple[Any, Mapping[str, Any]]:
    """Waits for a run to end and shows a line for each step that starts or ends.

    Args:
      cluster: the connection to the API server.
      run_id: the run's id.
      show: prints a line.
      poll: seconds between two requests.
      patience: seconds for which the server may fail to answer.
      clock: measures time and waits; None: the system's clock.

    Returns:
      The run, as KFP describes it, and its pipeline's spec.

    Raises:
      ClusterError: the server refuses a request, or fails to answer for longer than
        `patience`.
    """
    clock = clock or Clock()
    run = cluster.client.get_run(run_id)
    spec = _read_spec(cluster, run)
    shown: dict[str, str] = {}
    answered = clock.monotonic()
    while True:
        for task in _list_steps(run, spec):
            _show_change(task, shown, show=show)
        if run.state in _ENDED:
            return run, spec
        clock.sleep(poll)
        try:
            run = cluster.client.get_run(run_id)
            answered = clock.monotonic()
        except ClusterError as error:
            passing = error.status is None or error.status >= 500
            if not passing or clock.monotonic() - answered > patience:
                raise


def describe_failure(run: Any, spec: Mapping[str, Any]) -> str:
    """Returns a text that names the failed steps of a run and KFP's errors.

    Args:
      run: a run that ended without success, as KFP describes it.
      spec: its pipeline's spec.
    """
    failed = [task for task in _list_steps(run, spec) if task.state == "FAILED"]
    reasons = [f"{task.display_name} failed: {_find_error(task)}" for task in failed]
    if not reasons:
        reasons = [
            f"the run is {run.state}, and no step of it failed: {_find_error(run)}"
        ]
    return "; ".join(reasons)


def read_gate_result(run: Any, spec: Mapping[str, Any]) -> GateResult:
    """Reads the gate result that the Pusher of a run wrote.

    KFP's API does not have it, so it is read from the outputs in the object store.

    Args:
      run: a run that succeeded, as KFP describes it.
      spec: its pipeline's spec.

    Raises:
      UnreadableGateResultError: VERDICT.json does not exist or can't be read.
    """
    runtime = run.runtime_config
    root = (
        (runtime.pipeline_root if runtime else None)
        or spec.get("defaultPipelineRoot")
        or DEFAULT_ROOT
    )
    # Newer versions of KFP have one more level of folders below it than older ones.
    uri = f"{root.rstrip('/')}/{spec['pipelineInfo']['name']}/{run.run_id}/pusher"
    try:
        fs, path = filesystems.find_filesystem(uri)
        found = [file for file in fs.find(path) if file.endswith(f"/{VERDICT}")]
        if found:
            # The file of the last attempt, if there were several.
            latest = max(found, key=fs.modified)
            return GateResult.from_json(fs.cat_file(latest), latest)
    except Exception as error:  # each store's library raises errors of its own
        reason = f"{type(error).__name__}: {str(error).strip()}"
    else:
        reason = f"there is no {VERDICT}"
    raise UnreadableGateResultError(
        f"the run succeeded, but its gate result can't be read below {uri} ({reason}). "
        "If this is not the cluster's pipeline root, set kubeflow.pipeline_root. Set "
        "the store's credentials here and, for minio:// and s3://, AWS_ENDPOINT_URL"
    )


def _read_spec(cluster: Cluster, run: Any) -> Mapping[str, Any]:
    reference = run.pipeline_version_reference
    version = cluster.client.get_pipeline_version(
        reference.pipeline_id, reference.pipeline_version_id
    )
    spec = version.pipeline_spec
    # KFP nests the spec if the package has a second document, for Kubernetes.
    return spec.get("pipeline_spec", spec)


def _list_steps(run: Any, spec: Mapping[str, Any]) -> list[Any]:
    """Returns a run's tasks that are steps of the graph, without KFP's own tasks."""
    tasks = (run.run_details.task_details if run.run_details else None) or []
    steps = [
        task for task in tasks if task.display_name in spec["root"]["dag"]["tasks"]
    ]
    latest = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)
    return sorted(steps, key=lambda task: task.start_time or latest)


def _show_change(
    task: Any, shown: dict[str, str], *, show: Callable[[str], None]
) -> None:
    if task.state in (None, *_NOT_STARTED, shown.get(task.task_id)):
        return
    shown[task.task_id] = task.state
    if task.state not in _ENDED:
        show(f"{task.display_name:{_WIDTH}} {'':>10}   {task.state.lower()}")
        return
    took = ""
    if task.start_time and task.end_time and task.end_time >= task.start_time:
        took = f"{(task.end_time - task.start_time).total_seconds():8.1f} s"
    show(f"{task.display_name:{_WIDTH}} {took:>10}   {task.state.lower()}")


def _find_error(described: Any) -> str:
    message = (described.error.message if described.error else None) or ""
    return message.strip() or "KFP's API gives no reason"
