"""Whole runs of the compiled pipeline on the small cluster, each step in a container.

Without a container engine the steps are processes. The tests share one place and run in
order. `make test-containers` runs them.
"""

import contextlib
import logging
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from components.registry import listing
from pipeline.cli import main
from tests.kubeflow import api_server
from tests.kubeflow.cluster import BUCKET, ROOT, Cluster
from tests.kubeflow.engine import start_process
from tests.support.bars import write_idx

# The secret in Kubernetes; it has the endpoint too, which the same steps need.
SECRET = {"key": "tests-key", "secret": "tests-secret-key"}
SETTINGS = [
    "data.dataset=bars",
    "data.limit=null",
    "train.epochs=8",
    "kubeflow.secrets={AWS_ACCESS_KEY_ID: s3/key, AWS_SECRET_ACCESS_KEY: s3/secret, "
    "AWS_ENDPOINT_URL: s3/endpoint}",
]
STEPS = 16
BEFORE_THE_TRAINER = (
    *("import-schema-gen", "statistics-gen", "example-validator", "transform"),
)
OF_THE_SERVED_MODEL = ("data-gate", "baseline-scores", "elbo-drift")
FROM_THE_TRAINER = (
    *("trainer", "candidate-scores", "evaluator", "bounds", "infra-check"),
    *("pusher", "report"),
)
FAILED_AT_INGEST = {
    "import-schema-gen": "SUCCEEDED",
    "served-model": "SUCCEEDED",
    "ingest": "FAILED",
    **dict.fromkeys(OF_THE_SERVED_MODEL, "SKIPPED"),
    **dict.fromkeys(BEFORE_THE_TRAINER[1:], "SKIPPED"),
    **dict.fromkeys(FROM_THE_TRAINER, "SKIPPED"),
}


class Place:
    """A cluster, its data, and the push destination of its models."""

    def __init__(self, folder, start, image, server, api):
        self.folder, self.image, self.api = folder, image, api
        claims = {"datasets": folder / "datasets"}
        write_idx(folder / "datasets" / "bars", labels=range(10))
        for path in (folder / "datasets", *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        secrets = {"s3": {**SECRET, "endpoint": endpoint}}
        self.s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=SECRET["key"],
            aws_secret_access_key=SECRET["secret"],
            region_name="us-east-1",
        )
        self.access = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": SECRET["key"],
            "AWS_SECRET_ACCESS_KEY": SECRET["secret"],
        }
        for bucket in (BUCKET, "models"):
            self.s3.create_bucket(Bucket=bucket)
        contained = start is not start_process
        self.cluster = Cluster(
            folder / "pods", self.s3, start, claims, secrets, contained
        )

    def submit(self, *settings):
        """Submits a run, waits for its end, and returns the exit code and the tasks."""
        # the volume has the same path in the container
        datasets = self.folder / "datasets"
        settings = [
            *SETTINGS,
            f"data.source={datasets / 'bars'}",
            f"kubeflow.data_dir={datasets / 'prepared'}",
            f"kubeflow.volumes={{{datasets}: datasets}}",
            f"kubeflow.pipeline_root={ROOT}",
            "push.destination=s3://models/serving",
            *settings,
        ]
        tasks = {}
        behind = threading.Thread(target=self._run_what_is_submitted, args=[tasks])
        behind.start()
        code = main.main(
            [
                *("submit", "--host", self.api.url, "--image", self.image, "--wait"),
                *("--preset", "smoke", *(f"--set={setting}" for setting in settings)),
                *("--root", str(self.folder / "runs")),
            ]
        )
        behind.join()
        return code, tasks

    def _run_what_is_submitted(self, tasks):
        """Runs the pending run on the cluster, as the back end of KFP's API does."""
        pending = []
        while not pending:
            time.sleep(0.1)
            pending = [run for run in self.api.runs.values() if run.state == "PENDING"]
        (run,) = pending
        run.state = "RUNNING"
        started = time.monotonic()

        def ended(task):
            tasks[task.name] = task
            state = "SUCCEEDED" if task.state == "CACHED" else task.state
            seconds = (time.monotonic() - started - task.seconds, task.seconds)
            error = last_line(task) if state == "FAILED" else None
            self.api.task(run.run_id, task.name, state, seconds, error)

        # also if the cluster itself fails, as the submitting command waits for an end
        state = "FAILED"
        try:
            self.cluster.run(
                run.run_id,
                self.api.packages[run.pipeline_version_reference.pipeline_version_id],
                run.runtime_config.parameters,
                ended,
            )
            if all(task.state != "FAILED" for task in tasks.values()):
                state = "SUCCEEDED"
        finally:
            self.api.finish(run.run_id, state)

    def served(self):
        """Returns the served version, read from outside the cluster."""
        return listing.find_served_version("s3://models/serving/vae")

    def stored(self):
        """Returns the object store's keys in the pipeline root and the destination."""
        return [
            item["Key"]
            for bucket in (BUCKET, "models")
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for item in page.get("Contents", [])
        ]


