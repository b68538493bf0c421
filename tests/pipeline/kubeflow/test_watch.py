"""The progress of a run on the cluster, its end and its gate decision."""

import datetime
import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
import s3fs
import yaml
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from components.evaluation.gate_result import GateResult
from pipeline.cli import main
from pipeline.kubeflow import submission, watch
from pipeline.kubeflow.client import ClusterError
from tests.kubeflow.api_server import Fault

pytest_plugins = ["tests.kubeflow.fixtures"]

STEPS = ["ingest", "trainer", "evaluator", "pusher"]
PACKAGE = {
    "pipelineInfo": {"name": "vae"},
    "root": {"dag": {"tasks": {name: {} for name in STEPS}}},
}
BLESSED = {
    "refusals": [],
    "elbo": -95.25,
    "baseline_elbo": -96.0,
    "estimate": "the evidence lower bound, 2 samples of z per image",
    "pushed": "s3://models/serving/vae/7",
}
REFUSED = {
    **BLESSED,
    "refusals": ["ELBO -95.25 must be at least the floor", "InfraCheck: no answer"],
    "pushed": None,
}


def as_result(verdict):
    return GateResult(**{**verdict, "refusals": tuple(verdict["refusals"])})


KUBERNETES = {"platforms": {"kubernetes": {}}}


def started(connection, folder, root="", documents=(PACKAGE,)):
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    version = submission.upload_pipeline(connection, path)
    return submission.start_run(
        connection,
        submission.RunRequest(
            version=version, experiment="vae", parameters={}, pipeline_root=root
        ),
    )


@pytest.fixture
def run_id(connection, tmp_path):
    return started(connection, tmp_path)


def leave(store, run_id, verdict, where="v2/artifacts", attempt=""):
    folder = f"{where}/vae/{run_id}/pusher/{attempt}pushed_model"
    for name, body in [("VERDICT.json", verdict), ("OTHER.json", {"refusals": []})]:
        body = json.dumps(body).encode()
        store.put_object(Bucket="mlpipeline", Key=f"{folder}/{name}", Body=body)


def ended(kfp, connection, run_id):
    kfp.finish(run_id)
    return watch.watch_run(connection, run_id, show=lambda line: None)


def wait(kfp, tmp_path, run_id, *args):
    root = ("--root", str(tmp_path / "runs"))
    return main.main(["submit", "--host", kfp.url, *root, "--run", run_id, *args])


def test_each_step_is_shown_when_it_starts_and_when_it_ends(kfp, connection, run_id):
    lines, looks = [], []

    def show(line):
        lines.append(" ".join(line.split()))

    def run_the_steps():
        kfp.task(run_id, "root-driver", "SUCCEEDED", (0, 1))
        kfp.task(run_id, "ingest", "RUNNING")
        kfp.task(run_id, "trainer", "PENDING")
        yield ["ingest running"]
        yield []
        kfp.task(run_id, "ingest", "SUCCEEDED", (0, 12.5))
        kfp.task(run_id, "trainer", "RUNNING", (13, None))
        yield ["ingest 12.5 s succeeded", "trainer running"]
        kfp.task(run_id, "trainer", "SUCCEEDED", (13, 90))
        kfp.task(run_id, "evaluator", "SKIPPED", (14, 0))
        yield ["trainer 90.0 s succeeded", "evaluator 0.0 s skipped"]
        kfp.finish(run_id)
        yield []

    steps = run_the_steps()
    expected = list(next(steps))

    def advance(seconds):
        nonlocal expected
        assert lines == expected
        looks.append(seconds)
        expected = expected + next(steps)

    clock = watch.Clock(sleep=advance)
    run, spec = watch.watch_run(connection, run_id, show=show, poll=7, clock=clock)
    assert run.state == "SUCCEEDED"
    assert list(spec["root"]["dag"]["tasks"]) == sorted(STEPS)
    assert set(looks) == {7}
    assert lines[-1] == "evaluator 0.0 s skipped"


