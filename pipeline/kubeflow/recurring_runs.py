"""The schedules on a cluster: one recurring run for each name."""

from collections.abc import Iterator
from typing import Any

from pipeline.config.loading import ConfigError
from pipeline.kubeflow import submission
from pipeline.kubeflow.client import Cluster, ClusterError, filter_by_name, pages
from pipeline.kubeflow.submission import RunRequest
from pipeline.scheduling.cron import CronSchedule

_ZONE_OF_KFP = ("UTC", "Etc/UTC")
_ACTIVE = ("PENDING", "RUNNING", "CANCELING", "PAUSED")
_LATEST = 100  # runs of an experiment that are searched for active ones


def kfp_cron(schedule: CronSchedule) -> str:
    """Returns a schedule's cron expression in the form that KFP takes.

    KFP refuses `TZ=` and `CRON_TZ=` before it: its controller has one time zone for all
    schedules, CRON_SCHEDULE_TIMEZONE of the deployment ml-pipeline-scheduledworkflow,
    else UTC.

    Raises:
      ConfigError: the schedule has a time zone other than UTC.
    """
    if schedule.timezone not in (None, *_ZONE_OF_KFP):
        raise ConfigError(
            "--timezone must be UTC for a schedule on a cluster, got "
            f"{schedule.timezone!r}: KFP has one time zone for all of them, "
            "CRON_SCHEDULE_TIMEZONE in the environment of its deployment "
            "ml-pipeline-scheduledworkflow (UTC if not set). Write --cron in that one, "
            "without --timezone"
        )
    return schedule.to_kfp()


def schedule(
    cluster: Cluster, name: str, *, cron: str, request: RunRequest
) -> tuple[str, bool]:
    """Replaces the recurring run of this name, unless it is as requested and enabled.

    KFP can't change a recurring run. So the new one is made, still paused; then the old
    ones are paused, the new one is enabled, and the old ones are deleted: two are never
    enabled, and after a failure at any point the same call again completes the change.

    Args:
      cluster: where the runs go.
      name: the recurring run's; no other pipeline's may have it.
      cron: what `kfp_cron` returned.
      request: what each run is started with.

    Returns:
      The recurring run's id, and whether anything was changed.

    Raises:
      ClusterError: it could not be made, or a run of the old one goes on.
    """
    client = cluster.client
    experiment_id = submission.experiment_id(cluster, request.experiment)
    wanted = {
        "experiment_id": experiment_id,
        "cron": cron,
        "version_id": request.version.version_id,
        "parameters": dict(request.parameters),
        "pipeline_root": request.pipeline_root,
        "no_catchup": True,
        "max_concurrency": "1",
    }
    old = find(cluster, name, pipeline_id=request.version.pipeline_id)
    if len(old) == 1 and is_enabled(old[0]) and _define(old[0]) == wanted:
        return old[0].recurring_run_id, False
    for recurring_run in old:
        _check_idle(cluster, recurring_run)
    new = client.create_recurring_run(
        experiment_id,
        name,
        cron_expression=cron,
        max_concurrency=1,
        no_catchup=True,
        params=dict(request.parameters),
        pipeline_id=request.version.pipeline_id,
        version_id=request.version.version_id,
        pipeline_root=request.pipeline_root or None,
        enabled=False,
    )
    try:
        for recurring_run in filter(is_enabled, old):
            client.disable_recurring_run(recurring_run.recurring_run_id)
        client.enable_recurring_run(new.recurring_run_id)
        for recurring_run in old:
            client.delete_recurring_run(recurring_run.recurring_run_id)
    except ClusterError as error:
        raise ClusterError(
            f"{error}. The schedule {name} is half changed, and perhaps paused: the "
            "same command again ends the change",
            error.status,
        ) from error
    return new.recurring_run_id, True


