"""Schedules on a cluster, each of them one of KFP's recurring runs."""

from collections.abc import Iterator
from typing import Any

from pipeline.config.loading import ConfigError
from pipeline.kubeflow import submission
from pipeline.kubeflow.client import Cluster, ClusterError, list_items, make_name_filter
from pipeline.kubeflow.submission import RunRequest
from pipeline.scheduling.cron import CronSchedule

_ZONE_OF_KFP = ("UTC", "Etc/UTC")  # names of the default time zone
_ACTIVE = ("PENDING", "RUNNING", "CANCELING", "PAUSED")
_LATEST = 100  # runs of an experiment, newest first, that are searched for active runs


def to_kfp_cron(schedule: CronSchedule) -> str:
    """Returns a schedule's cron expression in the format of KFP.

    KFP refuses the prefixes `TZ=` and `CRON_TZ=`. Its controller has one time zone for
    all schedules: CRON_SCHEDULE_TIMEZONE in the environment of the deployment
    ml-pipeline-scheduledworkflow, UTC by default.

    Raises:
      ConfigError: the schedule has a time zone other than UTC.
    """
    if schedule.timezone not in (None, *_ZONE_OF_KFP):
        raise ConfigError(
            "--timezone must be UTC for a schedule on a cluster, got "
            f"{schedule.timezone!r}: KFP has one time zone for all of them, "
            "CRON_SCHEDULE_TIMEZONE in the environment of its deployment "
            "ml-pipeline-scheduledworkflow (UTC if not set). Write --cron in that time "
            "zone, without --timezone"
        )
    return schedule.to_kfp()


def set_schedule(
    cluster: Cluster, name: str, *, cron: str, request: RunRequest
) -> tuple[str, bool]:
    """Creates a recurring run, or replaces the one that has the name.

    Changes nothing if a recurring run of this name is as requested and enabled. KFP
    can't change a recurring run, so a change has these steps: create the new one,
    paused; pause the old ones; enable the new one; delete the old ones. So there are
    never two enabled ones, and after a failure at any step, the same call completes
    the change.

    Args:
      cluster: the connection to the API server.
      name: the recurring run's name, which no other pipeline's recurring run may have.
      cron: the cron expression that `to_kfp_cron` returned.
      request: the pipeline version and the arguments of each run.

    Returns:
      The recurring run's id, and whether anything was changed.

    Raises:
      ClusterError: a request failed, or a run of an old recurring run is active.
    """
    client = cluster.client
    experiment_id = submission.find_or_create_experiment(cluster, request.experiment)
    wanted = {
        "experiment_id": experiment_id,
        "cron": cron,
        "version_id": request.version.version_id,
        "parameters": dict(request.parameters),
        "pipeline_root": request.pipeline_root,
        "no_catchup": True,
        "max_concurrency": "1",
    }
    old = find_by_name(cluster, name, pipeline_id=request.version.pipeline_id)
    if len(old) == 1 and is_enabled(old[0]) and _read_definition(old[0]) == wanted:
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
            f"{error}. The change of the schedule {name} is incomplete, and the "
            "schedule may be paused: run the same command again",
            error.status,
        ) from error
    return new.recurring_run_id, True


def find_by_name(cluster: Cluster, name: str, *, pipeline_id: str | None) -> list[Any]:
    """Returns the recurring runs that have a certain name.

    There are several only if a change by `set_schedule` was interrupted.

    Args:
      cluster: the connection to the API server.
      name: the recurring run's name.
      pipeline_id: the id of this project's pipeline; None: it was never uploaded.

    Raises:
      ClusterError: a recurring run of this name belongs to another pipeline.
    """
    listed = _list_recurring_runs(cluster, filter=make_name_filter(name))
    found = [run for run in listed if run.display_name == name]
    for run in found:
        reference = run.pipeline_version_reference
        if reference is None or reference.pipeline_id != pipeline_id:
            raise ClusterError(
                f"the recurring run {name} ({run.recurring_run_id}) belongs to another "
                "pipeline: choose another --name"
            )
    return found


def find_all(cluster: Cluster, pipeline_id: str | None) -> list[Any]:
    """Returns all recurring runs of a pipeline.

    Args:
      cluster: the connection to the API server.
      pipeline_id: the pipeline's id; None: it was never uploaded, so there are none.
    """
    return [
        run
        for run in _list_recurring_runs(cluster)
        if run.pipeline_version_reference is not None
        and run.pipeline_version_reference.pipeline_id == pipeline_id
    ]


def pause(cluster: Cluster, found: list[Any]) -> None:
    """Pauses recurring runs; it does not stop runs that they have started."""
    for run in filter(is_enabled, found):
        cluster.client.disable_recurring_run(run.recurring_run_id)


def resume(cluster: Cluster, found: list[Any]) -> None:
    """Enables a paused recurring run.

    Args:
      cluster: the connection to the API server.
      found: the recurring runs that `find_by_name` returned.

    Raises:
      ClusterError: there are several; only `set_schedule` can decide which one to keep.
    """
    if len(found) > 1:
        raise ClusterError(
            f"there are {len(found)} recurring runs named {found[0].display_name}, "
            "because a change of the schedule was interrupted: run `schedule --cron "
            "...` again"
        )
    for run in found:
        cluster.client.enable_recurring_run(run.recurring_run_id)


def delete(cluster: Cluster, found: list[Any]) -> None:
    """Deletes recurring runs.

    Raises:
      ClusterError: one of their runs is active, and KFP would stop it.
    """
    for run in found:
        _check_idle(cluster, run)
    for run in found:
        cluster.client.delete_recurring_run(run.recurring_run_id)


def is_enabled(recurring_run: Any) -> bool:
    """Returns whether a recurring run is enabled, that is, starts runs."""
    return recurring_run.mode == "ENABLE"


def read_cron(recurring_run: Any) -> str:
    """Returns a recurring run's cron expression in KFP's format; "" if it has none."""
    trigger = recurring_run.trigger
    return (trigger and trigger.cron_schedule and trigger.cron_schedule.cron) or ""


def _list_recurring_runs(cluster: Cluster, **arguments: Any) -> Iterator[Any]:
    return list_items(
        cluster.client.list_recurring_runs,
        "recurring_runs",
        namespace=cluster.namespace,
        **arguments,
    )


def _read_definition(recurring_run: Any) -> dict[str, Any]:
    """Returns the fields of a recurring run that a request may change."""
    runtime = recurring_run.runtime_config
    return {
        "experiment_id": recurring_run.experiment_id,
        "cron": read_cron(recurring_run),
        "version_id": recurring_run.pipeline_version_reference.pipeline_version_id,
        "parameters": (runtime.parameters if runtime else None) or {},
        "pipeline_root": (runtime.pipeline_root if runtime else None) or "",
        "no_catchup": recurring_run.no_catchup,
        "max_concurrency": recurring_run.max_concurrency,
    }


def _check_idle(cluster: Cluster, recurring_run: Any) -> None:
    """Raises ClusterError if a run of a recurring run is active."""
    # KFP stops the runs of a deleted recurring run (kubeflow/pipelines#7421).
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
                "is active, and KFP would stop it together with the schedule: wait for "
                f"it ({cluster.make_run_link(run.run_id)}), or stop it, then try again"
            )
