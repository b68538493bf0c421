"""The files of KFP's launcher: a step's input artifacts, outputs and report."""

import json
import os
import pathlib

import pytest
from google.protobuf import struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.types import standard_artifacts

from model.files.safe_paths import PathError
from pipeline.kubeflow import launcher_io
from pipeline.kubeflow.contract import ShownAs
from tests.support.launched_steps import (
    EXAMPLES,
    OUTPUTS,
    RUN,
    Recorder,
    last_line,
    make_type,
)


@pytest.mark.parametrize("scheme", ["minio", "s3", "gs"])
def test_remote_artifacts_are_where_the_launcher_keeps_them(
    start, tmp_path, report_file, scheme
):
    examples = {**EXAMPLES, "uri": f"{scheme}://{RUN}/ingest/examples"}
    assert start(examples=[examples], root=f"{scheme}://{RUN}/recorder") == 0
    (given,) = Recorder.inputs["examples"]
    assert given.uri == str(tmp_path / scheme / RUN / "ingest/examples")
    # The launcher uploads this folder to the artifact's URI.
    local = tmp_path / scheme / RUN / "recorder/model"
    assert (local / "weights").read_text() == "0.5"
    (model,) = json.loads(report_file.read_text())["artifacts"]["model"]["artifacts"]
    assert model["uri"] == f"{scheme}://{RUN}/recorder/model"
    assert model["metadata"]["examples"] == f"{scheme}://{RUN}/ingest/examples"


def test_local_artifacts_stay_where_they_are(start, tmp_path, report_file):
    local = str(tmp_path / "local_outputs" / "ingest" / "examples")
    assert (
        start(
            examples=[{**EXAMPLES, "uri": local}], root=str(tmp_path / "local_outputs")
        )
        == 0
    )
    assert Recorder.inputs["examples"][0].uri == local
    (model,) = json.loads(report_file.read_text())["artifacts"]["model"]["artifacts"]
    assert model["uri"] == str(tmp_path / "local_outputs" / "model")
    assert (tmp_path / "local_outputs" / "model" / "weights").exists()