def test_a_server_that_is_unavailable_for_minutes_does_not_end_the_watch(
    kfp, connection, run_id
):
    kfp.task(run_id, "ingest", "RUNNING")
    away = Fault(503, times=9, path="runs/")  # more than the attempts of one request

    times = iter(range(0, 600, 100))  # the server is unavailable for less than 300 s

    def sleep(seconds):
        if kfp.faults:
            kfp.finish(run_id)  # the run ends while the server does not answer
        else:
            kfp.faults = [away]

    clock = watch.Clock(monotonic=lambda: float(next(times)), sleep=sleep)
    run, _ = watch.watch_run(connection, run_id, show=lambda line: None, clock=clock)
    assert run.state == "SUCCEEDED"
    assert away.times == 0


@pytest.mark.parametrize(
    ("status", "seconds"), [(401, [7]), (500, [7] * 43)], ids=["refuses", "is away"]
)
def test_a_server_that_refuses_or_stays_unavailable_ends_the_watch(
    kfp, connection, run_id, status, seconds
):
    def end(line):
        kfp.faults = [Fault(status, path="runs/")]

    waits = []
    clock = watch.Clock(monotonic=lambda: float(sum(waits)), sleep=waits.append)
    kfp.task(run_id, "ingest", "RUNNING")
    with pytest.raises(ClusterError, match=f"answered with {status}"):
        watch.watch_run(connection, run_id, show=end, poll=7, clock=clock)
    assert waits == seconds  # 43 * 7 is the first multiple above 300


def test_a_missing_run_is_named(connection):
    with pytest.raises(
        ClusterError, match=r"runs/none was answered with 404 \(none no"
    ):
        watch.watch_run(connection, "none", show=lambda line: None)


def test_a_failure_names_the_step_and_what_the_api_tells(kfp, connection, run_id):
    kfp.task(run_id, "ingest", "FAILED", (0, 3), error="OOMKilled\n")
    kfp.task(run_id, "root-driver", "FAILED", (0, 3), error="a child failed")
    kfp.task(run_id, "trainer", "FAILED", (4, 5))
    kfp.finish(run_id, "FAILED", error="the run failed")
    run, spec = watch.watch_run(connection, run_id, show=lambda line: None)
    assert watch.describe_failure(run, spec) == (
        "ingest failed: OOMKilled; trainer failed: KFP's API gives no reason"
    )


def test_a_run_without_a_failed_step_has_its_own_error(kfp, connection, run_id):
    kfp.finish(run_id, "CANCELED", error="by ada")
    run, spec = watch.watch_run(connection, run_id, show=lambda line: None)
    expected = "the run is CANCELED, and no step of it failed: by ada"
    assert watch.describe_failure(run, spec) == expected


@pytest.mark.parametrize("attempt", ["", "3b0c/"], ids=["older KFP", "newer KFP"])
def test_a_gate_result_is_read_from_the_default_root(
    kfp, connection, run_id, store, attempt
):
    leave(store, run_id, BLESSED, attempt=attempt)
    assert watch.read_gate_result(*ended(kfp, connection, run_id)) == as_result(BLESSED)


@pytest.mark.parametrize("scheme", ["minio", "s3"])
@pytest.mark.parametrize("documents", [[PACKAGE], [PACKAGE, KUBERNETES]])
def test_a_gate_result_is_read_from_the_runs_root(
    kfp, connection, store, tmp_path, scheme, documents
):
    run_id = started(connection, tmp_path, f"{scheme}://mlpipeline/my/root/", documents)
    leave(store, run_id, REFUSED, where="my/root")
    assert watch.read_gate_result(*ended(kfp, connection, run_id)) == as_result(REFUSED)


def test_the_root_that_was_compiled_is_looked_into(kfp, connection, store, tmp_path):
    compiled = {**PACKAGE, "defaultPipelineRoot": "s3://mlpipeline/compiled"}
    run_id = started(connection, tmp_path, documents=[compiled])
    leave(store, run_id, BLESSED, where="compiled")
    assert watch.read_gate_result(*ended(kfp, connection, run_id)) == as_result(BLESSED)


def test_the_last_attempt_counts(kfp, connection, run_id, store):
    leave(store, run_id, BLESSED, attempt="z/")
    # The first result becomes 2 s older, as S3 has times in whole seconds.
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets["mlpipeline"]
    for key in bucket.keys.values():
        key.last_modified -= datetime.timedelta(seconds=2)
    leave(store, run_id, REFUSED, attempt="a/")
    assert watch.read_gate_result(*ended(kfp, connection, run_id)) == as_result(REFUSED)


