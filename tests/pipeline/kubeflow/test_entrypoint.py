"""The entrypoint of a step's container: properties, parameters, report, log."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest
from google.protobuf import struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from components import served_model
from components.registry.manifest import Manifest
from pipeline.config.loading import decisive, resolve
from pipeline.kubeflow import contract, entrypoint
from tests.support.eval_configs import find_thresholds
from tests.support.launched_steps import (
    OUTPUTS,
    RUN,
    Failing,
    Recorder,
    Reporter,
    fill_arguments,
    last_line,
)
from tests.support.pushes import push_next

pytestmark = pytest.mark.usefixtures("restored_logging")

CHECKPOINTS = "s3://models/checkpoints"
RUNS_OWN = {
    "epochs": 3.0,
    "batch_size": 64.0,
    "learning_rate": 0.25,
    "seed": 7.0,
    "elbo_floor": "-90",
    "tolerance": 1.0,
}


def test_properties_have_their_types(start):
    assert start() == 0
    assert Recorder.properties == {"limit": 3, "rate": 2.0}
    assert isinstance(Recorder.properties["limit"], int)
    assert isinstance(Recorder.properties["rate"], float)


def test_a_failure_ends_with_its_cause(start, capsys, report_file):
    report_file.parent.mkdir(parents=True)
    # left by an earlier attempt
    report_file.write_text('{"parameterValues": {"limit": 4}}')
    assert start(executor=Failing) == 1
    err = capsys.readouterr().err
    assert last_line(err) == "Recorder failed: OSError: the disk is full"
    assert "Traceback" in err
    assert not report_file.exists()


def test_an_earlier_attempts_report_is_forgotten(start, report_file):
    report_file.parent.mkdir(parents=True)
    report_file.write_text('{"parameterValues": {"limit": 4, "other": "x"}}')
    assert start() == 0
    assert Recorder.properties == {"limit": 3, "rate": 2.0}
    assert "parameterValues" not in json.loads(report_file.read_text())


def test_the_log_has_the_steps_name(start, capsys):
    assert start() == 0
    lines = capsys.readouterr().err.splitlines()
    assert any("INFO Recorder: Starting executor" in line for line in lines)
    assert lines[-1].endswith("INFO Recorder: done")


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("trainer", ["epochs", "batch_size", "learning_rate", "seed"]),
        ("evaluator", ["elbo_floor", "tolerance"]),
        ("pusher", list(RUNS_OWN)),
    ],
)
def test_run_parameters_reach_the_step(smoke_spec, folders, report_file, task, names):
    outputs = {
        "artifacts": {"model": {"artifacts": [{"uri": f"s3://{RUN}/model"}]}},
        "outputFile": str(report_file),
    }
    values = {name: RUNS_OWN[name] for name in names}
    args = fill_arguments(
        smoke_spec, task, {"outputs": outputs}, executor=Recorder, **values
    )
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
        thresholds = find_thresholds(config)
        assert thresholds["elbo"]["lower_bound"] == -90.0
        assert thresholds["difference"]["lower_bound"] == -1.0
    else:
        assert found["destination"] == "/serving/vae"
        config = json.loads(found["provenance"])["config"]
        assert config["train"]["epochs"] == 3
        assert config["gate"] == {
            "elbo_floor": -90.0,
            "tolerance": 1.0,
            "confidence": 0.95,
            "class_tolerance": None,
            "samples": 2,
            "seed": 0,
            "iwae_samples": 8,
        }


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("trainer", "custom_config"),
        ("evaluator", "eval_config"),
        ("pusher", "provenance"),
    ],
)
def test_the_configs_own_values_leave_a_step_as_it_was_compiled(
    smoke_spec, folders, report_file, task, name
):
    outputs = {
        "artifacts": {"model": {"artifacts": [{"uri": f"s3://{RUN}/model"}]}},
        "outputFile": str(report_file),
    }
    definitions = smoke_spec["root"]["inputDefinitions"]["parameters"]
    # KFP has no integers.
    values = {
        name: float(value) if isinstance(value, int) else value
        for name, value in ((n, d["defaultValue"]) for n, d in definitions.items())
    }
    args = fill_arguments(
        smoke_spec, task, {"outputs": outputs}, executor=Recorder, **values
    )
    args[args.index("--outputs") + 1] = json.dumps(OUTPUTS)
    assert entrypoint.main(args, folders) == 0
    parameters = smoke_spec["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    compiled = parameters[name]["runtimeValue"]["constant"]
    assert Recorder.properties[name] == compiled


def make_values(**texts):
    return {name: struct_pb2.Value(string_value=text) for name, text in texts.items()}


@pytest.mark.parametrize(("step", "kept"), [("Pusher", {}), ("Report", {"run_id"})])
def test_parameters_only_for_kfps_cache_are_not_properties(step, kept):
    values = make_values(
        destination="/serving",
        fingerprint="its own",
        run_id="4-2",
        epochs="3",
        ingest_fingerprint="a",
        served_model_fingerprint="b",
    )
    entrypoint.set_properties(values, step, config=None)
    assert set(values) == {"destination", "fingerprint", *kept}


def test_a_run_parameter_is_set_where_the_step_holds_it():
    config = json.dumps(decisive(resolve("smoke")))
    values = make_values(eval_config="compiled", other="compiled")
    values["tolerance"] = struct_pb2.Value(number_value=7.0)
    entrypoint.set_properties(values, "Evaluator", config=config)
    assert set(values) == {"eval_config", "other"}
    assert values["other"].string_value == "compiled"
    gate = json.loads(values["eval_config"].string_value)
    assert find_thresholds(gate)["difference"]["lower_bound"] == -7.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", {"above_independent_pixels": {"lower_bound": 0.0}}),
        ("-90.5", {"elbo": {"lower_bound": -90.5, "upper_bound": 0.0}}),
    ],
)
def test_a_runs_floor_is_a_text(text, expected):
    config = json.dumps(decisive(resolve("smoke")))
    values = make_values(eval_config="compiled", elbo_floor=text)
    entrypoint.set_properties(values, "Evaluator", config=config)
    found = find_thresholds(json.loads(values["eval_config"].string_value))
    assert {name: found.get(name) for name in expected} == expected


def test_the_rest_of_the_command_line_is_for_the_executor():
    invocation = entrypoint.parse_command_line(
        [
            *("--executor_class_path", "a.Executor", "--runner=FnApiRunner"),
            *("--json_serialized_invocation_args", '{"inputs": {}}'),
            *("--json_serialized_inputs_spec_args", "{}", "--out", "x"),
            *("--step", "Ingest", "--outputs", '{"artifacts": {}}', "--key", "ab"),
        ]
    )
    assert invocation == entrypoint.Invocation(
        arguments=contract.StepArguments(
            step="Ingest", outputs='{"artifacts": {}}', key="ab"
        ),
        executor_class_path="a.Executor",
        executor_input='{"inputs": {}}',
        inputs="{}",
        executor_flags=("--runner=FnApiRunner", "--out", "x"),
    )


@pytest.mark.parametrize(
    ("step", "output", "metadata", "fingerprint"),
    [
        ("Ingest", "examples", {"fingerprint": "mnist: 0123"}, "mnist: 0123"),
        ("ServedModel", "model", {"version": 7.0}, "7"),
    ],
)
def test_a_fingerprint_is_what_the_step_wrote(step, output, metadata, fingerprint):
    report = pipeline_spec_pb2.ExecutorOutput()
    report.artifacts[output].artifacts.add().metadata.update(metadata)
    assert entrypoint.find_fingerprint(report, step) == fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0.0}, "train.epochs must be at least 1, got 0"),
        ({"epochs": 2.5}, "train.epochs must be a valid integer, got 2.5"),
        ({"learning_rate": -1.0}, "train.learning_rate must be above 0.0, got -1"),
        (
            {"elbo_floor": "atuo"},
            "gate.elbo_floor must be a finite number or auto, got 'atuo': did you mean "
            "auto?",
        ),
    ],
)
def test_a_bad_run_parameter_is_named(
    smoke_spec, folders, report_file, capsys, values, message
):
    outputs = {"artifacts": {}, "outputFile": str(report_file)}
    args = fill_arguments(smoke_spec, "trainer", {"outputs": outputs}, **values)
    assert entrypoint.main(args, folders) == 1
    assert last_line(capsys.readouterr().err) == f"Trainer failed: {message}"


def test_the_page_and_the_metrics_are_as_kfps_ui_wants_them(
    smoke_spec, folders, report_file
):
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
        "outputFile": str(report_file),
    }
    values = RUNS_OWN | {"run_id": "4-2"}
    args = fill_arguments(
        smoke_spec, "report", {"outputs": outputs}, executor=Reporter, **values
    )
    assert entrypoint.main(args, folders) == 0
    assert Reporter.properties["run_id"] == "4-2"
    config = json.loads(Reporter.properties["provenance"])["config"]
    assert config["train"]["epochs"] == 3
    artifacts = json.loads(report_file.read_text())["artifacts"]
    (page,), (metrics,) = (artifacts[key]["artifacts"] for key in ("page", "metrics"))
    # The URI of the file itself: KFP's launcher uploads it, and its UI shows it.
    assert page["uri"] == f"minio://{RUN}/report/page"
    local = pathlib.Path(folders["minio"], RUN, "report/page")
    assert local.read_text(encoding="utf-8") == "<p>blessed</p>"
    assert sorted(path.name for path in local.parent.iterdir()) == ["metrics", "page"]
    assert metrics["uri"] == f"minio://{RUN}/report/metrics"
    assert metrics["metadata"] == {"elbo": -91.5}


# Real steps from the compiled pipeline.


def test_the_schema_is_the_installed_packages(smoke_spec, folders, report_file):
    schema_output = {"artifacts": [{"uri": f"gs://{RUN}/import-schema-gen/schema"}]}
    outputs = {"artifacts": {"schema": schema_output}, "outputFile": str(report_file)}
    args = fill_arguments(smoke_spec, "import-schema-gen", {"outputs": outputs})
    assert entrypoint.main(args, folders) == 0
    path = pathlib.Path(folders["gs"], RUN, "import-schema-gen/schema/schema.pbtxt")
    assert "int_domain" in path.read_text(encoding="utf-8")


@pytest.fixture
def serve(smoke_spec, folders, report_file, tmp_path):
    """Returns a function that starts ServedModel.

    The function returns the exit code and the fingerprint that the step writes.
    """

    def serve():
        file = tmp_path / "kfp_outputs" / "fingerprint"
        outputs = {
            "artifacts": {
                "model": {"artifacts": [{"uri": f"s3://{RUN}/served-model/model"}]}
            },
            "parameters": {"fingerprint": {"outputFile": str(file)}},
            "outputFile": str(report_file),
        }
        destination = {"destination": str(tmp_path / "serving")}
        args = fill_arguments(
            smoke_spec, "served-model", {"outputs": outputs}, **destination
        )
        assert entrypoint.main(args, folders) == 0
        return file.read_text()

    return serve


def test_the_served_model_is_fetched(serve, folders, report_file, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    version = push_next(
        str(tmp_path / "model"),
        destination=str(tmp_path / "serving"),
        manifest=Manifest.from_content({}),
    )
    assert serve() == str(version.number)
    (reported,) = json.loads(report_file.read_text())["artifacts"]["model"]["artifacts"]
    assert reported["uri"] == f"s3://{RUN}/served-model/model"
    assert reported["metadata"][served_model.VERSION_PROPERTY] == version.number
    folder = pathlib.Path(folders["s3"], RUN, "served-model/model")
    (copied,) = folder.rglob("saved_model.pb")
    assert copied.read_bytes() == b"graph"


def test_no_two_runs_without_a_served_model_are_the_same(serve):
    first, second = serve(), serve()
    assert first.startswith("none ")
    assert first != second


def test_a_step_that_fails_fails_its_container(smoke_spec, tmp_path):
    # The step starts as in a container, and gets artifacts by path as from kfp.local.
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
    args = fill_arguments(smoke_spec, "data-gate", executor_input)
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
