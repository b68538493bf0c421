"""Whole runs of the compiled pipeline, step by step, as a cluster runs them.

In containers of the image, which is built here: once by our small cluster (where there
is no engine, by processes instead), and once by KFP's own local runner. In each, the
tests go through one place in order. `make test-containers` runs them.
"""

import contextlib
import json
import logging
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import warnings

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from components import versions
from pipeline import cli, kubeflow
from pipeline.config import resolve
from tests.bars import write_idx
from tests.kubeflow import api_server
from tests.kubeflow.cluster import BUCKET, ROOT, Cluster
from tests.kubeflow.engine import RESTRICTED, Engine, Unavailable, start_process

# What Kubernetes has; the endpoint is with them, as it goes where they go.
SECRET = {"key": "tests-key", "secret": "tests-secret-key"}
SETTINGS = [
    "data.dataset=bars",
    "data.limit=null",
    "train.epochs=8",
    "kubeflow.secrets={AWS_ACCESS_KEY_ID: s3/key, AWS_SECRET_ACCESS_KEY: s3/secret, "
    "AWS_ENDPOINT_URL: s3/endpoint}",
]
STEPS = 13
BEFORE_THE_TRAINER = (
    *("import-schema-gen", "statistics-gen", "example-validator", "transform"),
)
FROM_THE_TRAINER = (
    *("trainer", "evaluator", "bounds", "infra-check", "pusher"),
    "report",
)
FAILED_AT_INGEST = {
    "import-schema-gen": "SUCCEEDED",
    "served-model": "SUCCEEDED",
    "ingest": "FAILED",
    "data-gate": "SKIPPED",
    **dict.fromkeys(BEFORE_THE_TRAINER[1:], "SKIPPED"),
    **dict.fromkeys(FROM_THE_TRAINER, "SKIPPED"),
}
SCRATCH = ("/tmp", "/minio", "/s3", "/gcs")  # noqa: S108, in a container
# Of the engine: what is built stays there. A socket's path must be short.
STATE = pathlib.Path(__file__).parents[2] / ".tools" / "podman"


class Place:
    """A cluster, its data and what its models are pushed to."""

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
        """Submits a run, waits for it, and returns the exit code and the tasks."""
        datasets = self.folder / "datasets"  # the same path in the volume as here
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
        code = cli.main(
            [
                *("submit", "--host", self.api.url, "--image", self.image, "--wait"),
                *("--preset", "smoke", *(f"--set={setting}" for setting in settings)),
                *("--root", str(self.folder / "runs")),
            ]
        )
        behind.join()
        return code, tasks

    def _run_what_is_submitted(self, tasks):
        """What is behind KFP's API server."""
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

        state = "FAILED"  # also when the cluster itself fails: who submitted waits
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
        """Returns the served version, as one outside the cluster sees it."""
        return versions.served("s3://models/serving/vae")

    def stored(self):
        """Returns the object store's keys below the pipeline root and the models."""
        return [
            item["Key"]
            for bucket in (BUCKET, "models")
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for item in page.get("Contents", [])
        ]


