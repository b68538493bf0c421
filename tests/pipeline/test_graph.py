import json

import pytest
from tfx.dsl.compiler import compiler

from components.evaluation import measure
from pipeline import graph
from pipeline.config.loading import resolve

ORDER = {
    "StatisticsGen": ["Ingest", "ImportSchemaGen"],
    "ExampleValidator": ["StatisticsGen", "ImportSchemaGen"],
    "DataGate": ["ExampleValidator", "Ingest", "ImportSchemaGen", "ServedModel"],
    "Transform": ["Ingest", "ImportSchemaGen", "DataGate"],
    "Trainer": ["Transform"],
    "Evaluator": ["Transform", "Trainer", "ServedModel"],
    "Bounds": ["Transform", "Trainer"],
    "InfraCheck": ["Trainer"],
    "Pusher": [
        *("Trainer", "Evaluator", "InfraCheck", "ServedModel", "Ingest", "DataGate"),
    ],
    "Report": [
        *("Ingest", "ExampleValidator", "Transform", "ServedModel", "Trainer"),
        *("DataGate", "Evaluator", "Bounds", "InfraCheck", "Pusher"),
    ],
}
# It only waits for it.
AFTER = {"Transform": ["DataGate"]}


@pytest.fixture(scope="module")
def nodes():
    paths = graph.Paths("/root", "/data", "/schema.pbtxt", "/serving")
    pipeline = graph.create_pipeline(resolve("demo"), paths, ["--runner=X"])
    ir = compiler.Compiler().compile(pipeline)
    return {n.pipeline_node.node_info.id: n.pipeline_node for n in ir.nodes}


def test_every_step_waits_for_what_it_needs(nodes):
    assert set(nodes) == {"Ingest", "ImportSchemaGen", "ServedModel", *ORDER}
    for name, node in nodes.items():
        assert sorted(node.upstream_nodes) == sorted(ORDER.get(name, []))


def test_nothing_that_kubeflow_cannot_run(nodes):
    for name, node in nodes.items():
        assert "_" not in name
        assert "Resolver" not in node.node_info.type.name
        assert "InfraValidator" not in node.node_info.type.name


def test_no_step_has_a_driver():
    paths = graph.Paths("/root", "/data", "/schema.pbtxt", "/serving")
    pipeline = graph.create_pipeline(resolve("demo"), paths)
    ir = compiler.Compiler().compile(pipeline)
    from tfx.orchestration.local import runner_utils

    deployment = runner_utils.extract_local_deployment_config(ir)
    assert not deployment.custom_driver_specs


def parameter(node, name):
    return node.parameters.parameters[name].field_value.string_value


def test_the_gate_is_the_configs(nodes):
    config = json.loads(parameter(nodes["Evaluator"], "eval_config"))
    (threshold,) = config["metrics_specs"][0]["metrics"][0]["per_slice_thresholds"]
    bound = threshold["threshold"]["value_threshold"]["lower_bound"]
    change = threshold["threshold"]["change_threshold"]
    assert bound == -115.0
    assert threshold["threshold"]["value_threshold"]["upper_bound"] == 0.0
    assert change == {"absolute": -0.5, "direction": "HIGHER_IS_BETTER"}
    assert json.loads(parameter(nodes["Evaluator"], "example_splits")) == ["test"]
    assert measure.SPLIT == "test"


@pytest.mark.parametrize(
    ("likelihood", "feature"),
    [("bernoulli", "bits"), ("continuous_bernoulli", "pixels")],
)
def test_bounds_are_of_what_the_model_takes(likelihood, feature):
    settings = [f"model.likelihood={likelihood}", "gate.iwae_samples=7"]
    paths = graph.Paths("/root", "/data", "/schema.pbtxt", "/serving")
    pipeline = graph.create_pipeline(resolve("demo", settings=settings), paths)
    (bounds,) = [step for step in pipeline.components if step.id == "Bounds"]
    assert bounds.exec_properties == {"feature": feature, "samples": 7}


def test_the_test_split_is_never_trained_on(nodes):
    trainer = nodes["Trainer"]
    assert json.loads(parameter(trainer, "train_args"))["splits"] == ["train"]
    assert json.loads(parameter(trainer, "eval_args"))["splits"] == ["eval"]