def test_a_missing_gate_result_is_not_a_blessing(kfp, connection, run_id, store):
    leave(store, "another-run", BLESSED)
    ended_run = ended(kfp, connection, run_id)
    with pytest.raises(watch.UnreadableGateResultError) as caught:
        watch.read_gate_result(*ended_run)
    where = f"minio://mlpipeline/v2/artifacts/vae/{run_id}/pusher"
    assert where in str(caught.value)
    assert "there is no VERDICT.json" in str(caught.value)
    assert "kubeflow.pipeline_root" in str(caught.value)


def test_an_unreadable_store_is_not_a_blessing(
    kfp, connection, run_id, store, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    ended_run = ended(kfp, connection, run_id)
    with pytest.raises(
        watch.UnreadableGateResultError, match="can't be read below minio://"
    ) as c:
        watch.read_gate_result(*ended_run)
    assert "127.0.0.1:1" in str(c.value)
    assert "the-secret-key" not in str(c.value)


def test_the_exit_code_of_a_blessed_run_is_0(
    kfp, connection, run_id, store, tmp_path, capfd
):
    leave(store, run_id, BLESSED)
    kfp.task(run_id, "ingest", "SUCCEEDED", (0, 3))
    kfp.finish(run_id)
    assert wait(kfp, tmp_path, run_id) == 0
    out = capfd.readouterr().out
    assert "ingest" in out
    table = " ".join(out.split())
    assert "-95.25 nats per image (higher is better)" in table
    assert "the evidence lower bound, 2 samples of z per image" in table
    assert "-96.00; difference +0.75" in table
    assert "│ verdict │ BLESSED │" in table
    assert "│ pushed │ s3://models/serving/vae/7 │" in table


def test_the_exit_code_of_a_refused_run_is_3(
    kfp, connection, run_id, store, tmp_path, capfd
):
    leave(store, run_id, {**REFUSED, "baseline_elbo": None})
    kfp.finish(run_id)
    assert wait(kfp, tmp_path, run_id) == 3
    table = " ".join(capfd.readouterr().out.split())
    reasons = "ELBO -95.25 must be at least the floor; InfraCheck: no answer"
    assert f"│ verdict │ REFUSED: {reasons} │" in table
    assert "none: nothing was served" in table
    assert "│ pushed │ nothing │" in table


def test_the_exit_code_of_a_failed_run_is_1(kfp, run_id, tmp_path, capfd):
    kfp.task(run_id, "trainer", "FAILED", (0, 3), error="no GPU")
    kfp.finish(run_id, "FAILED")
    assert wait(kfp, tmp_path, run_id) == 1
    out = capfd.readouterr().out
    assert "trainer failed: no GPU" in out
    assert f"{kfp.url}/#/runs/details/{run_id}" in out
    assert f"kubectl logs -n kubeflow -l pipeline/runid={run_id} -c main" in out


def test_the_exit_code_without_a_gate_result_is_1(kfp, run_id, store, tmp_path, capfd):
    kfp.finish(run_id)
    assert wait(kfp, tmp_path, run_id) == 1
    assert "the run succeeded, but its gate result can't" in capfd.readouterr().out


def test_a_lost_server_ends_with_the_command_to_watch_the_run(
    kfp, run_id, tmp_path, capfd
):
    kfp.faults = [Fault(403, path="runs/")]
    assert wait(kfp, tmp_path, run_id, "--namespace", "ada") == 1
    out = capfd.readouterr().out
    _, found, after = out.partition("The run may continue. To wait for it again: ")
    assert found
    _, *words = shlex.split(after.splitlines()[0])
    assert words == [
        *("submit", "--host", kfp.url, "--namespace", "ada"),
        *("--root", str(tmp_path / "runs"), "--run", run_id),
    ]


def test_an_interrupt_leaves_the_run_and_prints_the_command_to_watch_it(
    kfp, run_id, tmp_path
):
    kfp.task(run_id, "trainer", "RUNNING")
    args = ["submit", "--host", kfp.url, "--run", run_id, "--root", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *args],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout.readline().split() == ["trainer", "running"]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"the run continues: {kfp.url}/#/runs/details/{run_id}" in out
    assert f"--run {run_id}" in out
    assert kfp.runs[run_id].state == "PENDING"