@contextlib.contextmanager
def a_place(start, image):
    """Gives a Place with an S3 server of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    # Not below pytest's own folder, which other users may not enter.
    with (
        tempfile.TemporaryDirectory() as folder,
        api_server.serve() as api,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        os.chmod(folder, 0o755)  # noqa: S103
        place = Place(pathlib.Path(folder), start, image, server, api)
        # For who submits, and reads what came of it.
        for name, value in place.access.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # it reads the environment once
        yield place
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def engine():
    """The container engine, or None where there is none to be had."""
    try:
        engine = Engine(STATE)
    except Unavailable as error:
        warnings.warn(f"NO CONTAINERS: {error}: processes instead", stacklevel=1)
        yield None
    else:
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def image(engine):
    return engine.build() if engine else "none"


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
    versions.verify(version)
    assert version.manifest["baseline"] is None
    assert version.manifest["elbo"]["elbo"] > -300
    assert any(key.endswith("trainer/executor-logs") for key in place.stored())
    assert any(key.endswith("evaluator/blessing/BLESSED") for key in place.stored())
    assert not [key for key in place.stored() if key.endswith("/")]  # no markers
    # What KFP's UI shows as it is.
    (page,) = [key for key in place.stored() if key.endswith("/report/page")]
    html = place.s3.get_object(Bucket=BUCKET, Key=page)["Body"].read().decode()
    assert html.startswith("<!DOCTYPE html>")
    assert "BLESSED" in html
    assert any(key.endswith("/report/metrics/report.json") for key in place.stored())


@pytest.mark.containers
def test_a_second_run_meets_the_baseline(place):
    first = place.served()
    # A longer training, so that the ratchet lets it through.
    code, tasks = place.submit("train.epochs=10")
    assert code == 0
    assert len(place.api.versions) == 1  # what is a run's own makes no new version
    # What comes before the Trainer is the same; on this cluster, where every input has
    # the same name in each run, nothing after it may come from the cache.
    assert states(tasks) == {
        "ingest": "SUCCEEDED",
        "served-model": "SUCCEEDED",
        "data-gate": "SUCCEEDED",  # it compares with what is served
        **dict.fromkeys(BEFORE_THE_TRAINER, "CACHED"),
        **dict.fromkeys(FROM_THE_TRAINER, "SUCCEEDED"),
    }
    assert f"the baseline is version {first.number}" in tasks["served-model"].log
    second = place.served()
    assert second.number > first.number
    assert second.manifest["baseline"]["version"] == first.number
    assert second.manifest["config"]["train"]["epochs"] == 10


@pytest.mark.containers
def test_a_refused_model_is_not_pushed(place):
    served = place.served()
    code, tasks = place.submit("train.epochs=10", "gate.elbo_floor=-1")
    assert code == 3
    # The Trainer has had these parameters before; what is served is another model now.
    assert states(tasks) == {
        "ingest": "SUCCEEDED",
        "served-model": "SUCCEEDED",
        "data-gate": "SUCCEEDED",
        **dict.fromkeys(BEFORE_THE_TRAINER, "CACHED"),
        **dict.fromkeys(("trainer", "bounds", "infra-check"), "CACHED"),
        **dict.fromkeys(("evaluator", "pusher", "report"), "SUCCEEDED"),
    }
    assert "not pushed: the Evaluator did not bless the model" in tasks["pusher"].log
    assert place.served() == served
    assert any(key.endswith("evaluator/blessing/NOT_BLESSED") for key in place.stored())


@pytest.mark.containers
def test_a_step_that_fails_fails_the_run(place, capfd):
    served = place.served()
    code, tasks = place.submit("data.source=/nowhere")
    assert code == 1
    assert states(tasks) == FAILED_AT_INGEST
    assert "ingest failed: Ingest failed: source must be auto" in capfd.readouterr().out
    assert place.served() == served


@pytest.mark.containers
def test_an_evicted_trainer_goes_on_in_another_pod(place, engine):
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
    (step,) = re.findall(r"going on from step (\d+)", tasks["trainer"].log)
    assert int(step) > 0
    # The next training may remove them.
    kept = [key for key in place.stored() if key.startswith("checkpoints/")]
    assert [key for key in kept if key.endswith("/done")]


def evict(place, engine):
    """Ends the Trainer's pod as Kubernetes does, once it has left a checkpoint."""
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


@pytest.mark.e2e
def test_without_containers_the_same_commands_are_processes():
    with a_place(start_process, "none") as place:
        code, tasks = place.submit("data.source=/nowhere")
        assert code == 1
        assert states(tasks) == FAILED_AT_INGEST
        assert "Ingest failed: source must be auto" in last_line(tasks["ingest"])
        assert place.stored() != []


@pytest.fixture(scope="module")
def local(engine, image):
    """A folder for KFP's local runner, with data, as the place has one."""
    if engine is None:
        pytest.skip("NO CONTAINERS WERE RUN: see the warning")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Local(pathlib.Path(folder), engine, image)