@contextlib.contextmanager
def a_place(start, image):
    """Yields a Place with an S3 server of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    # Not in pytest's own folder, which other users may not enter.
    with (
        tempfile.TemporaryDirectory() as folder,
        api_server.serve() as api,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        os.chmod(folder, 0o755)  # noqa: S103
        place = Place(pathlib.Path(folder), start, image, server, api)
        # The test itself reads the results with the same credentials.
        for name, value in place.access.items():
            monkeypatch.setenv(name, value)
        # s3fs caches the environment of its first use
        s3fs.S3FileSystem.clear_instance_cache()
        yield place
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def place(engine, image):
    with a_place(engine.start if engine else start_process, image) as place:
        yield place


def states(tasks):
    return {name: task.state for name, task in tasks.items()}


def last_line(task):
    return task.log.strip().splitlines()[-1]


@pytest.mark.containers
def test_the_first_run_pushes(place):
    code, tasks = place.submit()
    assert len(tasks) == STEPS
    for task in tasks.values():
        assert task.state == "SUCCEEDED", task.log
    assert code == 0
    version = place.served()
    listing.verify_version(version)
    assert version.manifest.content["baseline"] is None
    assert version.manifest.content["elbo"]["elbo"] > -300
    assert any(key.endswith("trainer/executor-logs") for key in place.stored())
    assert any(key.endswith("evaluator/blessing/BLESSED") for key in place.stored())
    assert not [key for key in place.stored() if key.endswith("/")]  # no folder markers
    # KFP's UI shows the file unchanged.
    (page,) = [key for key in place.stored() if key.endswith("/report/page")]
    html = place.s3.get_object(Bucket=BUCKET, Key=page)["Body"].read().decode()
    assert html.startswith("<!DOCTYPE html>")
    assert "BLESSED" in html
    assert any(key.endswith("/report/metrics/report.json") for key in place.stored())


@pytest.mark.containers
def test_a_second_run_meets_the_baseline(place):
    first = place.served()
    # A longer training, so that the gate's ratchet blesses the model.
    code, tasks = place.submit("train.epochs=10")
    assert code == 0
    # run parameters make no new version of the pipeline
    assert len(place.api.versions) == 1
    # The steps before the Trainer are the same. Every input has the same name in each
    # run on this cluster, so no step after the Trainer may come from the cache.
    assert states(tasks) == {
        "ingest": "SUCCEEDED",
        "served-model": "SUCCEEDED",
        # These read the served model, which is another one now.
        **dict.fromkeys(OF_THE_SERVED_MODEL, "SUCCEEDED"),
        **dict.fromkeys(BEFORE_THE_TRAINER, "CACHED"),
        **dict.fromkeys(FROM_THE_TRAINER, "SUCCEEDED"),
    }
    assert f"the baseline is version {first.number}" in tasks["served-model"].log
    second = place.served()
    assert second.number > first.number
    assert second.manifest.content["baseline"]["version"] == first.number
    assert second.manifest.content["config"]["train"]["epochs"] == 10


@pytest.mark.containers
def test_a_refused_model_is_not_pushed(place):
    served = place.served()
    code, tasks = place.submit("train.epochs=10", "gate.elbo_floor=-1")
    assert code == 3
    # The Trainer had these parameters in an earlier run, but the served model is
    # another one now.
    assert states(tasks) == {
        "ingest": "SUCCEEDED",
        "served-model": "SUCCEEDED",
        **dict.fromkeys(OF_THE_SERVED_MODEL, "SUCCEEDED"),
        **dict.fromkeys(BEFORE_THE_TRAINER, "CACHED"),
        **dict.fromkeys(("trainer", "candidate-scores"), "CACHED"),
        **dict.fromkeys(("bounds", "infra-check"), "CACHED"),
        **dict.fromkeys(("evaluator", "pusher", "report"), "SUCCEEDED"),
    }
    assert "not pushed: the Evaluator did not bless the model" in tasks["pusher"].log
    assert place.served() == served
    assert any(key.endswith("evaluator/blessing/NOT_BLESSED") for key in place.stored())


@pytest.mark.containers
def test_a_step_that_fails_fails_the_run(place, capfd):
    served = place.served()
    code, tasks = place.submit(f"data.source={place.folder / 'datasets/nowhere'}")
    assert code == 1
    assert states(tasks) == FAILED_AT_INGEST
    assert "ingest failed: Ingest failed: source must be auto" in capfd.readouterr().out
    assert place.served() == served


@pytest.mark.containers
def test_an_evicted_trainer_continues_in_another_pod(place, engine):
    if engine is None:
        pytest.skip("NO CONTAINERS WERE RUN: see the warning")
    settings = (
        "train.epochs=40",
        "kubeflow.checkpoints=s3://models/checkpoints",
        "gate.elbo_floor=-400",
    )
    behind = threading.Thread(target=evict, args=[place, engine])
    behind.start()
    code, tasks = place.submit(*settings)
    behind.join()
    assert code == 1
    assert tasks["trainer"].state == "FAILED"
    assert states(tasks)["pusher"] == "SKIPPED"
    assert "done" not in last_line(tasks["trainer"])
    code, tasks = place.submit(*settings)
    assert code == 0
    (step,) = re.findall(r"resuming from step (\d+)", tasks["trainer"].log)
    assert int(step) > 0
    # The next training may remove the checkpoints.
    kept = [key for key in place.stored() if key.startswith("checkpoints/")]
    assert [key for key in kept if key.endswith("/done")]


def evict(place, engine):
    """Stops the Trainer's pod as Kubernetes evicts it, after its first checkpoint."""
    while not any(key.startswith("checkpoints/") for key in place.stored()):
        time.sleep(0.2)
    done = engine.call(
        *("ps", "--filter=name=-trainer", "--format={{.Names}}"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    engine.call("stop", "--time=30", *done.stdout.split(), check=True)


@pytest.mark.containers
def test_no_secret_is_in_a_log_or_an_artifact(place):
    for key in place.stored():
        ours = key.startswith(("serving/", "checkpoints/"))
        bucket = "models" if ours else BUCKET
        body = place.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert SECRET["secret"].encode() not in body, key


@pytest.mark.nightly
def test_without_containers_the_same_commands_are_processes():
    with a_place(start_process, "none") as place:
        code, tasks = place.submit(f"data.source={place.folder / 'datasets/nowhere'}")
        assert code == 1
        assert states(tasks) == FAILED_AT_INGEST
        assert "Ingest failed: source must be auto" in last_line(tasks["ingest"])
        assert place.stored() != []
