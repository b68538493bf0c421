import dataclasses
import json
import logging
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.dsl.components.base import base_executor
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types import standard_artifacts

from components import ingest, served_model
from components.evaluation import estimate
from components.registry import publish
from components.registry.manifest import Manifest
from pipeline.config.loading import resolve
from pipeline.kubeflow import compiler, entrypoint

RUN = "bucket/v2/artifacts/vae/run"


class Recorder(base_executor.BaseExecutor):
    """A step that keeps what TFX gave it, and has something to report."""

    def Do(self, input_dict, output_dict, exec_properties):
        Recorder.inputs, Recorder.properties = input_dict, exec_properties
        (Recorder.model,) = output_dict["model"]
        pathlib.Path(Recorder.model.uri, "weights").write_text("0.5", encoding="utf-8")
        Recorder.model.set_int_custom_property("images", 2000)
        Recorder.model.set_json_value_custom_property("nothing", None)
        for examples in input_dict.get("examples", []):
            Recorder.model.set_string_custom_property("examples", examples.uri)


class Reporter(base_executor.BaseExecutor):
    """Stands for Report: the page and the numbers, and no model to measure."""

    def Do(self, input_dict, output_dict, exec_properties):
        Reporter.properties = exec_properties
        (page,), (metrics,) = output_dict["page"], output_dict["metrics"]
        pathlib.Path(page.uri, "report.html").write_text(
            "<p>blessed</p>", encoding="utf-8"
        )
        metrics.set_float_custom_property("elbo", -91.5)


class Failing(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        try:
            raise OSError("the disk is full\nand more of it")
        except OSError as error:
            raise RuntimeError("something failed") from error


def schema(artifact_class):
    text = compiler_utils.get_artifact_schema(artifact_class)
    return {"instanceSchema": text if isinstance(text, str) else text.decode()}


INPUTS = {
    "artifacts": {"examples": {"artifactType": schema(standard_artifacts.Examples)}},
    "parameters": {
        "limit": {"parameterType": "NUMBER_INTEGER"},
        "rate": {"parameterType": "NUMBER_DOUBLE"},
    },
}
OUTPUTS = {"artifacts": {"model": {"artifactType": schema(standard_artifacts.Model)}}}
EXAMPLES = {"name": "17", "uri": f"minio://{RUN}/ingest/examples", "metadata": {}}


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def folders(tmp_path):
    return {scheme: str(tmp_path / scheme) for scheme in ("minio", "s3", "gs")}


@pytest.fixture
def report(tmp_path):
    return tmp_path / "kfp_outputs" / "output_metadata.json"


@pytest.fixture
def start(folders, report):
    """Starts a Recorder as KFP's launcher does; returns the exit code."""

    def start(
        examples=(EXAMPLES,),
        root=f"minio://{RUN}/recorder",
        outputs=None,
        executor=Recorder,
        **extra,
    ):
        model = {"uri": f"{root}/model", "type": schema(standard_artifacts.Model)}
        executor_input = {
            "inputs": {
                "artifacts": {"examples": {"artifacts": list(examples)}},
                "parameterValues": {"limit": 3.0, "rate": 2.0},
            },
            "outputs": {
                "artifacts": {"model": {"artifacts": [model]}, **(outputs or {})},
                "outputFile": str(report),
            },
            **extra,
        }
        args = {
            "--executor_class_path": f"{__name__}.{executor.__name__}",
            "--json_serialized_invocation_args": json.dumps(executor_input),
            "--json_serialized_inputs_spec_args": json.dumps(INPUTS),
            "--runner": "FnApiRunner",
            "--step": "Recorder",
            "--outputs": json.dumps(OUTPUTS),
        }
        return entrypoint.main([x for pair in args.items() for x in pair], folders)

    return start


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("kubeflow") / "pipeline.yaml"
    settings = ["push.destination=/serving", f"kubeflow.checkpoints={CHECKPOINTS}"]
    config = resolve("smoke", None, settings)
    compiler.compile_pipeline(config, str(path), "image")
    return yaml.safe_load(path.read_text())


def arguments(spec, task, executor_input, executor=None, **values):
    """Returns a task's compiled arguments, filled in as KFP's launcher does."""
    task = spec["root"]["dag"]["tasks"][task]
    compiled = {
        name: value["runtimeValue"]["constant"]
        for name, value in task["inputs"].get("parameters", {}).items()
        if "runtimeValue" in value
    }
    executor_input.setdefault("inputs", {})["parameterValues"] = compiled | values
    component = spec["components"][task["componentRef"]["name"]]
    args = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"][
        "args"
    ]
    args = [arg.replace("{{$}}", json.dumps(executor_input)) for arg in args]
    if executor is not None:
        args[args.index("--executor_class_path") + 1] = f"{__name__}.{executor}"
    return args