@pytest.mark.parametrize(
    "type_",
    [
        None,
        {},
        {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"},
        {"schemaTitle": "system.Dataset"},
        {"schemaTitle": "Dataset"},
        {"instanceSchema": ""},
        make_type(standard_artifacts.Examples),
    ],
)
def test_types_are_those_that_tfx_compiled(start, type_):
    typed = {**EXAMPLES, "type": type_} if type_ is not None else EXAMPLES
    model = {"uri": f"minio://{RUN}/x", "type": {"schemaTitle": "system.Model"}}
    assert start(examples=[typed], outputs={"model": {"artifacts": [model]}}) == 0
    assert isinstance(Recorder.inputs["examples"][0], standard_artifacts.Examples)
    assert isinstance(Recorder.model, standard_artifacts.Model)


@pytest.mark.parametrize("title", ["system.Artifact", "Artifact", "tfx.File"])
def test_kfps_own_outputs_are_not_the_steps(start, folders, report_file, title):
    # The launcher opens the log before it starts the step.
    log = pathlib.Path(folders["minio"], RUN, "recorder", "executor-logs")
    log.parent.mkdir(parents=True)
    log.write_text("so far\n", encoding="utf-8")
    uri = f"minio://{RUN}/recorder/executor-logs"
    logs = {"artifacts": [{"uri": uri, "type": {"schemaTitle": title}}]}
    assert start(outputs={"executor-logs": logs}) == 0
    assert log.read_text(encoding="utf-8") == "so far\n"
    assert set(json.loads(report_file.read_text())["artifacts"]) == {"model"}


def test_a_channel_may_have_several_artifacts(start, folders):
    several = [
        {**EXAMPLES, "name": str(i), "uri": f"minio://{RUN}/{i}"} for i in (2, 1, 3)
    ]
    assert start(examples=several) == 0
    uris = [artifact.uri for artifact in Recorder.inputs["examples"]]
    assert uris == [os.path.join(folders["minio"], RUN, i) for i in ("2", "1", "3")]
    assert len({artifact.id for artifact in Recorder.inputs["examples"]}) == 3


@pytest.mark.parametrize("name", ["", None])
def test_artifacts_without_a_name_have_ids(start, name):
    nameless = [{**EXAMPLES, "name": name, "uri": f"minio://{RUN}/{i}"} for i in "12"]
    assert start(examples=nameless) == 0
    ids = {artifact.id for artifact in Recorder.inputs["examples"]}
    assert len(ids) == 2
    assert 0 not in ids


def test_metadata_are_read_as_they_were_written(start):
    metadata = {
        "split_names": '["train", "test"]',
        "span": 2.0,
        "images": 1800.0,
        "payload_format": "FORMAT_TF_EXAMPLE",
        "wrapped": {"struct": {"train": 1.0, "of": {"struct": "inner"}}},
        "plain": {"train": 1.0, "struct": 2.0},
        "listed": {"list": ["a", "b"]},
        "missing": None,
        "display_name": "examples",
        "store_session_info": "{}",
    }
    assert start(examples=[{**EXAMPLES, "metadata": metadata}]) == 0
    (given,) = Recorder.inputs["examples"]
    assert given.split_names == '["train", "test"]'
    assert given.span == 2
    assert given.get_int_custom_property("images") == 1800
    assert given.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    wrapped = given.get_json_value_custom_property("wrapped")
    assert wrapped == {"train": 1.0, "of": {"struct": "inner"}}
    plain = given.get_json_value_custom_property("plain")
    assert plain == {"train": 1.0, "struct": 2.0}
    assert given.get_json_value_custom_property("listed") == ["a", "b"]
    assert not given.has_custom_property("missing")


def test_what_is_reported_has_no_nulls(start, report_file):
    assert start() == 0
    (model,) = json.loads(report_file.read_text())["artifacts"]["model"]["artifacts"]
    assert model["metadata"]["images"] == 2000
    assert "nothing" not in model["metadata"]


def test_fields_that_other_versions_know_are_ignored(start):
    newer = {**EXAMPLES, "artifactId": "1b-2c", "customPath": "/x", "isNew": True}
    assert start(examples=[newer], taskId="4", producer={"name": "ingest"}) == 0
    assert Recorder.inputs["examples"][0].id != 0


def test_an_input_that_tfx_did_not_compile_is_ignored(start):
    inputs = {
        "artifacts": {
            "examples": {"artifacts": [EXAMPLES]},
            "workspace": {"artifacts": [{"uri": "nfs://x", "metadata": {}}]},
        },
    }
    assert start(inputs=inputs) == 0
    assert set(Recorder.inputs) == {"examples"}


@pytest.mark.parametrize("uri", ["hdfs://host/x", "oci://image", "examples", ""])
def test_an_unknown_scheme_is_named(start, capsys, uri):
    assert start(examples=[{**EXAMPLES, "uri": uri}]) == 1
    assert last_line(capsys.readouterr().err) == (
        "Recorder failed: an artifact's URI must begin with minio://, s3://, gs:// or "
        f"/, got {uri!r}: choose another pipeline root"
    )


@pytest.mark.parametrize("uri", ["s3:///etc/out", "minio://a/../../etc", "gs://.."])
def test_an_artifact_stays_where_the_launcher_keeps_it(uri):
    scheme = uri.partition("://")[0]
    with pytest.raises(PathError, match="must not lead out of") as error:
        launcher_io.to_local_path(uri)
    assert str(error.value) == (
        f"an artifact's URI must not lead out of {launcher_io.FOLDERS[scheme]}, got "
        f"{uri!r}"
    )


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/minio/bucket/key", "minio://bucket/key"),
        ("/gcs/bucket/key", "gs://bucket/key"),
        ("/s3/bucket", "s3://bucket"),
        ("/s3x/bucket", "/s3x/bucket"),
        ("/s3", "/s3"),
        ("FORMAT_TF_EXAMPLE", "FORMAT_TF_EXAMPLE"),
    ],
)
def test_only_paths_in_the_launchers_folders_become_uris(path, uri):
    assert launcher_io.to_remote_uri(path) == uri


