"""A run on a cluster until its end: its steps, its failure or its gate's verdict."""

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

from components.evaluation.gate_result import VERDICT, GateResult
from model.errors import PipelineError
from model.files import filesystems
from pipeline.kubeflow.client import Cluster, ClusterError

# Where KFP keeps outputs if neither the run nor the cluster's configuration says so.
DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"

_NOT_STARTED = ("RUNTIME_STATE_UNSPECIFIED", "PENDING")
_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_POLL = 5.0  # seconds
_PATIENCE = 300.0  # seconds without an answer of the server until `follow` ends
_WIDTH = 18  # of a task's name


class VerdictError(PipelineError):
    """A run succeeded, but its gate result can't be read."""


@dataclasses.dataclass(frozen=True)
class Clock:
    """The functions that measure time and wait, in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def follow(
    cluster: Cluster,
    run_id: str,
    *,
    show: Callable[[str], None],
    poll: float = _POLL,
    patience: float = _PATIENCE,
    clock: Clock | None = None,
) -> tuple[Any, Mapping[str, Any]]:
    """Shows a line for each step that starts or ends, until the run ends.

    Args:
      cluster: where it runs.
      run_id: the run's.
      show: prints a line.
      poll: seconds between two requests.
      patience: seconds for which the server may fail to answer meanwhile.
      clock: measures and waits for both; None: the system's.

    Returns:
      The run, as KFP describes it, and its pipeline's spec.

    Raises:
      ClusterError: the server refuses, or does not answer for longer.
    """
    clock = clock or Clock()
    run = cluster.client.get_run(run_id)
    spec = _spec(cluster, run)
    shown: dict[str, str] = {}
    answered = clock.monotonic()
    while True:
        for task in _steps(run, spec):
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


def failure(run: Any, spec: Mapping[str, Any]) -> str:
    """Returns which steps of a run that did not succeed failed, and why."""
    failed = [task for task in _steps(run, spec) if task.state == "FAILED"]
    reasons = [f"{task.display_name} failed: {_error(task)}" for task in failed]
    if not reasons:
        reasons = [f"the run is {run.state}, and no step of it failed: {_error(run)}"]
    return "; ".join(reasons)


def verdict(run: Any, spec: Mapping[str, Any]) -> GateResult:
    """Returns the gate result that the Pusher wrote.

    KFP's API does not have it: it is read from the run's outputs.

    Raises:
      VerdictError: they can't be read.
    """
    runtime = run.runtime_config
    root = (
        (runtime.pipeline_root if runtime else None)
        or spec.get("defaultPipelineRoot")
        or DEFAULT_ROOT
    )
    # Below it, newer versions of KFP have a folder more than older ones.
    uri = f"{root.rstrip('/')}/{spec['pipelineInfo']['name']}/{run.run_id}/pusher"
    try:
        fs, path = filesystems.find_filesystem(uri)
        found = [file for file in fs.find(path) if file.endswith(f"/{VERDICT}")]
        if found:
            # That of the last attempt, where there were several.
            latest = max(found, key=fs.modified)
            return GateResult.from_json(fs.cat_file(latest), latest)
    except Exception as error:  # whatever the store's library raises
        reason = f"{type(error).__name__}: {str(error).strip()}"
    else:
        reason = f"there is no {VERDICT}"
    raise VerdictError(
        f"the run succeeded, but its verdict can't be read below {uri} ({reason}). Is "
        "this the cluster's pipeline root (else set kubeflow.pipeline_root)? Are the "
        "store's credentials set here and, for minio:// and s3://, AWS_ENDPOINT_URL?"
    )


def _spec(cluster: Cluster, run: Any) -> Mapping[str, Any]:
    reference = run.pipeline_version_reference
    version = cluster.client.get_pipeline_version(
        reference.pipeline_id, reference.pipeline_version_id
    )
    spec = version.pipeline_spec
    # So it is where there is a second document, for Kubernetes.
    return spec.get("pipeline_spec", spec)


def _steps(run: Any, spec: Mapping[str, Any]) -> list[Any]:
    """Returns the tasks that are steps of the graph; KFP lists its own among them."""
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


def _error(described: Any) -> str:
    message = (described.error.message if described.error else None) or ""
    return message.strip() or "KFP's API does not say why"