def last_line(text):
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("scheme", ["minio", "s3", "gs"])
def test_remote_artifacts_are_where_the_launcher_keeps_them(
    start, tmp_path, report, scheme
):
    examples = {**EXAMPLES, "uri": f"{scheme}://{RUN}/ingest/examples"}
    assert start([examples], f"{scheme}://{RUN}/recorder") == 0
    (given,) = Recorder.inputs["examples"]
    assert given.uri == str(tmp_path / scheme / RUN / "ingest/examples")
    # What the launcher uploads, and where to.
    local = tmp_path / scheme / RUN / "recorder/model"
    assert (local / "weights").read_text() == "0.5"
    (model,) = json.loads(report.read_text())["artifacts"]["model"]["artifacts"]
    assert model["uri"] == f"{scheme}://{RUN}/recorder/model"
    assert model["metadata"]["examples"] == f"{scheme}://{RUN}/ingest/examples"


def test_local_artifacts_stay_where_they_are(start, tmp_path, report):
    local = str(tmp_path / "local_outputs" / "ingest" / "examples")
    assert start([{**EXAMPLES, "uri": local}], str(tmp_path / "local_outputs")) == 0
    assert Recorder.inputs["examples"][0].uri == local
    (model,) = json.loads(report.read_text())["artifacts"]["model"]["artifacts"]
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
        schema(standard_artifacts.Examples),
    ],
)
def test_types_are_those_that_tfx_compiled(start, type_):
    typed = {**EXAMPLES, "type": type_} if type_ is not None else EXAMPLES
    model = {"uri": f"minio://{RUN}/x", "type": {"schemaTitle": "system.Model"}}
    assert start([typed], outputs={"model": {"artifacts": [model]}}) == 0
    assert isinstance(Recorder.inputs["examples"][0], standard_artifacts.Examples)
    assert isinstance(Recorder.model, standard_artifacts.Model)


@pytest.mark.parametrize("title", ["system.Artifact", "Artifact", "tfx.File"])
def test_kfps_own_outputs_are_not_the_steps(start, folders, report, title):
    # The launcher opens the log before it starts the step.
    log = pathlib.Path(folders["minio"], RUN, "recorder", "executor-logs")
    log.parent.mkdir(parents=True)
    log.write_text("so far\n", encoding="utf-8")
    uri = f"minio://{RUN}/recorder/executor-logs"
    logs = {"artifacts": [{"uri": uri, "type": {"schemaTitle": title}}]}
    assert start(outputs={"executor-logs": logs}) == 0
    assert log.read_text(encoding="utf-8") == "so far\n"
    assert set(json.loads(report.read_text())["artifacts"]) == {"model"}


def test_a_channel_may_have_several_artifacts(start, folders):
    several = [
        {**EXAMPLES, "name": str(i), "uri": f"minio://{RUN}/{i}"} for i in (2, 1, 3)
    ]
    assert start(several) == 0
    uris = [artifact.uri for artifact in Recorder.inputs["examples"]]
    assert uris == [os.path.join(folders["minio"], RUN, i) for i in ("2", "1", "3")]
    assert len({artifact.id for artifact in Recorder.inputs["examples"]}) == 3


