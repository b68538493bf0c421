"""A small cluster for compiled pipelines: KFP v2's driver and launcher, reduced.

The behaviour is that of the public sources of kubeflow/pipelines, in backend/src/v2:
driver, component/launcher_v2.go and cacheutils. Where versions of KFP differ, this
cluster does what helps a step least: inputs have no types, and the cache identifies an
input by a name that is the same in every run.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

ROOT = "minio://mlpipeline/v2/artifacts"
BUCKET = "mlpipeline"
OUTPUTS = "/tmp/kfp_outputs"  # noqa: S108, where launchers put OUTPUT_FILE
OUTPUT_FILE = "output_metadata.json"
PODS_AT_ONCE = 2  # the number of cores that the tests have
SUCCESSES = {"SUCCEEDED", "CACHED"}


@dataclasses.dataclass(frozen=True)
class Container:
    """The container that Kubernetes has to start for one task."""

    name: str
    image: str
    command: Sequence[str]  # with placeholders replaced
    environment: Mapping[str, str]  # values of secrets
    # folder in the container -> folder of this machine
    mounts: Mapping[str, pathlib.Path]


# The function starts a container, writes its output to a file, and returns its exit
# code.
Start = Callable[[Container, pathlib.Path], int]


@dataclasses.dataclass(frozen=True)
class Task:
    """The result of one task."""

    name: str
    state: str  # SUCCEEDED, CACHED, FAILED or, after a failure, SKIPPED
    seconds: float
    log: str  # output of the container


class Cluster:
    """A cluster that runs each task when the tasks that it depends on have ended."""

    def __init__(
        self,
        folder: pathlib.Path,
        s3,
        start: Start,
        claims: Mapping[str, pathlib.Path],
        secrets: Mapping[str, Mapping[str, str]],
        contained: bool,
    ):
        """Stores the parts of the cluster.

        Args:
          folder: folder for the files that containers read and write.
          s3: boto3's client of the object store.
          start: function that starts a container.
          claims: persistent volume claim -> its folder.
          secrets: Kubernetes secret -> key -> value.
          contained: whether `start` mounts folders at KFP's paths; otherwise steps use
            the folders' own paths.
        """
        self._folder, self._s3, self.start = folder, s3, start
        self._claims, self._secrets, self._contained = claims, secrets, contained
        self._cache: dict[str, Mapping[str, Any]] = {}

    def run(
        self,
        run_id: str,
        package: bytes,
        parameters: Mapping[str, float],
        ended: Callable[[Task], None],
    ) -> None:
        """Runs a compiled pipeline; skips the tasks that depend on a failed task.

        Args:
          run_id: the run's name, part of the URIs of its outputs.
          package: the compiled pipeline.
          parameters: the run's parameters, by name.
          ended: function that is called with each finished task.
        """
        spec, *platform = yaml.safe_load_all(package)
        run = _Run(run_id, spec, (platform or [{}])[0], parameters)
        waiting = dict(spec["root"]["dag"]["tasks"])
        running: dict[concurrent.futures.Future[Task], str] = {}
        with concurrent.futures.ThreadPoolExecutor(PODS_AT_ONCE) as pods:
            while waiting or running:
                ready = [
                    name
                    for name, task in waiting.items()
                    if all(before in run.tasks for before in task["dependentTasks"])
                ]
                skipped = False
                for name in ready:
                    before = waiting.pop(name)["dependentTasks"]
                    if {run.tasks[other].state for other in before} <= SUCCESSES:
                        running[pods.submit(self._run_task, run, name)] = name
                    else:
                        run.tasks[name] = Task(name, "SKIPPED", 0.0, "")
                        ended(run.tasks[name])
                        skipped = True
                if skipped:
                    continue  # tasks that depend on a skipped task are ready too
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    name = running.pop(future)
                    run.tasks[name] = future.result()
                    ended(run.tasks[name])

    def _run_task(self, run: "_Run", name: str) -> Task:
        started = time.monotonic()
        task = run.spec["root"]["dag"]["tasks"][name]
        container = run.container(name)
        pod = self._folder / run.name / name
        outputs = pod / "kfp_outputs"
        at = pathlib.PurePath(OUTPUTS) if self._contained else outputs
        given = run.executor_input(name, str(at / OUTPUT_FILE))
        cached = task["cachingOptions"].get("enableCache", False)
        key = _cache_key(given, container)
        if cached and key in self._cache:
            run.outputs[name] = self._cache[key]
            return Task(name, "CACHED", time.monotonic() - started, "")
        # A pod is new: it contains only the files that its launcher downloads.
        mounts = {"/minio": pod / "minio", str(at): outputs}
        for folder in mounts.values():
            folder.mkdir(parents=True)
        for artifact in _artifacts(given["inputs"]["artifacts"]):
            self._download(artifact["uri"], mounts["/minio"])
        log_uri = f"{run.uri(name)}/executor-logs"
        given["outputs"]["artifacts"]["executor-logs"] = {
            "artifacts": [{"uri": log_uri, "type": {"schemaTitle": "system.Artifact"}}]
        }
        for artifact in _artifacts(given["outputs"]["artifacts"]):
            _local(artifact["uri"], mounts["/minio"]).parent.mkdir(
                parents=True, exist_ok=True
            )
        for folder in pod.rglob("*"):
            folder.chmod(0o777 if folder.is_dir() else 0o666)
        log = _local(log_uri, mounts["/minio"])
        environment, volumes = run.kubernetes(name)
        code = self.start(
            Container(
                name=f"{run.name}-{name}",
                image=container["image"],
                command=[
                    part.replace("{{$}}", json.dumps(given))
                    for part in [*container["command"], *container["args"]]
                ],
                environment={
                    variable: self._secrets[secret][key]
                    for variable, (secret, key) in environment.items()
                },
                mounts={
                    **mounts,
                    **{at: self._claims[claim] for at, claim in volumes.items()},
                },
            ),
            log,
        )
        seconds = time.monotonic() - started
        if code != 0:
            return Task(name, "FAILED", seconds, log.read_text())
        run.outputs[name] = self._collect(given, outputs, mounts["/minio"])
        if cached:
            self._cache[key] = run.outputs[name]
        text = log.read_text()
        shutil.rmtree(pod)
        return Task(name, "SUCCEEDED", seconds, text)

    def _collect(
        self, given: Mapping[str, Any], folder: pathlib.Path, minio: pathlib.Path
    ) -> Mapping[str, Any]:
        """Uploads a task's outputs; returns its output artifacts and parameters."""
        report = json.loads((folder / OUTPUT_FILE).read_text())
        artifacts = {}
        for key, channel in given["outputs"]["artifacts"].items():
            (artifact,) = channel["artifacts"]
            reported = report.get("artifacts", {}).get(key, {}).get("artifacts", [{}])
            merged = {**artifact, **reported[0]}
            assert merged["uri"] == artifact["uri"], "a step moved its output"
            self._upload(_local(merged["uri"], minio), merged["uri"])
            assert None not in merged.get("metadata", {}).values()  # KFP fails on it
            artifacts[key] = {
                "name": key,
                "uri": merged["uri"],
                "metadata": _as_kfp_gives_it(merged.get("metadata", {})),
            }
        parameters = {
            key: (folder / pathlib.Path(value["outputFile"]).name).read_text()
            for key, value in given["outputs"]["parameters"].items()
        }
        return {"artifacts": artifacts, "parameters": parameters}

    def _download(self, uri: str, folder: pathlib.Path) -> None:
        prefix = uri.removeprefix(f"minio://{BUCKET}/")
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=BUCKET, Prefix=prefix):
            for item in page.get("Contents", []):
                path = _local(f"minio://{BUCKET}/{item['Key']}", folder)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(BUCKET, item["Key"], str(path))

    def _upload(self, path: pathlib.Path, uri: str) -> None:
        files = [path] if path.is_file() else path.rglob("*")
        for file in files:
            if file.is_file():
                relative = file.relative_to(path).as_posix()
                key = uri.removeprefix(f"minio://{BUCKET}/")
                key = key if relative == "." else f"{key}/{relative}"
                self._s3.upload_file(str(file), BUCKET, key)