class Local:
    """KFP's own local runner, and a folder to push to."""

    def __init__(self, folder, engine, image):
        self.folder, self.engine, self.image = folder, engine, image
        self.runs = 0
        write_idx(folder / "bars", labels=range(10))
        for name in ("serving", "data", "outputs"):
            (folder / name).mkdir()
        for path in folder.rglob("*"):
            path.chmod(0o777 if path.is_dir() else 0o666)

    def run(self, *settings, **parameters):
        """Returns the exit code, what was printed, and the steps that have reported."""
        self.runs += 1
        path = self.folder / "pipeline.yaml"
        mounts = {f"/{name}": name for name in ("serving", "data", "bars")}
        config = resolve(
            "smoke",
            None,
            [
                *SETTINGS,
                "data.source=/bars",
                "kubeflow.data_dir=/data",
                "push.destination=/serving",
                *settings,
            ],
        )
        kubeflow.compile_pipeline(config, str(path), self.image)
        root = self.folder / "outputs" / str(self.runs)
        script = pathlib.Path(__file__).with_name("kfp_local.py")
        done = self.engine.call(
            *("run", "--rm", "--user=0", "--network=host"),
            f"--volume={self.engine.socket}:{self.engine.socket}",
            f"--env=DOCKER_HOST=unix://{self.engine.socket}",
            *(f"--volume={self.folder}:{self.folder}", f"--volume={script}:/run.py:ro"),
            *(self.image, "python", "/run.py", str(path), str(root)),
            json.dumps(parameters),
            json.dumps({at: str(self.folder / name) for at, name in mounts.items()}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # The guard: KFP alone may call a step that failed a success.
        reports = {file.parent.name for file in root.glob("*/*/executor_output.json")}
        return done.returncode, done.stdout, reports

    def served(self):
        return versions.served(str(self.folder / "serving" / "vae"))


@pytest.mark.containers
def test_kfps_local_runner_pushes(local):
    code, printed, reports = local.run()
    assert code == 0, printed
    assert len(reports) == STEPS
    versions.verify(local.served())


@pytest.mark.containers
def test_kfps_local_runner_meets_the_baseline_and_pushes_no_refused_model(local):
    served = local.served()
    code, printed, reports = local.run(elbo_floor=-1.0, epochs=1)
    assert code == 0, printed
    assert len(reports) == STEPS
    assert f"the baseline is version {served.number}" in printed
    assert "not pushed: the Evaluator did not bless the model" in printed
    assert local.served() == served


@pytest.mark.containers
def test_a_step_that_fails_fails_kfps_local_runner(local):
    served = local.served()
    code, printed, reports = local.run("data.source=/nowhere")
    assert code != 0
    assert "Ingest failed: " in printed
    assert "Task 'ingest' finished with status FAILURE" in plain(printed)
    assert not reports & {"ingest", "statistics-gen"}
    assert local.served() == served


@pytest.mark.containers
def test_the_image_runs_the_pipeline_itself(local):
    """All steps in one container, with its state in a mounted folder: see README."""
    state = local.folder / "state"
    state.mkdir()
    state.chmod(0o777)
    done = local.engine.call(
        *("run", "--rm", *RESTRICTED, f"--volume={state}:/state"),
        *(f"--volume={local.folder / 'bars'}:/bars:ro", local.image),
        *("vae-pipeline", "run", "--preset=smoke", "--dataset=bars", "--source=/bars"),
        *("--set=data.limit=null", "--set=train.epochs=8"),
        *("--root=/state/runs", "--data-dir=/state/data"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "verdict          │ BLESSED" in done.stdout
    versions.verify(versions.served(str(state / "runs" / "serving" / "vae")))


@pytest.mark.containers
def test_a_step_has_no_rights_and_only_scratch_folders(local):
    probe = (
        "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status; "
        f"for folder in / /home/vae /opt/venv {' '.join(SCRATCH)}; do "
        "touch $folder/probe 2>/dev/null && echo writes to $folder; done"
    )
    mounts = (f"--tmpfs=/{name}:mode=1777" for name in ("minio", "s3", "gcs"))
    done = local.engine.call(
        *("run", "--rm", *RESTRICTED, *mounts, local.image, "sh", "-c", probe),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.split("\n")[:-1] == [
        "Uid:" + "\t1000680000" * 4,
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        *(f"writes to {folder}" for folder in SCRATCH),
    ]


@pytest.mark.containers
def test_the_image_lists_what_is_in_it(local):
    done = local.engine.call(
        *("run", "--rm", local.image, "cat", "/usr/share/sbom.cdx.json"),
        stdout=subprocess.PIPE,
        check=True,
    )
    components = json.loads(done.stdout)["components"]
    listed = {f"{found['name']}@{found['version']}" for found in components}
    installed = local.engine.call(
        *("run", "--rm", local.image, "python", "-c"),
        "import importlib.metadata as m;"
        "print(*(f'{d.name}@{d.version}' for d in m.distributions()), sep='\\n')",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    assert len(installed) > 100
    assert set(installed) <= listed
    purls = [found.get("purl", "") for found in components]
    assert any(purl.startswith("pkg:deb/debian/openssl@") for purl in purls)


def plain(text):
    """Returns the text without the colours of a terminal."""
    return re.sub(r"\x1b\[\d+m", "", text)