@pytest.mark.parametrize("name", ["", None])
def test_artifacts_without_a_name_have_ids(start, name):
    nameless = [{**EXAMPLES, "name": name, "uri": f"minio://{RUN}/{i}"} for i in "12"]
    assert start(nameless) == 0
    ids = {artifact.id for artifact in Recorder.inputs["examples"]}
    assert len(ids) == 2
    assert 0 not in ids


def test_metadata_come_as_they_were_written(start):
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
    assert start([{**EXAMPLES, "metadata": metadata}]) == 0
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


def test_what_is_reported_has_no_nulls(start, report):
    assert start() == 0
    (model,) = json.loads(report.read_text())["artifacts"]["model"]["artifacts"]
    assert model["metadata"]["images"] == 2000
    assert "nothing" not in model["metadata"]


def test_fields_that_other_versions_know_are_ignored(start):
    newer = {**EXAMPLES, "artifactId": "1b-2c", "customPath": "/x", "isNew": True}
    assert start([newer], taskId="4", producer={"name": "ingest"}) == 0
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
    assert start([{**EXAMPLES, "uri": uri}]) == 1
    assert last_line(capsys.readouterr().err) == (
        "Recorder failed: an artifact's URI must begin with minio://, s3://, gs:// or "
        f"/, got {uri!r}: choose another pipeline root"
    )


def test_properties_have_their_types(start):
    assert start() == 0
    assert Recorder.properties == {"limit": 3, "rate": 2.0}
    assert isinstance(Recorder.properties["limit"], int)
    assert isinstance(Recorder.properties["rate"], float)


def test_a_failure_ends_with_its_cause(start, capsys, report):
    report.parent.mkdir(parents=True)
    report.write_text('{"parameterValues": {"limit": 4}}')  # of an earlier attempt
    assert start(executor=Failing) == 1
    err = capsys.readouterr().err
    assert last_line(err) == "Recorder failed: OSError: the disk is full"
    assert "Traceback" in err
    assert not report.exists()


def test_an_earlier_attempts_report_is_forgotten(start, report):
    report.parent.mkdir(parents=True)
    report.write_text('{"parameterValues": {"limit": 4, "other": "x"}}')
    assert start() == 0
    assert Recorder.properties == {"limit": 3, "rate": 2.0}
    assert "parameterValues" not in json.loads(report.read_text())


def test_the_log_has_the_steps_name(start, capsys):
    assert start() == 0
    lines = capsys.readouterr().err.splitlines()
    assert any("INFO Recorder: Starting executor" in line for line in lines)
    assert lines[-1].endswith("INFO Recorder: done")


CHECKPOINTS = "s3://models/checkpoints"
RUNS_OWN = {
    "epochs": 3.0,
    "batch_size": 64.0,
    "learning_rate": 0.25,
    "seed": 7.0,
    "elbo_floor": -90.0,
    "tolerance": 1.0,
}


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("trainer", ["epochs", "batch_size", "learning_rate", "seed"]),
        ("evaluator", ["elbo_floor", "tolerance"]),
        ("pusher", list(RUNS_OWN)),
    ],
)
def test_run_parameters_reach_the_step(spec, folders, report, task, names):
    outputs = {
        "artifacts": {"model": {"artifacts": [{"uri": f"s3://{RUN}/model"}]}},
        "outputFile": str(report),
    }
    values = {name: RUNS_OWN[name] for name in names}
    args = arguments(spec, task, {"outputs": outputs}, "Recorder", **values)
    args[args.index("--outputs") + 1] = json.dumps(OUTPUTS)
    assert entrypoint.main(args, folders) == 0
    found = Recorder.properties
    assert not set(names) & set(found)
    if task == "trainer":
        custom_config = json.loads(found["custom_config"])
        preset = dataclasses.asdict(resolve("smoke").train)
        assert preset["epochs"] != 3
        assert custom_config["train"] == preset | {
            "epochs": 3,
            "batch_size": 64,
            "learning_rate": 0.25,
            "seed": 7,
        }
        assert custom_config["model"]["hidden_units"] == 32
        assert custom_config["checkpoints"] == CHECKPOINTS
        assert found["run_fn"] == "model.run_fn.run_fn"
    elif task == "evaluator":
        config = json.loads(found["eval_config"])
        (threshold,) = config["metrics_specs"][0]["metrics"][0]["per_slice_thresholds"]
        gate = threshold["threshold"]
        assert gate["value_threshold"]["lower_bound"] == -90.0
        assert gate["change_threshold"]["absolute"] == -1.0
        assert json.loads(found["example_splits"]) == [estimate.SPLIT]
    else:
        assert found["destination"] == "/serving/vae"
        config = json.loads(found["provenance"])["config"]
        assert config["train"]["epochs"] == 3
        assert config["gate"] == {
            "elbo_floor": -90.0,
            "tolerance": 1.0,
            "samples": 2,
            "seed": 0,
            "iwae_samples": 8,
        }