@pytest.mark.parametrize("uri", ["minio://bucket/key", "s3://b/a/b", "gs://b/k"])
def test_a_uri_is_the_remote_uri_of_its_local_path(uri):
    path = launcher_io.to_local_path(uri)
    assert path.startswith("/")
    assert launcher_io.to_remote_uri(path) == uri


def test_what_the_launcher_gave_is_left_as_it_was(tmp_path):
    given = executor_input(f"{tmp_path}/model")
    before = given.SerializeToString(deterministic=True)
    localize(given)
    assert given.SerializeToString(deterministic=True) == before


def test_output_parameters_are_not_for_tfx(tmp_path):
    given = executor_input(f"{tmp_path}/model")
    given.outputs.parameters["fingerprint"].output_file = f"{tmp_path}/fingerprint"
    assert not localize(given).outputs.parameters


def test_the_folders_of_outputs_are_made(tmp_path):
    localize(executor_input(f"{tmp_path}/a/model"))
    assert (tmp_path / "a" / "model").is_dir()
    localize(executor_input(f"{tmp_path}/a/model"))  # as in a second attempt


@pytest.mark.parametrize(("number", "text"), [(3.0, "3"), (2.5, "2.5"), (-0.0, "0")])
def test_a_number_is_an_integer_if_it_is_one(number, text):
    value = struct_pb2.Value(number_value=number)
    assert str(launcher_io.to_number(value)) == text


def shown_report(uri, **metadata):
    """Returns the report of a step with one output, `shown`, and the output."""
    report = pipeline_spec_pb2.ExecutorOutput()
    artifact = report.artifacts["shown"].artifacts.add(uri=uri)
    artifact.metadata.update(metadata)
    return report, artifact


def test_the_page_is_where_the_folder_was(folders):
    folder = pathlib.Path(folders["minio"], "bucket", "page")
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>", encoding="utf-8")
    report, artifact = shown_report("minio://bucket/page", name="page")
    shown = {"shown": ShownAs.PAGE}
    launcher_io.prepare_shown_outputs(report, shown, folders=folders)
    assert folder.read_text(encoding="utf-8") == "<p>"
    assert list(folder.parent.iterdir()) == [folder]
    assert dict(artifact.metadata) == {"name": "page"}


def test_the_metrics_are_numbers_alone(folders):
    report, artifact = shown_report("minio://b/m", elbo=-91.5, name="x", ok=True)
    shown = {"shown": ShownAs.METRICS}
    launcher_io.prepare_shown_outputs(report, shown, folders=folders)
    assert dict(artifact.metadata) == {"elbo": -91.5}


def test_outputs_that_are_not_shown_stay_as_they_are(folders):
    report, artifact = shown_report("minio://b/m", name="x")
    launcher_io.prepare_shown_outputs(report, {}, folders=folders)
    assert dict(artifact.metadata) == {"name": "x"}


def executor_input(uri):
    """Returns the ExecutorInput of a step with one output, `model`."""
    given = pipeline_spec_pb2.ExecutorInput()
    given.outputs.artifacts["model"].artifacts.add(uri=uri)
    return given


def localize(given):
    return launcher_io.localize_executor_input(
        given,
        inputs=pipeline_spec_pb2.ComponentInputsSpec(),
        outputs=launcher_io.parse_message(
            pipeline_spec_pb2.ComponentOutputsSpec, json.dumps(OUTPUTS)
        ),
    )