class _Run:
    """The specification of one run, and the outputs of its tasks."""

    def __init__(self, name, spec, platform, parameters: Mapping[str, float]):
        self.name, self.spec = name, spec
        self.tasks: dict[str, Task] = {}
        self.outputs: dict[str, Mapping[str, Any]] = {}
        declared = spec["root"]["inputDefinitions"]["parameters"]
        assert set(parameters) <= set(declared), "KFP refuses unknown parameters"
        self._parameters = {
            key: parameters.get(key, value["defaultValue"])
            for key, value in declared.items()
        }
        self._kubernetes = (
            platform.get("platforms", {})
            .get("kubernetes", {})
            .get("deploymentSpec", {})
            .get("executors", {})
        )

    def uri(self, task: str) -> str:
        return f"{ROOT}/{self.spec['pipelineInfo']['name']}/{self.name}/{task}"

    def component(self, task: str) -> Mapping[str, Any]:
        name = self.spec["root"]["dag"]["tasks"][task]["componentRef"]["name"]
        return self.spec["components"][name]

    def container(self, task: str) -> Mapping[str, Any]:
        label = self.component(task)["executorLabel"]
        return self.spec["deploymentSpec"]["executors"][label]["container"]

    def kubernetes(self, task: str) -> tuple[dict, dict]:
        """Returns a task's variable -> (secret, key), and its folder -> claim."""
        fields = self._kubernetes.get(self.component(task)["executorLabel"], {})
        environment = {
            pair["envVar"]: (secret["secretName"], pair["secretKey"])
            for secret in fields.get("secretAsEnv", [])
            for pair in secret["keyToEnv"]
        }
        volumes = {m["mountPath"]: m["constant"] for m in fields.get("pvcMount", [])}
        return environment, volumes

    def executor_input(self, task: str, output_file: str) -> dict[str, Any]:
        inputs = self.spec["root"]["dag"]["tasks"][task].get("inputs", {})
        outputs = self.component(task).get("outputDefinitions", {})
        artifacts = {}
        for key, value in inputs.get("artifacts", {}).items():
            source = value["taskOutputArtifact"]
            given = self.outputs[source["producerTask"]]["artifacts"]
            artifacts[key] = {"artifacts": [given[source["outputArtifactKey"]]]}
        folder = pathlib.PurePath(output_file).parent
        return {
            "inputs": {
                "artifacts": artifacts,
                "parameterValues": {
                    key: self._parameter(value)
                    for key, value in inputs.get("parameters", {}).items()
                },
            },
            "outputs": {
                "artifacts": {
                    key: {
                        "artifacts": [
                            {
                                "uri": f"{self.uri(task)}/{key}",
                                "type": value["artifactType"],
                                "metadata": value.get("metadata", {}),
                            }
                        ]
                    }
                    for key, value in outputs.get("artifacts", {}).items()
                },
                "parameters": {
                    key: {"outputFile": str(folder / key)}
                    for key in outputs.get("parameters", {})
                },
                "outputFile": output_file,
            },
        }

    def _parameter(self, value: Mapping[str, Any]) -> Any:
        if "componentInputParameter" in value:
            found = self._parameters[value["componentInputParameter"]]
        elif "taskOutputParameter" in value:
            source = value["taskOutputParameter"]
            given = self.outputs[source["producerTask"]]["parameters"]
            found = given[source["outputParameterKey"]]
        else:
            found = value["runtimeValue"]["constant"]
            found = self.name if found == "{{$.pipeline_job_uuid}}" else found
        # Protobuf's Value has no integers.
        return float(found) if isinstance(found, int) else found