def test_the_configs_own_values_leave_a_step_as_it_was_compiled(spec, folders, report):
    outputs = {
        "artifacts": {"model": {"artifacts": [{"uri": f"s3://{RUN}/model"}]}},
        "outputFile": str(report),
    }
    definitions = spec["root"]["inputDefinitions"]["parameters"]
    values = {name: float(d["defaultValue"]) for name, d in definitions.items()}
    args = arguments(spec, "pusher", {"outputs": outputs}, "Recorder", **values)
    args[args.index("--outputs") + 1] = json.dumps(OUTPUTS)
    assert entrypoint.main(args, folders) == 0
    task = spec["root"]["dag"]["tasks"]["pusher"]
    compiled = task["inputs"]["parameters"]["provenance"]["runtimeValue"]["constant"]
    assert Recorder.properties["provenance"] == compiled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0.0}, "train.epochs must be at least 1, got 0"),
        ({"epochs": 2.5}, "train.epochs must be a valid integer, got 2.5"),
        ({"learning_rate": -1.0}, "train.learning_rate must be above 0.0, got -1.0"),
    ],
)
def test_a_bad_run_parameter_is_named(spec, folders, report, capsys, values, message):
    outputs = {"artifacts": {}, "outputFile": str(report)}
    args = arguments(spec, "trainer", {"outputs": outputs}, **values)
    assert entrypoint.main(args, folders) == 1
    assert last_line(capsys.readouterr().err) == f"Trainer failed: {message}"


def test_the_page_and_the_metrics_are_as_kfps_ui_wants_them(spec, folders, report):
    outputs = {
        "artifacts": {
            "page": {
                "artifacts": [
                    {
                        "uri": f"minio://{RUN}/report/page",
                        "type": {"schemaTitle": "system.HTML"},
                    }
                ]
            },
            "metrics": {"artifacts": [{"uri": f"minio://{RUN}/report/metrics"}]},
        },
        "outputFile": str(report),
    }
    values = RUNS_OWN | {"run_id": "4-2"}
    args = arguments(spec, "report", {"outputs": outputs}, "Reporter", **values)
    assert entrypoint.main(args, folders) == 0
    assert Reporter.properties["run_id"] == "4-2"
    config = json.loads(Reporter.properties["provenance"])["config"]
    assert config["train"]["epochs"] == 3
    artifacts = json.loads(report.read_text())["artifacts"]
    (page,), (metrics,) = (artifacts[key]["artifacts"] for key in ("page", "metrics"))
    # The file itself: KFP's launcher uploads it, and its UI shows it.
    assert page["uri"] == f"minio://{RUN}/report/page"
    local = pathlib.Path(folders["minio"], RUN, "report/page")
    assert local.read_text(encoding="utf-8") == "<p>blessed</p>"
    assert sorted(path.name for path in local.parent.iterdir()) == ["metrics", "page"]
    assert metrics["uri"] == f"minio://{RUN}/report/metrics"
    assert metrics["metadata"] == {"elbo": -91.5}


# Real steps, from the compiled pipeline.


def test_the_schema_is_the_installed_packages(spec, folders, report):
    schema_output = {"artifacts": [{"uri": f"gs://{RUN}/import-schema-gen/schema"}]}
    outputs = {"artifacts": {"schema": schema_output}, "outputFile": str(report)}
    args = arguments(spec, "import-schema-gen", {"outputs": outputs})
    assert entrypoint.main(args, folders) == 0
    path = pathlib.Path(folders["gs"], RUN, "import-schema-gen/schema/schema.pbtxt")
    assert "int_domain" in path.read_text(encoding="utf-8")


