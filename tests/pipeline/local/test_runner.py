"""Where a local run keeps its state, and pushes to."""

import json
import pathlib

import pytest

from pipeline.config.loading import PipelineConfig
from pipeline.config.sections import PushConfig
from pipeline.console import Screen
from pipeline.local import runner
from pipeline.runs import run_record
from tests.support import disks
from tests.support.s3 import SECRET


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("", "/runs/serving/vae"),
        ("/elsewhere", "/elsewhere/vae"),
        ("/elsewhere/", "/elsewhere/vae"),
        ("elsewhere", "{here}/elsewhere/vae"),
        ("file:///elsewhere", "/elsewhere/vae"),
        ("s3://bucket", "s3://bucket/vae"),
        ("s3://bucket/serving/", "s3://bucket/serving/vae"),
        ("minio://bucket/serving", "minio://bucket/serving/vae"),
    ],
)
def test_the_folder_of_versions(destination, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = PipelineConfig(push=PushConfig(destination=destination))
    root = runner.Root(pathlib.Path("/runs"))
    assert root.destination(config) == expected.format(here=tmp_path)


def why_it_fails(config, folder):
    """Returns the message of a run that fails before its first step."""
    screen = Screen(str(folder / "log"))
    try:
        with pytest.raises(runner.RunError) as error:
            runner.run(
                config,
                runner.Root(folder / "runs"),
                str(folder / "data"),
                run_record.begun(config, "a-run"),
                screen,
            )
    finally:
        screen.close()
    return str(error.value)


def test_a_destination_that_cannot_be_read_is_known_before_the_work(s3, tmp_path):
    config = PipelineConfig(push=PushConfig(destination="s3://no-such-bucket/serving"))
    text = why_it_fails(config, tmp_path)
    assert text.startswith("can't use s3://no-such-bucket/serving/vae (")
    assert "The specified bucket does not exist): the bucket must exist" in text
    assert SECRET not in text
    assert not (tmp_path / "data").exists()


def test_a_cluster_of_workers_is_for_steps_in_processes_of_their_own(
    tmp_path, monkeypatch
):
    workers = {"cluster": {"worker": ["one:1", "two:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    config = PipelineConfig()
    assert why_it_fails(config, tmp_path) == (
        "TF_CONFIG names a cluster of 2 workers, and TensorFlow joins one only as the "
        "first thing that it does, where here Transform uses it before: unset "
        "TF_CONFIG, or train on the cluster, where each step is a process of its own"
    )


def test_a_full_disk_is_named_with_its_space(tmp_path):
    with disks.small(tmp_path / "disk", megabytes=3) as disk:
        disks.fill(disk)
        try:
            (disk / "more").write_bytes(b"more")
        except OSError as error:
            full = error
        text = runner._reason(full, [str(tmp_path), str(disk), "s3://bucket/vae"])
    assert text == (
        f"No space left on device: {disk} (0 MB free of 3 MB); free some space, and "
        "the same command goes on"
    )


def test_another_failure_is_told_as_it_is():
    assert runner._reason(ValueError("no labels"), []) == "no labels"
