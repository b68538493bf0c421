"""The submission to a cluster: uploads the pipeline and starts its runs."""

import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import kfp_server_api

from pipeline.config.loading import NAME
from pipeline.kubeflow.client import Cluster, ClusterError, list_items, make_name_filter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A version of the pipeline on the cluster."""

    name: str  # contains the digest of the version's content
    pipeline_id: str
    version_id: str
    is_new: bool  # whether `upload_pipeline` uploaded it just now


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The pipeline version and the arguments of a run, or of each run of a schedule."""

    version: Version
    experiment: str  # the name of the experiment that the run belongs to
    # KFP's name of a run parameter -> value
    parameters: Mapping[str, int | float | str]
    pipeline_root: str  # URI for the steps' outputs; empty: the cluster's default


def upload_pipeline(cluster: Cluster, package: pathlib.Path) -> Version:
    """Uploads a compiled pipeline, unless the cluster has a version of the same bytes.

    Args:
      cluster: the connection to the API server.
      package: the file that `compile_pipeline` wrote.

    Raises:
      ClusterError: a request failed.
    """
    name = f"{NAME}-{hashlib.sha256(package.read_bytes()).hexdigest()[:16]}"
    pipeline_id = find_pipeline(cluster) or _create_pipeline(cluster)
    version = _find_version(cluster, pipeline_id, name=name)
    is_new = version is None
    if version is None:
        try:
            version = cluster.client.upload_pipeline_version(
                str(package), name, pipeline_id=pipeline_id
            )
        except ClusterError as error:
            version = _read_after_race(
                error, lambda: _find_version(cluster, pipeline_id, name=name)
            )
            is_new = False
    return Version(
        name=name,
        pipeline_id=pipeline_id,
        version_id=version.pipeline_version_id,
        is_new=is_new,
    )


def find_pipeline(cluster: Cluster) -> str | None:
    """Returns the id of this project's pipeline, or None before the first upload."""
    pipelines = list_items(
        cluster.client.list_pipelines,
        "pipelines",
        filter=make_name_filter(NAME),
        namespace=cluster.namespace,
    )
    return next((p.pipeline_id for p in pipelines if p.display_name == NAME), None)


def find_or_create_experiment(cluster: Cluster, name: str) -> str:
    """Returns the id of the experiment with this name; creates it if necessary."""
    client, namespace = cluster.client, cluster.namespace
    try:
        experiment = client.create_experiment(name, namespace=namespace)
    except ClusterError as error:
        experiment = _read_after_race(
            error,
            lambda: client.get_experiment(experiment_name=name, namespace=namespace),
        )
    return experiment.experiment_id


def start_run(cluster: Cluster, request: RunRequest) -> str:
    """Starts a run and returns its id.

    Raises:
      ClusterError: a request failed.
    """
    run = cluster.client.run_pipeline(
        find_or_create_experiment(cluster, request.experiment),
        f"{NAME} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
        params=dict(request.parameters),
        pipeline_id=request.version.pipeline_id,
        version_id=request.version.version_id,
        pipeline_root=request.pipeline_root or None,
    )
    return run.run_id


def _create_pipeline(cluster: Cluster) -> str:
    # kfp.Client creates a pipeline only together with a version, whose name it chooses.
    api = cluster.client.pipelines
    # Newer versions of kfp-server-api have longer names.
    create = getattr(api, "pipeline_service_create_pipeline", None)
    body = kfp_server_api.V2beta1Pipeline(
        display_name=NAME, namespace=cluster.namespace
    )
    try:
        return (create or api.create_pipeline)(body).pipeline_id
    except ClusterError as error:
        return _read_after_race(error, lambda: find_pipeline(cluster))


def _find_version(cluster: Cluster, pipeline_id: str, *, name: str) -> Any:
    versions = list_items(
        cluster.client.list_pipeline_versions,
        "pipeline_versions",
        filter=make_name_filter(name),
        pipeline_id=pipeline_id,
    )
    return next((v for v in versions if v.display_name == name), None)


def _read_after_race(error: ClusterError, read: Callable[[], Any]) -> Any:
    """Returns what another caller created at the same time, or raises the error.

    Args:
      error: the failure of the request that should have created it.
      read: requests what another caller may have created; None: there is nothing.

    Raises:
      ClusterError: the error, because no other caller caused it.
    """
    if error.status not in (409, 500):  # older versions of KFP answer 500
        raise error
    found = read()
    if found is None:
        raise error
    return found