def _cache_key(given: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    """Returns KFP's cache key of a task.

    The key depends on the names of input artifacts, the parameters' values, the types
    of the outputs, the image and the command.
    """
    parts = {
        "inputs": {
            key: [artifact["name"] for artifact in channel["artifacts"]]
            for key, channel in given["inputs"]["artifacts"].items()
        },
        "parameters": given["inputs"]["parameterValues"],
        "outputs": {
            key: [artifact["type"] for artifact in channel["artifacts"]]
            for key, channel in given["outputs"]["artifacts"].items()
        },
        "image": container["image"],
        "command": [*container["command"], *container["args"]],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _as_kfp_gives_it(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an artifact's metadata as KFP's metadata store returns it."""
    result: dict[str, Any] = {"display_name": "output", "store_session_info": "{}"}
    for key, value in metadata.items():
        if isinstance(value, dict):
            value = {"struct": value}
        elif isinstance(value, list):
            value = {"list": value}
        elif isinstance(value, int):  # protobuf's Value has no integers
            value = float(value)
        result[key] = value
    return result


def _artifacts(channels: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [a for channel in channels.values() for a in channel["artifacts"]]


def _local(uri: str, folder: pathlib.Path) -> pathlib.Path:
    return folder / uri.removeprefix("minio://")