def find(cluster: Cluster, name: str, *, pipeline_id: str | None) -> list[Any]:
    """Returns the recurring runs of this name: one, unless a change was interrupted.

    Raises:
      ClusterError: one of them is another pipeline's.
    """
    listed = _list_recurring_runs(cluster, filter=filter_by_name(name))
    found = [run for run in listed if run.display_name == name]
    for run in found:
        reference = run.pipeline_version_reference
        if reference is None or reference.pipeline_id != pipeline_id:
            raise ClusterError(
                f"the recurring run {name} ({run.recurring_run_id}) is another "
                "pipeline's: choose another --name"
            )
    return found


def all_of(cluster: Cluster, pipeline_id: str | None) -> list[Any]:
    """Returns all recurring runs of the pipeline."""
    return [
        run
        for run in _list_recurring_runs(cluster)
        if run.pipeline_version_reference is not None
        and run.pipeline_version_reference.pipeline_id == pipeline_id
    ]


def pause(cluster: Cluster, found: list[Any]) -> None:
    """Pauses recurring runs; their runs that have started go on."""
    for run in filter(is_enabled, found):
        cluster.client.disable_recurring_run(run.recurring_run_id)


def resume(cluster: Cluster, found: list[Any]) -> None:
    """Resumes a recurring run that was paused.

    Raises:
      ClusterError: there are several; only `schedule` can decide which to keep.
    """
    if len(found) > 1:
        raise ClusterError(
            f"there are {len(found)} recurring runs named {found[0].display_name}, for "
            "a change of the schedule was interrupted: call `schedule --cron ...` again"
        )
    for run in found:
        cluster.client.enable_recurring_run(run.recurring_run_id)


def delete(cluster: Cluster, found: list[Any]) -> None:
    """Deletes recurring runs.

    Raises:
      ClusterError: one of their runs goes on, and KFP would end it.
    """
    for run in found:
        _check_idle(cluster, run)
    for run in found:
        cluster.client.delete_recurring_run(run.recurring_run_id)


def is_enabled(recurring_run: Any) -> bool:
    """Returns whether a recurring run starts runs."""
    return recurring_run.mode == "ENABLE"


def cron_of(recurring_run: Any) -> str:
    """Returns a recurring run's cron expression as KFP has it; empty: it has none."""
    trigger = recurring_run.trigger
    return (trigger and trigger.cron_schedule and trigger.cron_schedule.cron) or ""


def _list_recurring_runs(cluster: Cluster, **arguments: Any) -> Iterator[Any]:
    return pages(
        cluster.client.list_recurring_runs,
        "recurring_runs",
        namespace=cluster.namespace,
        **arguments,
    )


def _define(recurring_run: Any) -> dict[str, Any]:
    """Returns the facts that `schedule` compares with a request."""
    runtime = recurring_run.runtime_config
    return {
        "experiment_id": recurring_run.experiment_id,
        "cron": cron_of(recurring_run),
        "version_id": recurring_run.pipeline_version_reference.pipeline_version_id,
        "parameters": (runtime.parameters if runtime else None) or {},
        "pipeline_root": (runtime.pipeline_root if runtime else None) or "",
        "no_catchup": recurring_run.no_catchup,
        "max_concurrency": recurring_run.max_concurrency,
    }


def _check_idle(cluster: Cluster, recurring_run: Any) -> None:
    """Raises ClusterError if a run of a recurring run goes on."""
    # Deleting a recurring run ends its runs: https://github.com/kubeflow/pipelines/issues/7421
    runs = cluster.client.list_runs(
        experiment_id=recurring_run.experiment_id,
        page_size=_LATEST,
        sort_by="created_at desc",
    )
    for run in runs.runs or ():
        if (
            run.recurring_run_id == recurring_run.recurring_run_id
            and run.state in _ACTIVE
        ):
            raise ClusterError(
                f"the run {run.run_id} of the schedule {recurring_run.display_name} "
                "goes on, and KFP would end it together with the schedule: wait for it "
                f"({cluster.run_link(run.run_id)}), or end it, then call again"
            )
