"""The upload of a pipeline and the start of its runs."""

import dataclasses
import pathlib

import pytest
import yaml

from pipeline.cli import main
from pipeline.kubeflow import contract, submission
from pipeline.kubeflow.client import ClusterError
from tests.kubeflow.api_server import Fault

pytest_plugins = ["tests.kubeflow.fixtures"]

PACKAGE = {
    "pipelineInfo": {"name": "vae"},
    "root": {"dag": {"tasks": {"trainer": {}, "evaluator": {}}}},
}
PARAMETERS = {"epochs": 3, "learning_rate": 0.002}
FLAGS = ("--image", "registry/vae:1", "--set", "push.destination=s3://b/serving")


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(PACKAGE))
    return path


def call(kfp, tmp_path, *args, flags=FLAGS):
    root = ("--root", str(tmp_path / "runs"))
    return main.main(["submit", "--host", kfp.url, *root, *flags, *args])


def test_the_first_upload_makes_the_pipeline_and_a_version(kfp, connection, package):
    version = submission.upload_pipeline(connection, package)
    assert version.is_new
    assert kfp.packages[version.version_id] == package.read_bytes()
    (pipeline,) = kfp.pipelines.values()
    assert (pipeline.display_name, pipeline.pipeline_id) == ("vae", version.pipeline_id)
    # The expected hash is by sha256sum.
    assert version.name == "vae-d246cce450fed978"
    assert list(kfp.versions) == [version.version_id]


def test_the_same_bytes_are_uploaded_once(kfp, connection, package):
    first = submission.upload_pipeline(connection, package)
    again = submission.upload_pipeline(connection, package)
    assert not again.is_new
    assert again.version_id == first.version_id
    package.write_text(package.read_text() + "# another\n")
    other = submission.upload_pipeline(connection, package)
    assert other.is_new
    assert (other.pipeline_id, len(kfp.versions)) == (first.pipeline_id, 2)


@pytest.mark.parametrize("status", [409, 500], ids=["newer KFP", "older KFP"])
def test_a_version_that_another_process_has_just_uploaded_is_used(
    kfp, connection, package, status
):
    # The server creates the version but answers that it exists already, as it does to
    # the second of two clients.
    kfp.faults = [
        Fault(status, method="POST", path="upload_version", times=1, after=True)
    ]
    version = submission.upload_pipeline(connection, package)
    assert not version.is_new
    assert list(kfp.versions) == [version.version_id]


def test_a_pipeline_and_an_experiment_of_another_are_used(kfp, connection, package):
    kfp.faults = [
        Fault(409, method="POST", path="pipelines$", times=1, after=True),
        Fault(409, method="POST", path="experiments$", times=1, after=True),
    ]
    version = submission.upload_pipeline(connection, package)
    assert list(kfp.pipelines) == [version.pipeline_id]
    assert submission.find_or_create_experiment(connection, "e") in kfp.experiments


@pytest.mark.parametrize("status", [401, 409, 500])
def test_a_failed_upload_is_named(kfp, connection, package, status):
    kfp.faults = [Fault(status, method="POST", path="upload_version")]
    with pytest.raises(
        ClusterError, match=f"upload_version was answered with {status}"
    ):
        submission.upload_pipeline(connection, package)
    kfp.faults = []
    assert submission.upload_pipeline(connection, package).is_new


def test_a_run_gets_its_parameters_and_its_root(kfp, connection, package):
    version = submission.upload_pipeline(connection, package)
    request = submission.RunRequest(
        version=version,
        experiment="nightly",
        parameters=PARAMETERS,
        pipeline_root="s3://b/root",
    )
    run_id = submission.start_run(connection, request)
    run = kfp.runs[run_id]
    assert run.runtime_config.parameters == PARAMETERS
    assert run.runtime_config.pipeline_root == "s3://b/root"
    assert run.pipeline_version_reference.pipeline_version_id == version.version_id
    assert kfp.experiments[run.experiment_id].display_name == "nightly"
    assert run.display_name.startswith("vae 20")
    again = submission.start_run(
        connection, dataclasses.replace(request, pipeline_root="")
    )
    assert kfp.runs[again].experiment_id == run.experiment_id
    assert kfp.runs[again].runtime_config.pipeline_root is None


def test_submit_uploads_once_and_gives_each_run_its_own_values(kfp, tmp_path, capfd):
    assert call(kfp, tmp_path, "--preset", "demo") == 0
    out = capfd.readouterr().out
    (run,) = kfp.runs.values()
    assert f"{kfp.url}/#/runs/details/{run.run_id}" in out
    assert "is uploaded" in out
    assert run.runtime_config.parameters == {
        "epochs": 10,
        "batch_size": 256,
        "learning_rate": 0.002,
        "seed": 0,
        "elbo_floor": "-115.0",
        "tolerance": 0.5,
    }
    chosen = [f"--set={each.setting}=1" for each in contract.RUN_PARAMETERS]
    assert call(kfp, tmp_path, "--preset", "demo", *chosen) == 0
    assert "was there already" in capfd.readouterr().out
    assert len(kfp.versions) == 1
    parameters = list(kfp.runs.values())[1].runtime_config.parameters
    assert parameters == {
        each.name: "1.0" if each.is_text else 1 for each in contract.RUN_PARAMETERS
    }

    root = ("--set", "kubeflow.pipeline_root=s3://b/root")
    changed = ("--preset", "demo", "--set=model.latent_size=8")
    assert call(kfp, tmp_path, *root, *changed) == 0
    assert len(kfp.versions) == 2
    last = list(kfp.runs.values())[2]
    assert last.runtime_config.pipeline_root == "s3://b/root"
    assert kfp.experiments[last.experiment_id].display_name == "vae"


def test_submit_ends_with_1_if_the_cluster_refuses(kfp, tmp_path, capfd):
    kfp.faults = [Fault(401)]
    assert call(kfp, tmp_path) == 1
    out = capfd.readouterr().out
    assert "was answered with 401" in out
    assert "the whole log: " in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--image must name the image of every step"),
        ((*FLAGS, "--set", "train.epochs=0"), "train.epochs must be at least 1, got 0"),
        ((*FLAGS, "--host", "kfp"), "--host must be a URL such as"),
    ],
)
def test_bad_input_ends_with_2_and_sends_nothing(kfp, tmp_path, capfd, flags, message):
    root = ("--root", str(tmp_path / "runs"))
    assert main.main(["submit", "--host", kfp.url, *root, *flags]) == 2
    assert message in capfd.readouterr().err
    assert kfp.requests == []


def test_nothing_of_a_submission_is_left_in_the_file_system(kfp, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert call(kfp, tmp_path) == 0
    assert list(pathlib.Path(tmp_path, "temporary").iterdir()) == []