@pytest.fixture
def serve(spec, folders, report, tmp_path):
    """Starts ServedModel; returns its exit code and the fingerprint that it gives."""

    def serve():
        file = tmp_path / "kfp_outputs" / "fingerprint"
        outputs = {
            "artifacts": {
                "model": {"artifacts": [{"uri": f"s3://{RUN}/served-model/model"}]}
            },
            "parameters": {"fingerprint": {"outputFile": str(file)}},
            "outputFile": str(report),
        }
        destination = {"destination": str(tmp_path / "serving")}
        args = arguments(spec, "served-model", {"outputs": outputs}, **destination)
        assert entrypoint.main(args, folders) == 0
        return file.read_text()

    return serve


def test_the_served_model_is_fetched(serve, folders, report, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    version = publish.publish_version(
        str(tmp_path / "model"),
        destination=str(tmp_path / "serving"),
        manifest=Manifest.from_content({}),
    )
    assert serve() == str(version.number)
    (reported,) = json.loads(report.read_text())["artifacts"]["model"]["artifacts"]
    assert reported["uri"] == f"s3://{RUN}/served-model/model"
    assert reported["metadata"][served_model.VERSION_PROPERTY] == version.number
    folder = pathlib.Path(folders["s3"], RUN, "served-model/model")
    (copied,) = folder.rglob("saved_model.pb")
    assert copied.read_bytes() == b"graph"


def test_no_two_runs_without_a_served_model_are_the_same(serve):
    first, second = serve(), serve()
    assert first.startswith("none ")
    assert first != second


def test_fingerprints_are_of_what_the_components_say():
    assert entrypoint.FINGERPRINTS == {
        "Ingest": ("examples", ingest.FINGERPRINT_PROPERTY),
        "ServedModel": ("model", served_model.VERSION_PROPERTY),
    }


def test_a_step_that_fails_fails_its_container(spec, tmp_path):
    # As a container starts it, and as kfp.local gives artifacts: by their paths.
    anomalies = tmp_path / "anomalies"
    (anomalies / "Split-train").mkdir(parents=True)
    found = anomalies_pb2.Anomalies(baseline=schema_pb2.Schema())
    found.anomaly_info["label"].description = "11 is out of range"
    path = anomalies / "Split-train" / "SchemaDiff.pb"
    path.write_bytes(found.SerializeToString())
    inputs = {
        name: {
            "artifacts": [
                {
                    "uri": str(tmp_path / name),
                    "type": {"schemaTitle": "system.Artifact"},
                    "metadata": {"split_names": '["train"]'},
                }
            ]
        }
        for name in ("anomalies", "examples", "schema", "baseline")
    }
    outputs = {
        "artifacts": {"report": {"artifacts": [{"uri": str(tmp_path / "report")}]}},
        "outputFile": str(tmp_path / "data-gate" / "output.json"),
    }
    executor_input = {"inputs": {"artifacts": inputs}, "outputs": outputs}
    args = arguments(spec, "data-gate", executor_input)
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.kubeflow.entrypoint", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert last_line(result.stdout) == (
        "DataGate failed: the data are not what pipeline/schema.pbtxt says: "
        "train: feature 'label': 11 is out of range"
    )
    assert "INFO DataGate: Starting executor" in result.stdout
    assert not (tmp_path / "data-gate" / "output.json").exists()


@pytest.mark.parametrize("uri", ["s3:///etc/out", "minio://a/../../etc", "gs://.."])
def test_an_artifact_stays_where_the_launcher_keeps_it(uri):
    scheme = uri.partition("://")[0]
    with pytest.raises(ValueError, match="must lead below") as error:
        entrypoint.local_path(uri)
    assert str(error.value) == (
        f"an artifact's URI must lead below {entrypoint.FOLDERS[scheme]} here, got "
        f"{uri!r}"
    )
