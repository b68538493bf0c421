"""A local run: errors before its first step, and its baseline."""

import errno
import json
import os

import pytest

from components.registry import listing
from components.registry.manifest import Manifest
from model.errors import PipelineError
from pipeline.config import loading
from pipeline.config.loading import PipelineConfig
from pipeline.config.sections import PushConfig
from pipeline.console import Console
from pipeline.local import runner
from pipeline.runs.recorder import RunRecorder
from tests.support.places import write_model
from tests.support.pushes import push_next
from tests.support.records import make_record
from tests.support.s3 import SECRET


def why_it_fails(config, folder):
    """Returns the error message of a run that fails before its first step."""
    console = Console(str(folder / "log"))
    try:
        with pytest.raises(PipelineError) as error:
            runner.run(
                config,
                runner.Root(folder / "runs"),
                data_dir=str(folder / "data"),
                recorder=RunRecorder(folder / "runs", make_record()),
                console=console,
            )
    finally:
        console.close()
    return str(error.value)


def test_a_destination_that_cannot_be_read_is_known_before_the_work(s3, tmp_path):
    config = PipelineConfig(push=PushConfig(destination="s3://no-such-bucket/serving"))
    text = why_it_fails(config, tmp_path)
    assert text.startswith("can't use s3://no-such-bucket/serving/vae (")
    assert "The specified bucket does not exist): the bucket must exist" in text
    assert SECRET not in text
    assert not (tmp_path / "data").exists()


def test_a_cluster_of_workers_needs_steps_in_separate_processes(tmp_path, monkeypatch):
    workers = {"cluster": {"worker": ["one:1", "two:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    config = PipelineConfig()
    assert why_it_fails(config, tmp_path) == (
        "TF_CONFIG names a cluster of 2 workers, but TensorFlow can join a cluster "
        "only before any other use of it, and here Transform uses it before the "
        "Trainer: unset TF_CONFIG, or train on Kubeflow, where each step is a separate "
        "process"
    )


def served(run_key, baseline=None):
    manifest = {"run_key": run_key, "digest": "d12", "baseline": baseline}
    return listing.Version(
        number=12, path="/serving/vae/12", manifest=Manifest.from_content(manifest)
    )


def test_the_baseline_is_the_version_that_is_served():
    text = runner._baseline_fingerprint(served("other"), [], is_repeated=False)
    assert text == "12 d12"


def test_a_model_is_not_its_own_baseline():
    version = served("now", baseline={"version": 11, "digest": "d11"})
    assert runner._baseline_fingerprint(version, [], is_repeated=True) == "11 d11"
    first = served("now")
    assert runner._baseline_fingerprint(first, [], is_repeated=True) == "none"


def test_without_an_intact_version_the_baseline_is_none():
    damaged = [
        listing.DamagedVersion(
            number=12, path="/serving/vae/12", why="saved_model.pb is missing"
        )
    ]
    assert runner._baseline_fingerprint(None, [], is_repeated=False) == "none"
    text = runner._baseline_fingerprint(None, damaged, is_repeated=False)
    assert text == "none: 12 is damaged"


def test_complete_versions_are_counted(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
    for number in (1, 3):
        (tmp_path / str(number) / "MANIFEST.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    assert runner._count_versions(str(tmp_path)) == 2
    assert runner._count_versions(str(tmp_path / "absent")) == 0


def test_versions_that_cannot_be_read_are_not_counted(s3):
    assert runner._count_versions("s3://no-such-bucket/serving") is None


def test_a_version_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """A failing disk reports such an error."""

    def fail(destination, verifier):
        raise OSError(errno.EIO, os.strerror(errno.EIO), f"{destination}/12")

    monkeypatch.setattr(listing, "find_served_and_damaged", fail)
    with pytest.raises(runner.RunError) as error:
        runner._find_served_version(str(tmp_path), None)
    assert str(error.value) == f"can't read {tmp_path}/12 (Input/output error)"


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


MANIFEST = {
    "run_key": "now",
    "elbo": {"elbo": -90.0, "reconstruction": -70.0, "kl": 20.0, "images": 500},
    "config": loading.decisive(PipelineConfig()),
}


@pytest.mark.parametrize(
    ("step", "run_key", "expected"),
    [
        ("Pusher", "now", "pushed"),
        ("Pusher", "other", "running"),
        ("Report", "now", "running"),
    ],
)
def test_a_push_that_its_step_could_not_report_is_recorded(
    tmp_path, model, step, run_key, expected
):
    destination = str(tmp_path / "serving")
    record = make_record(run_key=run_key, step=step)
    recorder = RunRecorder(tmp_path / "runs", record)
    with (
        pytest.raises(KeyboardInterrupt),
        runner._record_unreported_push(
            destination, recorder, before=None, verifier=None
        ),
    ):
        version = push_next(
            model, destination=destination, manifest=Manifest.from_content(MANIFEST)
        )
        raise KeyboardInterrupt
    assert recorder.record.status == expected
    if expected == "pushed":
        assert recorder.record.version == version.number
        assert recorder.record.elbo == -90.0


def test_a_version_that_was_already_served_is_not_a_push_of_this_run(tmp_path, model):
    destination = str(tmp_path / "serving")
    before = push_next(
        model, destination=destination, manifest=Manifest.from_content(MANIFEST)
    )
    record = make_record(run_key="now", step="Pusher")
    recorder = RunRecorder(tmp_path / "runs", record)
    with (
        pytest.raises(KeyboardInterrupt),
        runner._record_unreported_push(
            destination, recorder, before=before, verifier=None
        ),
    ):
        raise KeyboardInterrupt
    assert recorder.record.version is None
