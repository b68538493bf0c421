"""The steps of small real pipelines under TFX, with metadata and files on disk."""

import pathlib

import pytest
from ml_metadata.proto.metadata_store_pb2 import Execution
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components import data_gate, elbo_drift
from pipeline.console import Console
from pipeline.local import metadata_database, steps
from pipeline.local.root import Root
from pipeline.runs.recorder import RunRecorder
from tests.support import disks
from tests.support.records import make_record


@component
def Write(
    examples: OutputArtifact[standard_artifacts.Examples], content: Parameter[str]
) -> None:
    """Writes the content to a file."""
    pathlib.Path(examples.uri, "data").write_text(content, encoding="utf-8")


@component
def Copy(
    source: InputArtifact[standard_artifacts.Examples],
    copy: OutputArtifact[standard_artifacts.Examples],
    failure: Parameter[str],
) -> None:
    """Copies the file, or raises the error that `failure` names."""
    if failure == "anomaly":
        raise data_gate.DataAnomalyError("no labels")
    if failure == "drift":
        raise data_gate.DriftError("other images")
    if failure == "fall":
        raise elbo_drift.ElboDriftError("a lower ELBO")
    if failure:
        raise ValueError(failure)
    content = pathlib.Path(source.uri, "data").read_bytes()
    pathlib.Path(copy.uri, "data").write_bytes(content)


class Runner:
    """A runner of a pipeline with two steps, which have names of the graph's steps."""

    def __init__(self, folder):
        self.folder, self.root = folder, Root(folder / "runs")
        self.root.path.mkdir()
        self.runs, self.recorder = 0, None

    def run(self, *, content="data", failure="", uncached=()):
        self.runs += 1
        write = Write(content=content).with_id("ImportSchemaGen")
        copy = Copy(source=write.outputs["examples"], failure=failure)
        copy = copy.with_id("Transform")
        pipeline = tfx.dsl.Pipeline(
            pipeline_name="small",
            pipeline_root=str(self.root.artifacts),
            components=[write, copy],
            enable_cache=True,
        )
        self.recorder = RunRecorder(self.root.path, make_record(f"run-{self.runs}"))
        for name in steps.STEPS_BEFORE_GRAPH:
            self.recorder.record_step_completed(name, 1.0)
        console = Console(str(self.folder / "log"))
        try:
            return steps.run_until_cache_is_intact(
                pipeline,
                self.root,
                recorder=self.recorder,
                console=console,
                uncached=uncached,
                disks=[str(self.folder)],
            )
        finally:
            console.close()

    def cached(self, **options):
        """Runs the pipeline; returns for each step whether it came from the cache."""
        return [step.cached for step in self.run(**options)]

    def names(self):
        return [step.name for step in self.recorder.record.steps]


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def test_the_steps_run_in_order_with_their_outputs(runner):
    first, second = runner.run()
    assert (first.name, second.name) == ("ImportSchemaGen", "Transform")
    assert (first.cached, second.cached) == (False, False)
    assert pathlib.Path(second.outputs["copy"].uri, "data").read_bytes() == b"data"
    assert runner.names() == ["Imports", "Data", "ImportSchemaGen", "Transform"]
    assert runner.recorder.record.step is None
    recorded = runner.recorder.record.steps[2]
    assert recorded.seconds == pytest.approx(first.seconds, abs=1e-3)
    assert not recorded.cached


def test_what_a_step_made_has_checksums(runner):
    runner.run()
    store = metadata_database.open_store(runner.root.metadata, is_read_only=True)
    found = [artifact.custom_properties["seal"] for artifact in store.get_artifacts()]
    assert len(found) == 2
    assert all('"data": [4, ' in checksums.string_value for checksums in found)


def test_the_same_again_comes_from_the_cache(runner):
    runner.run()
    assert runner.cached() == [True, True]
    assert [step.cached for step in runner.recorder.record.steps[2:]] == [True, True]
    assert runner.cached(content="other") == [False, False]


def test_a_step_that_must_run_does_not_come_from_the_cache(runner):
    runner.run()
    assert runner.cached(uncached=["Transform"]) == [True, False]


def test_a_damaged_step_and_those_after_it_run_again(runner, capfd):
    first, _ = runner.run()
    file = pathlib.Path(first.outputs["examples"].uri, "data")
    file.write_bytes(b"dat")
    assert runner.cached() == [False, False]
    assert (
        f"its examples can't be used: {file} has 3 bytes, not 4; it runs again"
        in capfd.readouterr().out
    )
    # Each step counts once: steps of the turn that was given up do not count.
    assert runner.names() == ["Imports", "Data", "ImportSchemaGen", "Transform"]
    assert runner.cached() == [True, True]


def test_a_damaged_last_step_runs_again_alone(runner):
    _, second = runner.run()
    pathlib.Path(second.outputs["copy"].uri, "data").unlink()
    assert runner.cached() == [True, False]
    assert runner.names() == ["Imports", "Data", "ImportSchemaGen", "Transform"]


def test_a_failure_is_named_with_its_step(runner, capfd):
    with pytest.raises(
        steps.RunError, match="^Transform failed: ValueError: no labels$"
    ) as error:
        runner.run(failure="no labels")
    assert not isinstance(error.value, steps.BadDataError)
    assert runner.recorder.record.step == "Transform"
    assert runner.names()[-1] == "ImportSchemaGen"
    assert " failed" in capfd.readouterr().out
    # The step before the failed one comes from the cache.
    assert runner.cached() == [True, False]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [("anomaly", "no labels"), ("drift", "other images"), ("fall", "a lower ELBO")],
)
def test_data_that_stop_the_run_are_bad_data(runner, failure, reason):
    with pytest.raises(steps.BadDataError, match=f"^Transform failed: {reason}$"):
        runner.run(failure=failure)


def test_a_step_without_its_inputs_is_named(runner, monkeypatch):
    monkeypatch.setattr(
        steps, "_launch", lambda node, ir, connection: (Execution.FAILED, {})
    )
    with pytest.raises(steps.RunError) as error:
        runner.run()
    assert str(error.value) == ("ImportSchemaGen failed: its inputs could not be found")


def test_a_full_disk_is_named_with_its_space(tmp_path):
    with disks.small(tmp_path / "disk", megabytes=3) as disk:
        disks.fill(disk)
        try:
            (disk / "more").write_bytes(b"more")
        except OSError as error:
            full = error
        text = steps.describe_failure(
            full, [str(tmp_path), str(disk), "s3://bucket/vae"]
        )
    assert text == (
        f"No space left on device: {disk} (0 MB free of 3 MB); free some space, "
        "then run the same command to continue"
    )


def test_another_failure_is_described_by_its_own_message():
    assert steps.describe_failure(steps.RunError("no labels"), []) == "no labels"
    bug = ValueError("could not broadcast")
    assert steps.describe_failure(bug, []) == "ValueError: could not broadcast"
